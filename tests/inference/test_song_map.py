"The song map: whole in one file, safe with any title, used by mouse, keyboard and finger."

import numpy as np
import pandas as pd
import pytest

from msd_genre.inference import song_map

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def songs(n=60):
    """Songs on a line, so that the nearest of each are known; the first has an evil title."""
    table = pd.DataFrame({"x": np.arange(n, dtype=float), "y": np.arange(n) % 7.0})
    table["artist_name"] = [f"Band {i % 9}" for i in range(n)]
    table["title"] = [EVIL, "Déjà vu", *(f"Song {i:02d}" for i in range(2, n))]
    table["genre"] = ["Rock", "Jazz", "Metal"] * (n // 3)
    table["answer"] = ["Rock"] * n
    return table, np.arange(n, dtype=np.float32)[:, None]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "report" / "song_map.html"
    path.parent.mkdir()
    (path.parent.parent / "index.html").write_text("<title>Overview</title>")
    path.write_text(song_map.map_page(*songs(), "A test.", "Run x.", EVIL), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.wait_for_function("window.songMap", timeout=60_000)
    yield page
    assert not page.errors and page.evaluate("window.hacked === undefined")
    page.close()


def where(page, row):
    """Pixels of a song on the screen."""
    return page.evaluate("""(row) => {
        const plot = window.songMap.plot, data = plot.document.get_model_by_name("songs").data;
        const box = document.getElementById("plot").getBoundingClientRect();
        const x = (data.x[row] - plot.x_range.start) / (plot.x_range.end - plot.x_range.start);
        const y = (data.y[row] - plot.y_range.start) / (plot.y_range.end - plot.y_range.start);
        return [box.left + x * box.width, box.bottom - y * box.height];
    }""", row)


def middle(page):
    return page.evaluate("(() => { const r = window.songMap.plot.x_range; "
                         "return [(r.start + r.end) / 2, r.end - r.start]; })()")


def near(page):
    return [text.split("\n")[0] for text in page.locator("#near button").all_inner_texts()]


def test_no_title_leaves_its_text(page):
    page.fill("#search", "script")
    assert EVIL in page.locator("#found button").inner_text()
    page.locator("#found button").click()
    assert EVIL in page.inner_text("#chosen")
    assert EVIL in page.inner_text("header")


def test_a_click_shows_the_ten_nearest_and_draws_their_lines(page):
    page.mouse.click(*where(page, 30))
    page.wait_for_function("document.getElementById('chosen').textContent.includes('Song 30')")
    assert page.inner_text("#facts").startswith("Genre Rock; predicted Rock.")
    assert {name.split("Song ")[1] for name in near(page)} == {
        f"{i}" for i in range(25, 36) if i != 30}
    lines = page.evaluate("window.songMap.plot.document.get_model_by_name('lines').data")
    assert len(lines["x1"]) == 10 and set(lines["x0"].values() if isinstance(lines["x0"], dict)
                                          else lines["x0"]) == {30}
    page.locator("#near button").first.click()
    assert page.inner_text("#chosen") != "Band 3 – Song 30"


def test_hovering_tells_artist_title_genre_and_answer(page):
    page.mouse.move(*where(page, 31))
    tip = page.locator(".bk-Tooltip")
    tip.wait_for()
    text = tip.evaluate("e => (e.shadowRoot ?? e).textContent")
    for word in ("Band 4", "Song 31", "Jazz", "Rock"):
        assert word in text


def test_a_name_is_found_without_its_accents_and_an_unknown_one_is_said(page):
    page.fill("#search", "deja band")
    page.keyboard.press("Enter")
    assert page.inner_text("#chosen") == "Band 1 – Déjà vu"
    page.fill("#search", "nobody")
    assert page.inner_text("#found") == "no such song on the map"


def test_genres_are_filtered(page):
    page.get_by_label("Metal (20)").uncheck()
    assert page.inner_text("#shown") == "Genres: 40 songs shown"
    page.mouse.click(*where(page, 32))  # of the genre that is hidden
    page.wait_for_timeout(300)
    assert "Song 32" not in page.inner_text("#chosen")
    page.get_by_role("button", name="none").click()
    assert page.inner_text("#shown") == "Genres: 0 songs shown"


def test_the_keyboard_moves_zooms_and_chooses(page):
    page.locator("#plot").focus()
    (x, width) = middle(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("+")
    assert middle(page)[0] > x and middle(page)[1] < width
    page.keyboard.press("0")
    assert middle(page) == pytest.approx([x, width])
    page.keyboard.press("n")
    assert page.locator("#near button").count() == 10
    page.keyboard.press("Escape")
    assert page.inner_text("#chosen") == "No song chosen"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_nothing_is_fetched(page):
    assert not [url for url in page.requests if not url.startswith(("file://", "data:", "blob:"))]
    assert len([url for url in page.requests if url.startswith("file://")]) == 1


def test_on_a_phone_the_map_is_tapped_and_nothing_is_cut(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True,
                                  is_mobile=True)
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("window.songMap", timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.touchscreen.tap(*where(page, 30))
    page.wait_for_function("document.querySelectorAll('#near button').length === 10")
    context.close()


def test_what_cannot_be_drawn_is_refused():
    table, vectors = songs(6)
    with pytest.raises(song_map.MapError, match="6 points and 5 vectors"):
        song_map.map_page(table, vectors[:5], "")
    with pytest.raises(song_map.MapError, match="not finite"):
        song_map.map_page(table.assign(x=np.nan), vectors, "")
