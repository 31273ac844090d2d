"""The site: staged as a Quarto project, rendered as a preview, opened in a real browser."""

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pypandoc
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from msd_genre.report import chapters, preview
from msd_genre.report import site as site_module
from msd_genre.workspace.runs import create_run

ROOT = Path(__file__).parents[2]
KERNEL = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
PIXEL = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63"
    "60606000000004000104b8d2160000000049454e44ae426082"
)).decode()  # fmt: skip
FINDING = 'Rock has **52 %** of the songs: "half", as [@lengyel2019understanding] says.'
TABLE = "| genre | songs |\n|:--|--:|\n| Rock | 52 |\n| Pop | 20 |"
FRAME = '<div><style scoped>x</style><table border="1" class="dataframe"><thead><tr><th></th>' \
    "<th>model</th></tr></thead><tbody><tr><th>0</th><td>lstm</td></tr></tbody></table></div>"


def caption(text, alt=""):
    told = {"msd_genre": {"role": "caption", "text": text, "alt": alt}}
    return new_output("display_data", {"text/markdown": f"*{text}*"}, metadata=told)


def figure_cell(label="fig-genres", text=FINDING):
    outputs = [
        new_output("display_data", {"image/png": PIXEL, "text/plain": "bars"}),
        caption(text, 'Bars: "Rock" 52, Pop 20.'),
    ]
    return new_code_cell(f"#| label: {label}\nshow(fig)", outputs=outputs)


def chapter():
    """An executed chapter with one of each kind of thing."""
    return new_notebook(metadata=KERNEL, cells=[
        new_markdown_cell("# The songs\n\n> What there is,\n> and what is left.\n\nHow?"),
        new_code_cell('run_dir = "runs/demo"\nseed = 1', metadata={"tags": ["parameters"]}),
        new_code_cell('# Parameters\nrun_dir = "runs/toy"\nseed = 5',
                      metadata={"tags": ["injected-parameters"], "papermill": {"path": "/a/b"}}),
        new_code_cell("#| hide\nunseen = 1"),
        new_markdown_cell("## Genres {#sec-genres}\n\nSee @fig-genres, @tbl-genres, @eq-loss, "
                          "[@fig-genres; @tbl-genres], @sec-genres and "
                          "[two](02_two.ipynb#method).\n\n"
                          "$$L = -\\sum_c y_c \\log p_c$$ {#eq-loss}\n\n"
                          "::: {.callout-tip}\n## A hint\nRead on.\n:::"),
        figure_cell(),
        new_code_cell("#| label: tbl-genres\nshow_table(t)", outputs=[
            new_output("display_data", {"text/markdown": TABLE, "text/plain": TABLE}),
            caption("The largest genres.")]),
        new_code_cell("Markdown(text)", outputs=[
            new_output("execute_result", {"text/markdown": "## What it means\n\nMuch."})]),
        new_code_cell("fit()", outputs=[
            new_output("stream", name="stdout", text="epoch 1 \x1b[1mlo"),
            new_output("stream", name="stderr", text="a warning of TensorFlow"),
            new_output("stream", name="stdout", text="ss\x1b[0m ```")]),
        new_code_cell("frame", outputs=[
            new_output("execute_result", {"text/html": FRAME, "text/plain": "0 lstm"})]),
    ])  # fmt: skip


WIDE = "\n".join(["|" + "|".join([cell] * 20) + "|" for cell in
                  ("balanced_accuracy", ":--", "0.41 (0.31–0.52)", "−0.1 (−0.13 to +0.08)")])


def two():
    """What is wide, and what has a caption but no number; names of the API, one of them a word."""
    table = new_output("display_data", {"text/markdown": WIDE, "text/plain": WIDE})
    picture = new_output("display_data", {"image/png": PIXEL, "text/plain": "bars"})
    return new_notebook(metadata=KERNEL, cells=[
        new_markdown_cell("# Two\n\n> Another."),
        new_markdown_cell("## Method\n\nPlain `layout.find_layout`, `find_layout()`, `fetch`, "
                          "`nobody`, [the `find_layout`](01_songs.ipynb).\n\n"
                          "```\n`find_layout`\n```"),
        new_code_cell("#| label: tbl-wide\nshow_table(t)",
                      outputs=[table, caption("A caption of some words that stays where it is.")]),
        new_code_cell("show(fig)", outputs=[picture, caption("No number.", "One pixel.")]),
        new_code_cell("#| code-fold: false\n" + "x = " + "1 + " * 80 + "1"),
    ])  # fmt: skip


def write_project(folder):
    """A checkout in small: the project's own settings, some of its notebooks, a run."""
    nbs = folder / "nbs"
    (nbs / "report").mkdir(parents=True)
    (nbs / "api" / "files").mkdir(parents=True)
    (nbs / "guides").mkdir()
    shutil.copy(ROOT / "settings.ini", folder)
    shutil.copy(ROOT / "_quarto.yml", nbs)
    for name in ["styles.css", "theme-light.scss", "theme-dark.scss", "references.bib",
                 "report/_metadata.yml", "api/files/01_layout.ipynb", "api/cli.ipynb"]:  # fmt: skip
        shutil.copy(ROOT / "nbs" / name, nbs / name)
    url = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["site-url"]
    front = f"# msd_genre\n\n> Heard and read.\n\nThe [songs]({url}/report/01_songs.html)."
    guide = "# How\n\n> So.\n\n[api](../api/cli.ipynb)\n\n`find_layout` `_matches`"
    for name, text in [("index", front), ("guides/how", guide)]:
        notebook = new_notebook(cells=[new_markdown_cell(text)], metadata=KERNEL)
        nbformat.write(notebook, nbs / f"{name}.ipynb")
    run = create_run({"run": "toy", "seed": 5}, folder / "run")
    run.record(fictional=True)
    (run.dir / "chapters").mkdir()
    nbformat.write(chapter(), run.dir / "chapters" / "01_songs.ipynb")
    nbformat.write(two(), run.dir / "chapters" / "02_two.ipynb")
    return run, nbs


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    run, nbs = write_project(tmp_path_factory.mktemp("project"))
    return site_module._stage_site(run, nbs)


@pytest.fixture(scope="module")
def site(staged, tmp_path_factory):
    return preview._render_preview(staged, tmp_path_factory.mktemp("site") / "_site")


@pytest.fixture(scope="module")
def html(site):
    return (site / "report" / "01_songs.html").read_text()


@pytest.fixture
def project(staged, tmp_path):
    """A copy of the staged project that a test may break."""
    shutil.copytree(staged, tmp_path / "project")
    return tmp_path / "project"


def add_to_chapter(project, *cells):
    path = project / "report" / "01_songs.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells += cells
    nbformat.write(notebook, path)


# ---- what Quarto is given


def test_the_staged_project_is_what_quarto_expects(staged):
    config = yaml.safe_load((staged / "_quarto.yml").read_text())
    assert config["project"]["type"] == "website"
    assert config["execute"]["enabled"] is False
    html = config["format"]["html"]
    assert html["html-math-method"] == "mathml"
    assert {one for theme in html["theme"].values() for one in theme} == {
        "default", "theme-light.scss", "theme-dark.scss"
    }  # fmt: skip
    for name in [html["css"], config["bibliography"], "theme-light.scss", "report/_metadata.yml"]:
        assert (staged / name).is_file()

    def listed(entries):
        for entry in entries:
            yield from listed(entry["contents"]) if "contents" in entry else [entry["href"]]

    pages = [*listed(config["website"]["sidebar"]["contents"])]
    assert pages == ["index.ipynb", "report/01_songs.ipynb", "report/02_two.ipynb",
                     "guides/how.ipynb", "api/files/01_layout.ipynb", "api/cli.ipynb"]  # fmt: skip
    assert not (staged / "_quarto.yml").is_symlink()


def test_no_page_brings_scripts_or_paths_of_this_machine(staged):
    for path in staged.rglob("*.ipynb"):
        text = path.read_text()
        assert '"text/html"' not in text and "papermill" not in text, path
        for cell in nbformat.read(path, 4).cells:
            assert not [o for o in cell.get("outputs", []) if o.get("name") == "stderr"], path


def test_every_page_begins_with_its_title_and_says_what_it_is(staged):
    for path in staged.rglob("*.ipynb"):
        page = nbformat.read(path, 4)
        cells = page.cells
        assert cells[0].cell_type == "raw" and preview._front_matter(page)["title"]
        assert "Fictional songs" in cells[1].source
        assert cells[-1].source.startswith("::: {.callout-note .run-stamp")


def test_captions_become_options_of_their_cell(staged):
    cells = {preview._cell_options(c.source)[0].get("label"): c
             for c in nbformat.read(staged / "report" / "01_songs.ipynb", 4).cells
             if c.cell_type == "code"}  # fmt: skip
    options, code = preview._cell_options(cells["fig-genres"].source)
    assert options["fig-cap"] == FINDING and options["fig-alt"] == 'Bars: "Rock" 52, Pop 20.'
    assert code == "show(fig)" and len(cells["fig-genres"].outputs) == 1
    options, _ = preview._cell_options(cells["tbl-genres"].source)
    assert options["tbl-cap"] == "The largest genres." and "fig-cap" not in options


def test_real_songs_are_not_called_fictional(tmp_path):
    run, _ = write_project(tmp_path)
    run.record(fictional=False)
    notebook = chapter()
    site_module._stage_page(notebook, run)
    assert not any("Fictional" in cell.source for cell in notebook.cells)


def test_what_cannot_be_shown_is_refused_with_the_page(tmp_path):
    run, nbs = write_project(tmp_path)
    (tmp_path / "settings.ini").unlink()  # without it nbdev is not asked, which takes seconds
    double = figure_cell()
    double.outputs *= 2
    scripts = new_output("execute_result", {"text/html": "<script>"})
    wrong = {
        "shows 2 figures or tables": double,
        "an output is HTML alone": new_code_cell("x", outputs=[scripts]),
        "are not `#| name: value` lines": new_code_cell("#| label fig-x\nx"),
    }
    for message, cell in wrong.items():
        notebook = chapter()
        notebook.cells.append(cell)
        nbformat.write(notebook, run.dir / "chapters" / "01_songs.ipynb")
        with pytest.raises(chapters.ReportError) as refusal:
            site_module._stage_site(run, nbs)
        assert str(refusal.value).startswith("report/01_songs.ipynb: ")
        assert message in str(refusal.value)


def test_without_nbdev_the_notebooks_are_shown_as_they_are(tmp_path, monkeypatch):
    run, nbs = write_project(tmp_path)
    monkeypatch.setattr(site_module.importlib.util, "find_spec", lambda name: None)
    staged = site_module._stage_site(run, nbs)
    text = (staged / "api" / "cli.ipynb").read_text()
    assert "show_doc" not in text and "#| export" not in text and "default_exp" not in text
    preview._render_preview(staged, tmp_path / "_site")


def test_a_page_that_is_gone_leaves_the_site(tmp_path):
    run, nbs = write_project(tmp_path)
    (tmp_path / "settings.ini").unlink()
    site = preview._render_preview(site_module._stage_site(run, nbs), tmp_path / "_site")
    notebook = nbformat.read(run.dir / "chapters" / "01_songs.ipynb", 4)
    notebook.cells[4].source = "No link."
    nbformat.write(notebook, run.dir / "chapters" / "01_songs.ipynb")
    (run.dir / "chapters" / "02_two.ipynb").unlink()
    preview._render_preview(site_module._stage_site(run, nbs), site)
    assert not (site / "report" / "02_two.html").exists()
    assert "02_two" not in (site / "index.html").read_text()


def test_a_whole_page_of_the_run_is_part_of_the_site(tmp_path):
    run, nbs = write_project(tmp_path)
    (run.dir / "pages").mkdir()
    page = '<!DOCTYPE html><title>Map</title><a href="../index.html">Overview</a>'
    (run.dir / "pages" / "song_map.html").write_text(page)
    staged = site_module._stage_site(run, nbs)
    assert "report/*.html" in (staged / "_quarto.yml").read_text()
    site = preview._render_preview(staged, tmp_path / "_site")
    assert (site / "report" / "song_map.html").read_text() == page
    for name, way in (("index", "report/"), ("report/01_songs", "")):
        there = f'<a href="{way}song_map.html">The song map</a>'
        assert there in (site / f"{name}.html").read_text()


# ---- Quarto, played by a script

STUB = """#!/bin/sh
echo "$PWD $*" > "$STUB_CALLS"
mkdir -p _site && echo "<html>by quarto</html>" > _site/index.html
echo "$STUB_LOG"
exit $STUB_EXIT
"""


@pytest.fixture
def quarto(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "quarto").write_text(STUB)
    (folder / "quarto").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STUB_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("STUB_EXIT", "0")
    monkeypatch.setenv("STUB_LOG", "Output created: _site/index.html")
    return monkeypatch


def test_where_quarto_is_installed_it_renders_the_staged_project(project, quarto, tmp_path, capsys):
    out = site_module._render_site(project, tmp_path / "_site")
    assert (tmp_path / "calls").read_text() == f"{project} render\n"
    assert "by quarto" in (out / "index.html").read_text()
    assert "by Quarto" in capsys.readouterr().out
    site_module._render_site(project, out)  # again, in place of the older one


@pytest.mark.parametrize("line", [
    "\x1b[33mWARNING (main.lua:14000) Unable to resolve crossref @fig-nothing\x1b[39m",
    "WARN: Unable to resolve link target: report/09_none.ipynb",
    "[WARNING] Citeproc: citation nobody2000 not found",
])  # fmt: skip
def test_what_quarto_cannot_resolve_is_an_error(project, quarto, tmp_path, line):
    quarto.setenv("STUB_LOG", line)
    with pytest.raises(chapters.ReportError, match="could not resolve") as refusal:
        site_module._render_site(project, tmp_path / "_site")
    assert re.search(r"fig-nothing|09_none|nobody2000", str(refusal.value))
    assert not (tmp_path / "_site").exists()


def test_other_warnings_of_quarto_are_passed_on(project, quarto, tmp_path, capsys):
    quarto.setenv("STUB_LOG", "WARN: something is deprecated")
    site_module._render_site(project, tmp_path / "_site")
    assert "quarto: WARN: something is deprecated" in capsys.readouterr().out


def test_a_failure_of_quarto_is_an_error_with_its_words(project, quarto, tmp_path):
    quarto.setenv("STUB_EXIT", "1")
    quarto.setenv("STUB_LOG", "ERROR: the theme has a mistake")
    with pytest.raises(chapters.ReportError, match="the theme has a mistake"):
        site_module._render_site(project, tmp_path / "_site")


# ---- the preview


def test_figures_tables_and_equations_are_numbered_and_referred_to(html):
    for kind, number in [("fig-genres", "Figure\xa01"), ("tbl-genres", "Table\xa01"),
                         ("eq-loss", "Equation\xa01")]:  # fmt: skip
        assert html.count(f'id="{kind}"') == 1
        assert re.search(rf'<a\s+href="#{kind}"[^>]*>{number}</a>', html)
    assert re.search(r'<a\s+href="#sec-genres"[^>]*>Section “Genres”</a>', html)
    figure = re.search(r'<figure id="fig-genres".*?</figure>', html, re.DOTALL)[0]
    assert 'alt="Bars: &quot;Rock&quot; 52, Pop 20."' in figure
    assert '<span class="caption-label">Figure\xa01.</span>' in figure
    assert "<strong>52 %</strong>" in figure and "#ref-lengyel2019understanding" in figure
    table = re.search(r'<div id="tbl-genres".*?</figcaption>', html, re.DOTALL)[0]
    assert "The largest genres." in table and "table-scroll" not in table  # it does not scroll away
    assert html.count("<math") == 1 and 'id="ref-lengyel2019understanding"' in html


def test_a_chapter_folds_its_code_and_shows_its_parameters(html):
    folded = re.findall(r"<details class=\"code\">.*?</details>", html, re.DOTALL)
    assert any("show" in one and "fig" in one for one in folded)
    parameters = html.index("runs/toy")
    assert not any("runs/toy" in one for one in folded) and parameters
    assert "unseen" not in html and "a warning of TensorFlow" not in html
    assert "epoch 1 loss ```" in html
    assert "<h2>What it means</h2>" in html
    assert "<colgroup>" not in html  # columns are as wide as what stands in them


def test_text_beside_a_title_stays_and_links_lead_into_this_site(site):
    index, guide = (site / "index.html").read_text(), (site / "guides" / "how.html").read_text()
    assert '<p>The <a href="./report/01_songs.html">songs</a>.</p>' in index
    assert '<p><a href="../api/cli.html">api</a></p>' in guide


def test_names_are_linked_where_they_are_documented(site):
    guide = (site / "guides" / "how.html").read_text()
    there = '<a href="../api/files/layout.html#find_layout"><code>find_layout</code></a>'
    assert f"<p>{there} <code>_matches</code></p>" in guide


def test_names_are_linked_in_chapters_but_no_plain_word_and_no_code(site):
    text = (site / "report" / "02_two.html").read_text()
    there = 'href="../api/files/layout.html#find_layout"'
    for name in ("layout.find_layout", "find_layout()"):
        assert f"<a {there}><code>{name}</code></a>" in text
    assert text.count(there) == 2 and "`find_layout`" in text
    assert "<code>fetch</code>, <code>nobody</code>" in text
    assert '<a href="01_songs.html">the <code>find_layout</code></a>' in text


def test_captions_without_a_number_and_intervals_keep_their_look(site):
    text = (site / "report" / "02_two.html").read_text()
    assert '<div class="caption-text">\n<p>No number.</p>' in text
    assert 'alt="One pixel."' in text
    assert text.count('0.41 <span class="interval">(0.31–0.52)</span></td>') == 20
    assert text.count('−0.1 <span class="interval">(−0.13 to +0.08)</span></td>') == 20


def test_an_api_page_shows_signatures_and_examples(site):
    page = (site / "api" / "files" / "layout.html").read_text()
    assert 'id="find_layout"' in page and "a folder laid out like the MSD subset" in page
    text = re.sub("<[^>]+>", "", page)
    assert "class Layout" in text
    assert "# a folder laid out like the MSD subset\n" in text  # a signature is code
    assert 'href="../cli.html"' in page.partition("Imported by")[2].partition("</p>")[0]
    assert "<details class=\"code\">" not in page
    assert "TemporaryDirectory" in page  # an example
    assert "default_exp" not in page and "import pandas" not in page  # of the exported code


def test_every_page_says_that_it_is_a_preview_of_fictional_songs(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) == 6
    for page in pages:
        text = page.read_text()
        assert "A preview made without Quarto" in text
        assert "Fictional songs" in text
        assert "run toy, seed 5, fictional songs" in text
        assert re.search(r'href="[^"]*index.html"', text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("See @fig-nothing and @tbl-nothing.", "unresolved references: @fig-nothing, @tbl-nothing"),
        ("As [@nobody2000] says.", "nobody2000"),
        ("[gone](09_none.ipynb)", "report/01_songs.html -> 09_none.ipynb"),
        ("[gone](02_two.ipynb#elsewhere)", "report/01_songs.html -> 02_two.html#elsewhere"),
        ("![a picture](none.png)", "report/01_songs.html -> none.png"),
    ],
)
def test_what_leads_nowhere_is_an_error_and_the_older_site_stays(project, tmp_path, text, message):
    site = tmp_path / "_site"
    site.mkdir()
    (site / "index.html").write_text("older")
    add_to_chapter(project, new_markdown_cell(text))
    with pytest.raises(preview.PreviewError) as refusal:
        preview._render_preview(project, site)
    assert "report/01_songs" in str(refusal.value) and message in str(refusal.value)
    assert (site / "index.html").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_site", "project"]


def test_only_a_site_is_replaced(project, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(preview.PreviewError, match="not a site"):
        preview._render_preview(project, tmp_path / "home")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("source", [
    '#| label: fig-x\n#| fig-cap: "a: \\"b\\" \\\\ c # d"\n#| echo: false\nplot()',
    "#| export\n#| hide\ncode = '#| not: an option'",
    "code()\n#| label: fig-late",
    "",
])  # fmt: skip
def test_options_survive_reading_and_writing(source):
    options, code = preview._cell_options(source)
    assert preview._cell_options(preview._with_options(options, code)) == (options, code)


# ---- the project's own files


def test_quarto_finds_its_settings_beside_the_notebooks():
    link = ROOT / "nbs" / "_quarto.yml"
    assert link.is_symlink() and link.readlink() == Path("../_quarto.yml")
    config = yaml.safe_load(link.read_text())
    assert config["website"]["site-url"].startswith("https://")
    set_by = {}
    for theme in ("light", "dark"):
        text = (ROOT / "nbs" / f"theme-{theme}.scss").read_text()
        assert "url(" not in text
        set_by[theme] = re.findall(r"^\$([\w-]+):", text, re.MULTILINE)
    assert set_by["light"] == set_by["dark"]  # the preview takes what both set
    sheet = preview._resource("preview.css").read_text()
    used = set(re.findall(r"var\(--([\w-]+)", sheet))
    own = set(re.findall(r"^  --([\w-]+):", sheet, re.MULTILINE))
    assert used - own <= set(set_by["light"])


def test_every_citation_is_in_the_bibliography_and_it_reads_without_a_warning():
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), "--from=bibtex", "--to=csljson", "nbs/references.bib"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    keys = re.findall(r"^@\w+\{([^,]+),", (ROOT / "nbs" / "references.bib").read_text(), re.M)
    assert len(keys) == len(set(keys))
    cited = {
        key
        for path in (ROOT / "nbs").rglob("*.ipynb")
        for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"
        for key in re.findall(r"(?<![\w`])@([a-z]+\d{4}[a-z]+)", cell.source)
    }  # fmt: skip
    assert cited <= set(keys)


# ---- in a browser

LOOK = """() => ({
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
    bare: [...document.images].filter(i => !i.alt).map(i => i.src),
    missing: [...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute('href'))
        .filter(h => h.length > 1 && !document.getElementById(decodeURIComponent(h.slice(1)))),
    wide: document.documentElement.scrollWidth - window.innerWidth,
})"""


@pytest.mark.parametrize("width, scheme", [(1400, "light"), (390, "dark")])
def test_pages_open_without_a_request_an_error_or_a_broken_thing(site, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        seen = page.evaluate(LOOK)
        assert seen["wide"] <= 0, f"{path.name} is {seen.pop('wide')} px too wide at {width}"
        assert not any(seen[name] for name in ("broken", "bare", "missing")), (path.name, seen)
    page.close()
    assert not errors
    assert not [url for url in requests if not url.startswith(("file://", "data:"))]


def test_a_search_finds_a_place_and_leads_there_by_keys_alone(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((site / "report" / "01_songs.html").as_uri())
    assert page.evaluate("window.searchIndex === undefined")  # loaded for those who search
    page.keyboard.press("/")
    page.keyboard.type("FIND_layout")
    first = page.locator(".found a").first
    first.wait_for()
    assert first.inner_text().startswith("find_layout · layout")
    assert "found" in page.get_by_role("status").inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/api/files/layout.html#find_layout")
    page.get_by_role("searchbox").fill("no <b>such</b> word")
    page.get_by_text("Nothing found.").wait_for()
    page.keyboard.press("Escape")
    assert not page.get_by_text("Nothing found.").is_visible()
    page.close()


def test_light_and_dark_by_a_button_and_by_the_system(site, browser):
    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page = browser.new_page(color_scheme="dark")
    page.goto((site / "index.html").as_uri())
    assert paper() == "rgb(20, 24, 27)"
    page.get_by_role("button", name="Light or dark").click()
    assert paper() == "rgb(255, 255, 255)"
    page.goto((site / "report" / "02_two.html").as_uri())
    assert paper() == "rgb(255, 255, 255)"  # kept from page to page
    page.close()


def test_what_is_wide_scrolls_in_its_box_and_by_keys_and_its_caption_stays(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((site / "report" / "02_two.html").as_uri())
    box = page.locator("#tbl-wide .table-scroll")
    assert box.evaluate("b => b.scrollWidth > b.clientWidth && b.tabIndex === 0")
    caption = page.locator("#tbl-wide figcaption").bounding_box()
    assert caption["x"] >= 0 and caption["x"] + caption["width"] <= 390
    code = page.locator("pre.cell-code").last
    assert code.evaluate("b => b.scrollWidth > b.clientWidth && b.tabIndex === 0")
    page.close()


def test_the_sidebar_opens_at_the_page(site, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 260})
    page.goto((site / "api" / "cli.html").as_uri())
    sidebar = page.get_by_role("navigation", name="All pages", exact=True)
    assert sidebar.get_by_role("link", name="cli").is_visible()
    assert not sidebar.get_by_role("link", name="How").is_visible()
    nav, here = sidebar.bounding_box(), sidebar.locator("[aria-current]").bounding_box()
    assert nav["y"] <= here["y"] and here["y"] + here["height"] <= nav["y"] + nav["height"]
    page.close()


def test_every_page_is_a_click_away_on_a_phone(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((site / "index.html").as_uri())
    page.get_by_text("Pages", exact=True).click()
    page.get_by_label("All pages, in short").get_by_text("Report").click()
    page.get_by_role("link", name="2 · Two").click()
    assert page.url.endswith("report/02_two.html")
    assert page.locator("h1").inner_text() == "Two"
    page.get_by_role("link", name="← 1 · The songs").click()
    assert page.locator("#fig-genres img").is_visible()
    page.close()
