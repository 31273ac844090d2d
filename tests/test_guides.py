"""The how-to guides: what they show is taken from their pages and executed as it stands."""

import configparser
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from msd_genre import cli
from msd_genre.corpus import catalog

ROOT = Path(__file__).parent.parent
SONG = "data/demo-2000-1/data/A/A/B/TRAABNQ0FACADE57AD.h5"


def blocks(guide, language):
    """The blocks of a language in a guide, in its order."""
    cells = nbformat.read(ROOT / "nbs" / "guides" / f"{guide}.ipynb", 4).cells
    found = [re.findall(rf"```{language}\n(.*?)```", c.source, re.S) for c in cells]
    return [block for one in found for block in one]


def named(text, names):
    """A text with the names replaced that its guide asks to replace."""
    for said, ours in names.items():
        text = text.replace(said, str(ours))
    return text


def ask(line, names, monkeypatch):
    """What a line prints: commands of the package in this process, which has TensorFlow already."""
    words = shlex.split(named(line, names))
    if words[0] == "msd-genre":
        done = CliRunner().invoke(cli.main, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.output
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
        return ""
    return subprocess.run(["bash", "-c", named(line, names)], check=True, text=True,
                          capture_output=True).stdout  # fmt: skip


# ---- a new song


@pytest.fixture
def new_song_names(own_run, demo_corpus):
    kept = catalog.kept(own_run.read("catalog.parquet"))
    song = demo_corpus / kept["path"][0]
    return {"runs/demo": own_run.dir, SONG: song, "data/demo-2000-1/data/A/A": song.parent.parent}


def test_a_new_song_is_judged_as_the_guide_says(new_song_names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = {}
    for block in blocks("a_new_song", "bash"):
        if "<<" in block:
            subprocess.run(["bash", "-c", block], check=True)
            continue
        for line in block.splitlines():
            if "sound.flac" not in line:  # it has a test of its own
                said[line] = ask(line, new_song_names, monkeypatch)
    answers = {line: text for line, text in said.items() if line.startswith("msd-genre predict")}
    assert len(answers) == 4
    for line, text in answers.items():
        away = "my_model" in line
        assert ("nearest songs" in text) == (not away)
        assert ("no segments" in text) == (".h5" not in line)
        assert "%" in text and "no lyrics" not in text
    assert "on the map: x" in next(text for line, text in answers.items() if "joint" in line)
    whole = capsys.readouterr().out.strip()  # of the example
    assert whole and whole in next(text for line, text in answers.items() if "my_model" in line)
    assert len(said[next(line for line in said if "--playlist" in line)].splitlines()) == 7
    assert "README.md" in said["ls my_model"]
    shown = [line for line in blocks("a_new_song", "text")[0].splitlines() if line.strip()]
    kinds = [r" +\d+\.\d%  \w+", r" +\d+\.\d\d  .+ - .+ \(\w+; near by .*\)", "on the map: x .*",
             "Note: .*", "nearest songs, with their distance:", ".+ - .+"]  # fmt: skip
    assert all(any(re.fullmatch(kind, line) for kind in kinds) for line in shown)
    for code in blocks("a_new_song", "python"):
        exec(named(code, new_song_names), {})
    out = capsys.readouterr().out
    assert len(out.splitlines()) > 2 and "dtype" in out


def test_a_sound_is_judged_as_the_guide_says(own_run, tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile", reason="the extra `audio` is not installed")
    monkeypatch.chdir(tmp_path)
    t = np.arange(3 * 22_050) / 22_050
    tone = 0.3 * np.sin(2 * np.pi * 440 * t) * np.exp(-(t % 0.5) * 4)
    soundfile.write("sound.flac", tone, 22_050)
    (line,) = [line for block in blocks("a_new_song", "bash") for line in block.splitlines()
               if "sound.flac" in line]  # fmt: skip
    text = ask(line, {"runs/demo": own_run.dir}, monkeypatch)
    assert text.startswith("sound.flac") and "approximation" in text and "no lyrics" in text


# ---- a changed model


def edited(checkout, diffs):
    """Make the edits that diffs show, in the one notebook cell that has their context."""
    path = checkout / "nbs" / "api" / "models" / "01_networks.ipynb"
    notebook = nbformat.read(path, 4)
    for diff in diffs:
        lines = diff.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[0] in kinds)
                    for kinds in (" -", " +"))  # fmt: skip
        (cell,) = [cell for cell in notebook.cells if old in cell.source]
        cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, path)


@pytest.fixture
def checkout(tmp_path):
    """A clone of the project, as it lies here."""
    copy = tmp_path / "checkout"

    def git(*words, folder=copy):
        named = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
        return subprocess.run(["git", "-C", folder, *named, *words], check=True, text=True,
                              capture_output=True).stdout  # fmt: skip

    git("clone", "-q", ROOT, copy, folder=ROOT)
    for name in git("ls-files", "-m", "-o", "--exclude-standard", folder=ROOT).splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", "as it lies here")
    return copy


def module_of(checkout):
    """`models.networks` as it is in a checkout, beside the one that is imported."""
    path = checkout / "msd_genre" / "models" / "networks.py"
    spec = importlib.util.spec_from_file_location("msd_genre.models.other", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_model_is_changed_as_the_guide_says(own_run, demo_corpus, checkout, tmp_path, capsys):
    """All blocks of the page in its order, but that its chapter is run once, for the variant."""
    mine, params = tmp_path / "mine", tmp_path / "mine.yaml"
    smallest = yaml.safe_load((ROOT / "tests" / "data" / "smallest.yaml").read_text())
    smallest["data"]["folder"] = str(demo_corpus)
    params.write_text(yaml.safe_dump(smallest))
    names = {"runs/demo": own_run.dir, "runs/mine": mine, "params/demo.yaml": params,
             "params/mine.yaml": params, "epochs=6": "epochs=1", "=32": "=16"}  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(checkout), "PATH": os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]])}  # fmt: skip

    def run(block):
        done = subprocess.run(["bash", "-euc", named(block, names)], cwd=checkout, env=env,
                              text=True, capture_output=True)  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    aside, written, asked, once, page, undo, last = blocks("change_a_model", "bash")
    by_sizes, compare, test = blocks("change_a_model", "python")
    edit, *variant = blocks("change_a_model", "diff")
    run(aside)
    exec(named(by_sizes, names), {})
    assert re.search(r"cnn-as_written-narrow +\| \d\.\d\d", capsys.readouterr().out)

    edited(checkout, [edit])
    assert {"nbs/api/models/01_networks.ipynb", "msd_genre/models/networks.py"} <= {
        line.split()[0] for line in run(written).splitlines()}  # fmt: skip
    assert module_of(checkout).default_sizes("cnn")["filters"] == (64, 64, 128)
    assert re.search("^05_cnn +runs: the model cnn, which it uses, has changed", run(asked), re.M)
    run(undo)
    assert re.search("^05_cnn +reused", run(asked), re.M)

    edited(checkout, variant)
    export, tried, made = last.splitlines()
    assert tried == "pytest -q tests/models/test_networks.py -k narrow"
    run(export)
    place = {"models": module_of(checkout)}
    exec(test, place)
    place["test_narrow_is_as_written_with_half_the_filters"]()
    (line,) = blocks("change_a_model", "yaml")
    smallest["chapters"]["05_cnn"]["weightings"] = yaml.safe_load(line)["05_cnn"]["weightings"]
    params.write_text(yaml.safe_dump(smallest))
    assert made == once.strip().replace("demo.yaml", "mine.yaml")
    run(made)
    scored = pd.read_csv(mine / "scores" / "05_cnn.csv")
    assert {"as_written", "as_coded", "narrow"} <= set(scored["model"])
    run(page)
    assert "narrow" in (mine / "before" / "05_cnn.html").read_text()
    exec(named(compare, names), {})
    said = capsys.readouterr().out.splitlines()
    assert said[-1].split()[1:4] == ["now", "macro_f1", "0.0"], "as written has changed too"


# ---- a published run


def test_the_workflow_of_the_site_runs_what_there_is():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())
    assert workflow[True]["push"] == {"branches": ["main"]}  # YAML reads `on` so
    assert {"pages": "write", "id-token": "write"}.items() <= workflow["permissions"].items()
    (job,) = workflow["jobs"].values()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    commands = [step["run"].split() for step in job["steps"] if "run" in step]
    assert commands and all(words[0] == "make" and words[1] in targets for words in commands)
    uses = {step["uses"].split("@")[0]: step.get("with", {}) for step in job["steps"]
            if "uses" in step}  # fmt: skip
    assert uses["actions/upload-pages-artifact"]["path"] == "_site"
    assert {"actions/checkout", "quarto-dev/quarto-actions/setup", "actions/deploy-pages"} < {*uses}


def test_both_files_have_the_same_address_and_the_guide_changes_what_stands_there():
    site = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    said = settings["DEFAULT"]
    assert site["site-url"] == said["doc_host"] + said["doc_baseurl"]
    assert site["repo-url"] == said["git_url"]
    there = (ROOT / "_quarto.yml").read_text() + (ROOT / "settings.ini").read_text()
    (diff,) = blocks("publish_your_run", "diff")
    old = [line[1:].strip() for line in diff.splitlines() if line[0] == "-"]
    assert len(old) == 4 and all(line in there for line in old)


@contextmanager
def served(folder):
    """A folder at an address of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *said):
            pass

    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site_works_below_an_address_of_a_project(demo_site, browser, tmp_path):
    (tmp_path / "msd_genre").symlink_to(demo_site)
    wrong = []
    with served(tmp_path) as address:
        page = browser.new_page()
        page.on("response", lambda r: wrong.append((r.status, r.url)) if r.status >= 400 else None)
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("request", lambda request: None if request.url.startswith(
            (f"{address}/msd_genre/", "data:", "blob:")) else wrong.append(request.url))
        for name in ["", "report/05_cnn.html", "report/song_map.html", "api/models/networks.html",
                     "guides/publish_your_run.html"]:  # fmt: skip
            page.goto(f"{address}/msd_genre/{name}", wait_until="load")
            links = page.evaluate("() => [...document.links].map(a => a.href.split('#')[0])")
            inside = {link for link in links if link.startswith(address)}
            assert inside and all(link.startswith(f"{address}/msd_genre/") for link in inside)
            for link in inside:
                assert (demo_site / link.removeprefix(f"{address}/msd_genre/")).exists(), link
        page.close()
    assert wrong == []


def test_the_site_is_pushed_as_the_guide_says(demo_site, tmp_path, monkeypatch):
    _, push, _ = blocks("publish_your_run", "bash")
    copy, remote = shutil.copytree(demo_site, tmp_path / "_site"), tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "nobody@localhost")
    names = {"_site": copy, "https://github.com/YOU/msd_genre.git": remote}
    done = subprocess.run(["bash", "-euc", named(push, names)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    show = ["git", "-C", remote, "ls-tree", "-r", "--name-only", "gh-pages"]
    there = subprocess.run(show, check=True, text=True, capture_output=True).stdout.splitlines()
    assert {".nojekyll", "index.html", "report/05_cnn.html"} <= {*there}
    assert not [name for name in there if name.endswith((".h5", ".parquet", ".npz"))]


def test_titles_on_the_pages_are_counted_and_none_in_the_record(
    demo_run, demo_site, tmp_path, monkeypatch, capsys
):
    check, _, record = blocks("publish_your_run", "bash")
    names = {"runs/demo": demo_run.dir, "_site": demo_site}
    (count,) = blocks("publish_your_run", "python")
    exec(named(count, names), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {name: int(n) for name, n, *_ in lines}
    assert found["song_map.html"] > found["10_embedding.html"] > 0
    cells = nbformat.read(ROOT / "nbs" / "guides" / "publish_your_run.ipynb", 4).cells
    (table,) = [cell.source for cell in cells if "| the song map |" in cell.source]
    listed = {int(n) for n in re.findall(r"^\| (\d+) ", table, re.M)} - {2}  # stems, no titles
    assert {int(name[:2]) for name, n in found.items() if n and name[:2].isdigit()} <= listed
    out = tmp_path / "record"
    ask(f"{record.splitlines()[0]} --out {out}", names, monkeypatch)
    songs = catalog.kept(demo_run.read("catalog.parquet"))
    text = "\n".join(path.read_text() for path in out.rglob("*.*"))
    assert "accuracy" in text and not [t for t in songs["title"] if len(t) > 6 and t in text]
    assert str(demo_run.params["data"]["folder"]) not in text
    assert [line.split()[1] for line in check.splitlines()] == ["verify", "site"]
