"""JupyterLab as `make lab` starts it, in a real browser, on a copy of the notebooks."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PATIENCE = 240_000  # ms: a busy machine starts a kernel slowly
TINY = {"data": {"source": "demo", "songs": 120}, "features": {"n_frames": 60}}


@pytest.fixture(scope="module")
def project(demo_run, tmp_path_factory):
    """What `make lab` needs of the project, with a finished run as runs/demo."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Makefile", "settings.ini", ".jupyter/jupyter_server_config.py", "pyproject.toml",
                 "nbs/guides/jupyterlab.ipynb", "nbs/api/files/03_text.ipynb"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("nbs/report", "msd_genre", "params"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(demo_run.dir, folder / "runs" / "demo")
    (folder / "params" / "demo.yaml").write_text(yaml.safe_dump(TINY))
    return folder


@pytest.fixture(scope="module")
def lab(project):
    """The address of `make lab`, without a token and without the reader's own settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--no-browser --allow-root --port {port} --IdentityProvider.token="
    command = ["make", "-o", ".venv/.ready", f"BIN={Path(sys.executable).parent}", "lab",
               f"LAB={options}"]  # fmt: skip
    own = {name: str(project / "home" / name) for name in
           ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    with (project / "lab.log").open("w") as log:
        started = subprocess.Popen(command, cwd=project, env=os.environ | own, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            time.sleep(0.5)
            assert started.poll() is None, (project / "lab.log").read_text()[-3000:]
            if "is running at" in (project / "lab.log").read_text():
                break
        urlopen(f"{address}/api/status", timeout=60).close()
        yield address
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)


@pytest.fixture
def page(browser, lab):
    """A page of the browser that waits long enough."""
    page = browser.new_page(viewport={"width": 1300, "height": 4000})
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def open_notebook(page, lab, name):
    """Open a notebook beside what is open; the part of the window that shows it."""
    page.goto(f"{lab}/lab/tree/nbs/{name}?reset")  # without the tabs of the test before
    shown = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    shown.get_by_text("Python 3 (ipykernel)").wait_for()
    shown.locator(".jp-CodeCell .cm-content").first.wait_for()
    return shown


def run_all(page):
    """Run > Run All Cells."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def save(page, path):
    """Ctrl+S; returns when the file has been written and JupyterLab knows it."""
    before = path.stat().st_mtime_ns
    unsaved = page.locator(".lm-TabBar-tab.jp-mod-current.jp-mod-dirty")
    insist(lambda: page.keyboard.press("Control+s"),
           lambda: path.stat().st_mtime_ns != before and not unsaved.count())  # fmt: skip


def insist(act, done):
    """Act until it is done: a busy page can lose a key, and a save a change made meanwhile."""
    for _ in range(PATIENCE // 10_000):
        act()
        if within(10_000, done):
            return
    raise AssertionError("it is never done")


def wait(there):
    """Until something is so."""
    assert within(PATIENCE, there), "it never came"


def within(patience, there):
    """Whether something comes to be so within so many milliseconds."""
    for _ in range(patience // 200):
        if there():
            return True
        time.sleep(0.2)
    return False


def test_it_opens_on_a_page_that_leads_to_the_chapters(page, lab):
    page.goto(lab)
    page.get_by_role("heading", name="Working in JupyterLab").wait_for()
    assert page.url.endswith("/lab/tree/nbs/guides/jupyterlab.ipynb")
    page.get_by_role("link", name="chapter 3").click()
    page.get_by_role("heading", name="Splits and imbalance").wait_for()


def test_another_parameter_shows_another_figure_and_saving_keeps_it(page, lab, project):
    chapter = open_notebook(page, lab, "report/02_lyrics.ipynb")
    run_all(page)
    chapter.get_by_text("(fraction weighting)").last.wait_for()
    before = chapter.locator(".jp-OutputArea-output img").last.get_attribute("src")
    parameters = chapter.locator(".jp-CodeCell .cm-content").first

    def put():
        parameters.get_by_text('"fraction"').dblclick()
        page.keyboard.type("tfidf")

    insist(put, lambda: 'weighting = "tfidf"' in parameters.inner_text())
    run_all(page)
    chapter.get_by_text("(tfidf weighting)").last.wait_for()
    assert chapter.locator(".jp-OutputArea-output img").last.get_attribute("src") != before
    path = project / "nbs" / "report" / "02_lyrics.ipynb"
    save(page, path)
    saved = path.read_text()
    assert 'weighting = \\"tfidf\\"' in saved and "image/png" in saved
    assert '"execution_count": 1' not in saved and '"parameters"' in saved


def test_saving_a_module_exports_it_and_an_error_loses_nothing(page, lab, project):
    notebook = open_notebook(page, lab, "api/files/03_text.ipynb")
    path, module = project / "nbs/api/files/03_text.ipynb", project / "msd_genre/files/text.py"
    notebook.get_by_text("#| export").first.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\nADDED = 1")
    save(page, path)
    wait(lambda: "ADDED = 1" in module.read_text())
    page.keyboard.type(" +")
    save(page, path)
    wait(lambda: "its module is as it was" in (project / "lab.log").read_text())
    assert "ADDED = 1 +" in path.read_text() and "ADDED = 1\n" in module.read_text()


def test_without_a_run_a_chapter_names_the_command_that_makes_what_it_needs(page, lab, project):
    shutil.rmtree(project / "runs" / "demo")
    chapter = open_notebook(page, lab, "report/01_songs.ipynb")
    run_all(page)
    said = chapter.locator("[data-mime-type='application/vnd.jupyter.stderr']").last
    said.get_by_text("RunError: no run in").wait_for()
    assert "`msd-genre report params/demo.yaml --before 01`" in said.inner_text()
    assert "Traceback" not in chapter.inner_text()
    assert not chapter.locator(".jp-Stdin-input").count()
    command = Path(sys.executable).parent / "msd-genre"
    done = subprocess.run([command, "report", "params/demo.yaml", "--before", "01"], cwd=project,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "[ 3/3] features" in done.stdout, done.stderr[-3000:]
    run_all(page)
    chapter.locator(".jp-OutputArea-output img").first.wait_for()
