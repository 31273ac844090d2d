"""The pages of a finished run: light, whole on a phone, open to everybody, their links good."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup

from msd_genre.report import preview

ROOT = Path(__file__).parents[2]
LIMIT = 1_500_000  # bytes of a page with all that it loads; the song map carries its songs
KINDS = [  # one page of each kind: front page, chapter, guide, API with pictures, long API, map
    "index", "report/07_results", "guides/how_this_is_built", "guides/publish_your_run",
    "api/inference/audio", "api/workspace/runs", "report/song_map",
]  # fmt: skip


def pages(site):
    return {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="module")
def parsed(demo_site):
    """Each page by its name, read once."""
    return {name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            for name, path in pages(demo_site).items()}  # fmt: skip


def outside(address):
    """What is wrong with the form of an address that leads out of the site; None: nothing."""
    parts = urlsplit(address)
    good = parts.scheme == "https" and re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.netloc)
    http = parts.scheme == "http" and "." in parts.netloc  # old pages of the dataset's own
    return None if (good or http) and not re.search(r"\s", address) else address


def test_every_address_leads_somewhere(demo_site):
    assert not preview._broken_links(demo_site)
    wrong = set()
    for path in pages(demo_site).values():
        addresses = re.findall(r'<(?:a|img|script|link)\s[^>]*(?:href|src)="([^"]+)"',
                               path.read_text(encoding="utf-8"))  # fmt: skip
        out = [one for one in addresses if re.match(r"(?!data:|mailto:)[a-z]+:", one)]
        wrong |= {found for one in out if (found := outside(one))}
    assert not wrong


def test_a_bad_address_is_seen(tmp_path):
    for address in ("file:///tmp/x", "https://", "https:// a.org", "ftp://a.org", "https://a"):
        assert outside(address)
    assert not outside("https://www.example.org/a?b=c#d")
    (tmp_path / "a.html").write_text('<p id="x"><a href="#y">y</a><img src="none.png"></p>')
    assert preview._broken_links(tmp_path) == ["a.html -> #y", "a.html -> none.png"]


def test_a_site_may_be_called_by_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "_site").mkdir()
    (tmp_path / "_site" / "a.html").write_text('<p id="x"><a href="a.html#x">x</a></p>')
    monkeypatch.chdir(tmp_path)
    assert not preview._broken_links(Path("_site"))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_files_that_a_reader_meets_first_lead_somewhere(name):
    text = (ROOT / name).read_text()
    headings = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-")
                for one in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}  # fmt: skip
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", address):
            assert not outside(address)
        else:
            file, _, anchor = address.partition("#")
            assert not file or (ROOT / file).exists(), address
            assert file or anchor in headings, address


def test_a_page_weighs_little(demo_site, parsed):
    for name, path in pages(demo_site).items():
        page = parsed[name]
        found = [one.get("src") or one.get("href") for one in page.select("img, script, link")]
        files = {path, *(path.parent / one for one in found if one and ":" not in one)}
        weight = sum(file.stat().st_size for file in files)
        assert weight < LIMIT or name == "report/song_map.html", f"{name}: {weight:,} bytes"
    assert (demo_site / "search_index.js").stat().st_size < LIMIT  # loaded by those who search


def test_no_page_is_wider_than_a_phone(demo_site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    for name, path in pages(demo_site).items():
        page.goto(path.as_uri())
        too_wide, at_fault = page.evaluate("""() => [
            document.documentElement.scrollWidth - innerWidth,
            [...document.querySelectorAll('main *')]
                .filter(e => !e.closest('pre, math, .table-scroll')
                    && e.getBoundingClientRect().right > innerWidth + 1)
                .map(e => e.outerHTML.slice(0, 80))]""")
        assert too_wide <= 0, f"{name}: {at_fault[:3]}"
        menu = page.get_by_role("banner").get_by_text("Pages", exact=True)
        assert name == "report/song_map.html" or menu.is_visible()
    page.close()


def test_no_word_of_code_is_divided_in_a_table(demo_site, browser):
    page, words, divided = browser.new_page(viewport={"width": 1280, "height": 900}), 0, []
    for name, path in pages(demo_site).items():
        page.goto(path.as_uri())
        lines = page.evaluate("""() => [...document.querySelectorAll('td > code')]
            .filter(e => /^\\w+$/.test(e.innerText))
            .map(e => [e.innerText, e.getClientRects().length])""")
        words += len(lines)
        divided += [f"{name}: {word}" for word, n in lines if n != 1]
    page.close()
    assert words and not divided


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_a_diff_takes_away_is_red_and_what_it_adds_green(demo_site, browser, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto((demo_site / "guides" / "publish_your_run.html").as_uri())
    (gone, red), (come, green) = (page.locator(f"code.diff .{kind}").first.evaluate(
        "e => [e.innerText[0], getComputedStyle(e).color]") for kind in ("st", "va"))  # fmt: skip
    page.close()
    assert (gone, come) == ("-", "+")
    red, green = ([float(one) for one in re.findall(r"[\d.]+", c)][:3] for c in (red, green))
    assert red[0] > 2 * max(red[1:]) and green[1] > 1.5 * max(green[0], green[2])


@pytest.mark.parametrize("width, scheme", [(1200, "light"), (390, "dark")])
def test_nobody_is_shut_out(demo_site, browser, width, scheme):
    """axe-core finds no serious fault on any kind of page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    faults = []
    for name in KINDS:
        page.goto((demo_site / f"{name}.html").as_uri())
        page.evaluate("document.querySelectorAll('main details').forEach(d => { d.open = true; })")
        page.wait_for_timeout(50)  # what opened is measured
        said = axe.run(page, options={"resultTypes": ["violations"]}).response
        for fault in said["violations"]:
            if fault["impact"] in ("serious", "critical"):
                faults += [f"{name}: {fault['id']}: {n['html'][:100]}" for n in fault["nodes"]]
    page.close()
    assert not faults, "\n".join(faults[:20])


def test_a_fault_would_be_seen(browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page()
    page.set_content("<html lang=en><title>x</title><main><img src='data:,'>"
                     "<p style='color:#bbb'>pale</p></main>")  # fmt: skip
    found = {one["id"]: one["impact"] for one in axe.run(page).response["violations"]}
    page.close()
    assert found["image-alt"] == "critical" and found["color-contrast"] == "serious"


def test_code_has_no_links_written_into_it(parsed):
    link = re.compile(r"\[`[^`]+`\]\(\S+\.html\S*\)")
    wrong = [f"{name}: {found}" for name, page in parsed.items() for code in page.select("pre")
             for found in link.findall(code.text)]  # fmt: skip
    assert not wrong, wrong[:5]


def test_a_heading_of_the_api_leads_to_its_source(demo_site):
    text = (demo_site / "api" / "workspace" / "runs.html").read_text()
    assert re.search(r'href="[^"]+/msd_genre/workspace/runs\.py#L\d+"[^>]*>source</a>', text)
    assert 'href="digests.html"' in text and 'href="../corpus/catalog.html"' in text  # imports
    assert "names: Iterable[" in re.sub("<[^>]+>", "", text)
