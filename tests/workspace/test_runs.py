"""A run's artefacts: reused when nothing changed, made again when anything did, never half."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from msd_genre.workspace import runs
from msd_genre.workspace.parameters import ParameterError
from msd_genre.workspace.paths import project_root


@pytest.fixture
def run(tmp_path):
    return runs.create_run({"seed": 1}, tmp_path / "run")


def write(text, calls):
    def build(path):
        calls.append(text)
        path.write_text(text)

    return build


def test_an_artefact_is_made_once_and_again_when_its_file_is_gone(run):
    calls = []
    for _ in range(2):
        path = run.make("a.json", write("1", calls), params={"x": 1})
    assert calls == ["1"]
    path.unlink()
    run.make("a.json", write("1", calls), params={"x": 1})
    assert calls == ["1", "1"]


def test_a_changed_input_makes_what_depends_on_it_again(run):
    calls = []
    run.make("a.json", write("1", []), params={"x": 1})
    run.make("b.json", write("b", calls), inputs=["a.json"])
    run.make("a.json", write("1", []), params={"x": 2})  # made again, with the same content
    run.make("b.json", write("b", calls), inputs=["a.json"])
    assert calls == ["b"]
    run.make("a.json", write("2", []), params={"x": 3})
    run.make("b.json", write("b", calls), inputs=["a.json"])
    assert calls == ["b", "b"]


def test_a_builder_that_fails_leaves_nothing_and_keeps_its_scratch(run):
    def fail(path):
        (run.scratch("a") / "done.txt").write_text("half")
        path.mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.make("a", fail)
    assert not (run.dir / "a").exists()
    assert not [p for p in run.dir.iterdir() if p.name.startswith(".a-")]

    def go_on(path):
        assert (run.scratch("a") / "done.txt").read_text() == "half"
        path.mkdir()

    run.make("a", go_on)
    assert not list((run.dir / ".scratch").iterdir())


def test_scratch_of_other_parameters_is_not_taken_over(run):
    def fail(path):
        (run.scratch("a") / "done.txt").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.make("a", fail, params={"x": 1})

    def build(path):
        assert not list(run.scratch("a").iterdir())
        path.touch()

    run.make("a", build, params={"x": 2})


def test_the_sidecar_says_what_made_an_artefact(run):
    run.make("deep/a.json", write("1", []), params={"x": 1}, code=[runs.create_run])
    said = json.loads((run.dir / ".keys" / "deep__a.json.json").read_text())
    assert said["params"] == {"x": 1}
    assert said["code"]["names"] == ["msd_genre.workspace.runs:create_run"]
    assert said["digest"] == runs.file_digest(run.dir / "deep" / "a.json")
    assert said["stamp"]["seed"] == 1 and "tensorflow" in said["stamp"]["versions"]
    assert re.fullmatch(r"\w+ \w+ [\w ]+, \d+ cores", said["stamp"]["machine"])


def test_reading_is_traced_for_the_runner(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MSD_GENRE_TRACE", str(tmp_path / "trace"))
    run.make("folder", lambda path: (path.mkdir(), (path / "a.json").write_text("1")))
    run.read("folder/a.json")
    lines = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [line["read"] for line in lines] == ["folder", "folder/a.json"]
    assert {line["digest"] for line in lines} == {runs.file_digest(run.dir / "folder")}


def test_a_relative_run_counts_from_the_project_wherever_a_notebook_runs(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").touch()
    (tmp_path / "nbs" / "report").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "nbs" / "report")
    run = runs.create_run({"seed": 1}, "runs/x")
    assert run.dir == tmp_path / "runs" / "x"


def test_what_is_missing_says_what_to_run(run):
    with pytest.raises(runs.RunError, match="make report"):
        runs.open_run(run.dir / "none")
    with pytest.raises(runs.RunError, match="an earlier chapter makes it"):
        run.read("split.parquet")
    run.make("a.txt", write("1", []))
    with pytest.raises(runs.RunError, match=r"no reader for '\.txt'"):
        run.read("a.txt")


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Code runs in the notebook of chapter 5: call it with the values of its parameters."""
    (tmp_path / "settings.ini").touch()
    folder = tmp_path / "nbs" / "report"
    folder.mkdir(parents=True)
    for name, parameter in (("04_baseline", "batch_size = 10"), ("05_cnn", "filters = [4]")):
        write_parameters(folder / f"{name}.ipynb", f"epochs = 9\n{parameter}")

    monkeypatch.chdir(folder)

    def open_chapter(names):
        cell = 'run_dir = "mine"  # any\nseed = 3\nepochs = 9\nfilters = [5]'
        shell = SimpleNamespace(user_ns=names | {"In": ["", "%pwd", cell, "import os"]})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    return open_chapter


def write_parameters(path, code):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]},
            "source": f'run_dir = "runs/demo"  # of the chapter\nseed = 1\n{code}'.splitlines(True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [{"metadata": {}, "source": ["#"]}, cell]}))


@pytest.mark.parametrize(
    "params, message",
    [
        ({}, "expected an integer from 0 on as `seed`, found None"),
        ({"seed": "1"}, "expected an integer from 0 on as `seed`, found '1'"),
        ({"seed": True}, "expected an integer from 0 on as `seed`, found True"),
        ({"seed": -1}, "expected an integer from 0 on as `seed`, found -1"),
        ({"seed": 1, "run": 5}, "expected a name of a folder as `run`, found 5"),
        ({"seed": 1, "run": "../x"}, "expected a name of a folder as `run`, found '../x'"),
        ({"seed": 1, "catalogue": {}}, "no section 'catalogue'. There is: run, seed, data"),
        ({"seed": 1, "catalog": 3}, "expected `name: value` pairs in the section 'catalog'"),
        ({"seed": 1, "chapters": {"05_cnn": [2]}}, "pairs in the section 'chapters.05_cnn'"),
        ({"seed": 1, "modules": "mine"}, "expected names as `modules`, such as [my_models], found"),
    ],
)
def test_parameters_that_cannot_be_meant_make_no_folder(tmp_path, params, message):
    with pytest.raises(ParameterError) as refusal:
        runs.create_run(params, tmp_path / "run")
    assert message in str(refusal.value) and str(tmp_path / "run") in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_modules_of_a_run_are_imported_and_their_code_counts(tmp_path):
    params = {"seed": 1, "modules": ["my_doubling"], "params_file": str(tmp_path / "my.yaml")}
    with pytest.raises(ParameterError, match=r"no module 'my_doubling', .*my_doubling.py in .*put"):
        runs.create_run(params, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    source = tmp_path / "my_doubling.py"
    source.write_text("def double(path):\n    path.write_text('2')\n\n\ndef other():\n    pass\n")
    run = runs.create_run(params, tmp_path / "run")
    double = sys.modules["my_doubling"].double
    run.make("two.json", double, code=[double])
    source.write_text(source.read_text().replace("pass", "return 1"))
    assert runs.stale(runs.open_run(run.dir)) == {}
    source.write_text(source.read_text().replace("'2'", "'3'"))
    assert [*runs.stale(run)] == ["two.json"]
    source.write_text("import no_such_module_of_mine\n")
    del sys.modules["my_doubling"]
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module_of_mine'"):
        runs.open_run(run.dir)


def test_a_chapter_prints_which_parameters_are_not_those_of_the_run(opened, monkeypatch, capsys):
    own = {"epochs": 6, "filters": [8, 8]}
    run = runs.create_run({"seed": 1, "chapters": {"05_cnn": own}}, "runs/demo")
    opened({"seed": 1} | own)
    runs.open_run(run.dir)
    assert not capsys.readouterr().out
    opened({"seed": 2, "epochs": 6, "filters": [8]})
    runs.open_run(run.dir)
    said = capsys.readouterr().out
    assert "    seed = 1\n    filters = [8, 8]\n" in said and "epochs" not in said
    monkeypatch.setenv("MSD_GENRE_TRACE", "/dev/null")  # the report runs it
    runs.open_run(run.dir)
    assert not capsys.readouterr().out


def test_a_parameter_that_the_run_leaves_to_the_chapter_counts_too(opened, capsys):
    run = runs.create_run({"seed": 1, "chapters": {"05_cnn": {"filters": [8]}}}, "runs/demo")
    opened({"seed": 1, "filters": [8], "epochs": 2})
    runs.open_run(run.dir)
    assert "    epochs = 9\n" in capsys.readouterr().out
    write_parameters(run.dir / "chapters" / "05_cnn.ipynb", "filters = [4]\nepochs = 2")  # executed
    runs.open_run(run.dir)
    assert not capsys.readouterr().out


def test_an_open_chapter_that_lacks_something_gets_the_command_and_no_question(
    opened, monkeypatch, capsys
):
    def start(*args, **kwargs):
        raise AssertionError("the store starts no command and asks nobody")

    monkeypatch.setattr("builtins.input", start)
    opened({})
    with pytest.raises(runs.RunError) as failure:
        runs.open_run("runs/mine")
    command = "msd-genre report params/demo.yaml --run-dir runs/mine --before 05"
    assert f"`{command}` makes what this chapter needs" in str(failure.value)
    assert failure.value._render_traceback_() == [f"RunError: {failure.value}"]
    run = runs.create_run({"seed": 1}, "runs/mine")
    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(runs.RunError, match=r"no split\.parquet in the run") as failure:
        run.read("split.parquet")
    assert f"`{command}`" in str(failure.value) and not capsys.readouterr().out


def test_an_error_names_what_really_makes_the_missing_artifact(opened):
    """Not the whole report where that would not make it."""
    run = runs.create_run({"seed": 1, "chapters": {"05_cnn": {"epochs": 9}}}, "runs/demo")

    def said(names):
        opened(names)
        with pytest.raises(runs.RunError) as failure:
            run.read("models/baseline-s2/cost.json")
        message = str(failure.value)
        assert message.startswith(f"no models/baseline-s2/cost.json in the run {run.dir}")
        return message

    own = {"seed": 1, "epochs": 9, "filters": [4]}
    needed = "`msd-genre report params/demo.yaml --before 05` makes what this chapter needs"
    assert needed in said(own), "chapter 4 was not executed yet"
    other = said(own | {"seed": 2})
    assert "the run has seed = 1" in other and "with the same values" in other
    assert "msd-genre report" not in other
    (run.dir / "chapters").mkdir()
    (run.dir / "chapters" / "04_baseline.json").write_text("{}")
    executed = said(own)
    assert "chapters before it were executed and do not make it" in executed
    assert "msd-genre report" not in executed
    run.make("models/baseline-s2", lambda path: path.mkdir(), code=[project_root])
    spoilt = said(own)
    assert "models/baseline-s2 is there" in spoilt
    assert "made by the code of msd_genre.workspace.paths:project_root" in spoilt
    assert f"Remove {run.dir / 'models' / 'baseline-s2'}" in spoilt


def test_the_command_that_makes_a_run_is_the_one_that_made_it(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").touch()
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "sample.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert runs._report_command(tmp_path / "runs" / "sample") == [
        "msd-genre", "report", "params/sample.yaml"]  # fmt: skip
    given = {"run": "sample", "params_file": "mine.yaml", "seed": 1, "set": ["05_cnn.epochs=2"],
             "data": {"source": "folder", "folder": "/songs", "songs_at": "all.tar"}}  # fmt: skip
    run = runs.create_run(given, tmp_path / "elsewhere")
    assert runs._report_command(run.dir, "03") == [
        "msd-genre", "report", "mine.yaml", "--run-dir", "elsewhere", "--data", "/songs",
        "--songs", "all.tar", "--before", "03", "--set", "05_cnn.epochs=2"]  # fmt: skip


def test_a_run_goes_on_with_new_parameters_and_keeps_what_it_knows_of_its_data(run):
    run.record(data="abc", fictional=True)
    again = runs.create_run({"seed": 2}, run.dir)
    assert again.seed == 2 and again.stamp["data"] == "abc" and again.stamp["seed"] == 2
    assert Path(again.dir, "params.yaml").is_file() and os.environ.get("MSD_GENRE_TRACE") is None


def test_what_is_stale_is_named_with_its_reason(run, monkeypatch):
    run.make("a.txt", write("1", []), code=[runs.create_run])
    run.make("b.txt", write("2", []), inputs=["a.txt"])
    run.make("old.txt", write("3", []))
    assert runs.stale(run, content=True) == {}
    (run.dir / "old.txt").unlink()
    assert runs.stale(run) == {"old.txt": "it is gone"}
    assert runs.stale(run, ["b.txt"]) == {}, "nothing that b.txt was made from has changed"
    (run.dir / "b.txt").write_text("another")
    assert runs.stale(run, ["b.txt"], content=True) == {
        "b.txt": "its content is not what was written"
    }
    run.make("a.txt", write("4", []), params={"n": 2}, code=[runs.create_run])
    assert runs.stale(run, ["b.txt"]) == {"b.txt": "a.txt has changed"}
    monkeypatch.setattr(runs, "code_digest", lambda *names: "0" * 64)
    assert "the code of msd_genre.workspace.runs:create_run" in runs.stale(run, ["a.txt"])["a.txt"]


def test_a_run_of_an_earlier_version_names_the_command_that_rebuilds_it(run):
    sidecar = run.dir / ".keys" / "a.json.json"
    sidecar.parent.mkdir()
    sidecar.write_text(json.dumps({"key": "1", "modules": {"names": ["scan"], "source": "2"}}))
    for reopen in (lambda: runs.open_run(run.dir), lambda: runs.create_run({"seed": 1}, run.dir)):
        with pytest.raises(runs.RunError, match="earlier version") as refusal:
            reopen()
        assert "Remove the folder, then run `msd-genre report" in str(refusal.value)


def test_what_an_artefact_was_made_from_is_followed_through_folders(run):
    run.make("songs", lambda path: (path.mkdir(), (path / "a.txt").write_text("1")))
    run.make("b.txt", write("2", []), inputs=["songs/a.txt"])
    run.make("c.txt", write("3", []), inputs=["b.txt"])
    assert runs.needed(run, ["c.txt"]) == ["b.txt", "c.txt", "songs"]
    assert runs.needed(run, ["songs/a.txt"]) == ["songs"]


def test_a_trace_says_which_run_was_read(run, tmp_path, monkeypatch):
    "A chapter may make a second run, whose artefacts bear the same names."
    monkeypatch.setenv("MSD_GENRE_TRACE", str(tmp_path / "trace"))
    other = runs.create_run({"seed": 2}, tmp_path / "other")
    for one in (run, other):
        one.make("a.json", lambda path: path.write_text("1"))
    lines = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [line["run"] for line in lines] == [str(one.dir.resolve()) for one in (run, other)]


def test_what_a_killed_writing_left_is_taken_away(tmp_path):
    run = runs.create_run({"seed": 1}, tmp_path / "run")
    (run.dir / ".stamp.json-17857").write_text("{")
    runs.create_run({"seed": 1}, run.dir)
    assert not list(run.dir.glob(".stamp*"))
