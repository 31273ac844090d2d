"""What tests share: a small fictional MSD, and real songs where the machine has them."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock


def pytest_collection_modifyitems(items):
    """The file that makes the shared run comes first, and those that only read it last.

    So one worker makes it while the others have work, and none waits for it.
    """
    for item in items:
        if {"demo_run", "browser"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    readers = {item.path for item in items if "demo_run" in item.fixturenames}
    first = {"test_executed_chapters": -1, "test_recipes": 0.5}  # not while JupyterLab is tested
    when = {path: first.get(path.stem, 1) for path in readers}
    items.sort(key=lambda item: when.get(item.path, 0))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that makes a folder by name, once for all workers: the others wait for it."""
    top = tmp_path_factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top

    def made(name, make):
        folder, whole = top / name, top / f"{name}.whole"
        with FileLock(top / f"{name}.lock"):
            if not whole.exists():
                make(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def demo_corpus(made_once):
    """Folder of 120 fictional songs in the real formats. Do not write into it."""
    from msd_genre.synthetic.write import write_demo

    return made_once("demo", lambda folder: write_demo(folder, n_songs=120, seed=1, n_jobs=1))


@pytest.fixture(scope="session")
def drop_broken_rows():
    """A function that takes the demo's broken rows out of the text files of a copy of it."""
    from msd_genre.synthetic.write import _BROKEN_ROWS, TEXT_FILES

    def drop(corpus):
        for name, rows in _BROKEN_ROWS.items():
            path = corpus / TEXT_FILES[name]
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: -len(rows)]))

    return drop


@pytest.fixture(scope="session")
def real_msd():
    """Folder of real songs, laid out like the MSD subset."""
    if "MSD_GENRE_DATA" not in os.environ:
        pytest.skip("MSD_GENRE_DATA is not set: tests on real songs skipped")
    return Path(os.environ["MSD_GENRE_DATA"])


@pytest.fixture(scope="session")
def demo_run(demo_corpus, made_once):
    """The whole report on the smallest demo: every chapter executed. Do not change it.

    `states` says of each step and chapter what the first run did with it.
    """
    from msd_genre.corpus import catalog, features
    from msd_genre.report import chapters
    from msd_genre.workspace import parameters, runs

    def make(folder):
        params = parameters.read_params(Path(__file__).parent / "data" / "smallest.yaml")
        params["data"]["folder"] = str(demo_corpus)
        run = runs.create_run(params, folder)
        steps = [("catalog", catalog.build_catalog), ("features", features.build_store)]
        done = chapters._run_report(run, steps)
        runs._write_json(list(done.values()), folder.with_suffix(".states.json"))

    run = runs.open_run(made_once("smallest", make))
    run.states = json.loads(run.dir.with_suffix(".states.json").read_text())
    return run


@pytest.fixture(scope="session")
def demo_site(demo_run, made_once):
    """The pages of that run, as `msd-genre site` makes them. Do not change them."""
    from click.testing import CliRunner

    from msd_genre import cli

    def make(folder):
        done = CliRunner().invoke(cli.main, ["site", str(demo_run.dir), "--out", str(folder)])
        assert done.exit_code == 0, done.output

    return made_once("site", make)


@pytest.fixture
def own_run(demo_run, tmp_path):
    """A copy of the finished run, to be changed or spoilt."""
    from msd_genre.workspace import runs

    return runs.open_run(shutil.copytree(demo_run.dir, tmp_path / "run"))


@pytest.fixture(scope="module")  # not longer: while it is open, no test can run its own event loop
def browser():
    """Chromium without a window; nothing that it opens may ask the network."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    path = next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"]  # fmt: skip
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def as_nobody():
    """A context in which root is an ordinary user; `.folder` is one that anybody may enter."""

    @contextmanager
    def context():
        was_root = hasattr(os, "geteuid") and os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if was_root:
                os.seteuid(0)

    with tempfile.TemporaryDirectory() as folder:
        context.folder = Path(folder)
        context.folder.chmod(0o755)
        yield context
