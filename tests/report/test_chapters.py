"""The runner: toy chapters in a temporary folder, executed, reused, failing."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from msd_genre.report import chapters as chapters_module
from msd_genre.workspace import parameters as parameters_module
from msd_genre.workspace.runs import create_run

OPEN = "from msd_genre.workspace.runs import open_run\nrun = open_run(run_dir)"
KERNEL = {"name": "python3", "display_name": "python3", "language": "python"}


def write_chapter(path, *code, parameters='run_dir = "runs/demo"\nseed = 1'):
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(f"# {path.stem}\n\n> A toy."), tagged, *map(new_code_cell, code)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def write_toys(folder):
    """01 makes n.json from its parameter n; 02 reads it; 03 reads nothing, and may fail."""
    made = "run.make('n.json', lambda path: path.write_text(str(n)), params={'n': n})"
    base = 'run_dir = "runs/demo"\nseed = 1\n'
    write_chapter(folder / "01_makes.ipynb", OPEN, made, parameters=base + "n = 2")
    write_chapter(folder / "02_reads.ipynb", OPEN, "print('twice:', 2 * run.read('n.json'))")
    write_chapter(folder / "03_alone.ipynb", "print('so far')", "1 / denominator",
                  parameters=base + "denominator = 1")  # fmt: skip
    return folder


def make_run(folder, **chapters):
    return create_run({"run": "toy", "seed": 5, "chapters": chapters}, folder)


def run_toys(folder, **chapters):
    run = make_run(folder / "run", **chapters)
    done = chapters_module._run_report(run, (), folder / "chapters")
    return list(done.values())


def printed(run, name):
    notebook = nbformat.read(chapters_module._executed_path(run, name), 4)
    return "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the three toys, executed once. Tests that change it leave it complete."""
    folder = tmp_path_factory.mktemp("report")
    write_toys(folder / "chapters")
    assert run_toys(folder) == ["executed"] * 3
    return folder


def test_what_did_not_change_is_reused_and_what_did_is_executed(finished, capsys):
    assert run_toys(finished) == ["reused"] * 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-4:-2] for line in lines] == [
        ["01_makes", "reused"], ["02_reads", "reused"], ["03_alone", "reused"]
    ]  # fmt: skip
    assert run_toys(finished, **{"01_makes": {"n": 21}}) == ["executed", "executed", "reused"]
    run = make_run(finished / "run", **{"01_makes": {"n": 21}})
    assert printed(run, "02_reads") == "twice: 42\n"
    assert run_toys(finished, **{"01_makes": {"n": 21}}) == ["reused"] * 3


def test_a_chapter_whose_artefact_is_gone_or_other_is_not_current(finished):
    run = make_run(finished / "run", **{"01_makes": {"n": 21}})
    run_toys(finished, **{"01_makes": {"n": 21}})
    plan = chapters_module._plan_chapters(run, finished / "chapters")
    assert not any(chapters_module._changes(chapter, run) for chapter in plan)
    kept = (run.dir / "n.json").read_bytes()
    (run.dir / "n.json").unlink()
    assert [not chapters_module._changes(chapter, run) for chapter in plan] == [False, False, True]
    (run.dir / "n.json").write_bytes(kept)
    sidecar = run.dir / ".keys" / "n.json.json"
    record = sidecar.read_text()
    sidecar.write_text(record.replace(json.loads(record)["digest"], "0" * 64))
    assert [not chapters_module._changes(chapter, run) for chapter in plan] == [False, False, True]
    sidecar.write_text(record)


def test_the_seed_of_the_run_and_the_text_of_a_chapter_count(finished, tmp_path):
    run_toys(finished)
    run = make_run(finished / "run")
    alone = chapters_module._plan_chapters(run, finished / "chapters")[2]
    assert not chapters_module._changes(alone, run)
    other = create_run({"run": "toy", "seed": 6}, tmp_path / "other")
    assert chapters_module._changes(
        chapters_module._Chapter(alone.path, alone.parameters | {"seed": 6}), run
    )
    assert chapters_module._changes(alone, other)
    edited = nbformat.read(alone.path, 4)
    edited.cells[0].source += " More prose."
    nbformat.write(edited, tmp_path / "03_alone.ipynb")
    assert chapters_module._changes(
        chapters_module._Chapter(tmp_path / "03_alone.ipynb", alone.parameters), run
    )


def test_a_failing_chapter_is_named_and_the_rest_stays(finished):
    run_toys(finished)
    run = make_run(finished / "run")
    before = printed(run, "03_alone")
    with pytest.raises(chapters_module.ReportError) as failure:
        run_toys(finished, **{"03_alone": {"denominator": 0}})
    message = str(failure.value)
    assert message.startswith("chapter 03_alone failed at In [4], ZeroDivisionError:")
    assert "1 / denominator" in message and "ZeroDivisionError: division by zero" in message
    assert "\x1b" not in message
    partial = run.dir / "chapters" / "03_alone.partial.ipynb"
    assert str(partial) in message
    outputs = [o for cell in nbformat.read(partial, 4).cells for o in cell.get("outputs", [])]
    assert [o.get("text") for o in outputs if o.output_type == "stream"] == ["so far\n"]
    assert printed(run, "03_alone") == before, "the last complete execution was lost"
    assert run_toys(finished) == ["reused"] * 3


def test_what_would_run_is_told_with_its_reason_and_nothing_is_written(finished, tmp_path):
    run_toys(finished)
    run, chapters = make_run(finished / "run", **{"01_makes": {"n": 3}}), finished / "chapters"
    before = {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}

    def what_would_run(run, **chosen):
        plan = chapters_module._choose_chapters(
            chapters_module._plan_chapters(run, chapters), **chosen
        )
        return {one.name: chapters_module._changes(one, run) for one in plan}

    plan = what_would_run(run)
    assert plan == {"01_makes": ["other parameters: n"], "02_reads": [], "03_alone": []}
    assert before == {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}
    kept = (run.dir / "n.json").read_bytes()
    (run.dir / "n.json").unlink()
    assert what_would_run(run, only=["2"]) == {
        "02_reads": ["n.json, which it reads, is gone"]}  # fmt: skip
    (run.dir / "n.json").write_bytes(kept)
    new = make_run(tmp_path / "new")
    assert what_would_run(new, start="02") == {
        "02_reads": ["it was not executed yet"], "03_alone": ["it was not executed yet"]}
    assert not (new.dir / "chapters").exists()


def test_chapters_are_chosen_by_number_or_name_and_others_are_left(finished, tmp_path):
    run = make_run(tmp_path / "run")
    done = chapters_module._run_report(run, (), finished / "chapters", ["3", "01_makes"])
    assert list(done) == ["01_makes", "03_alone"]
    done = chapters_module._run_report(run, (), finished / "chapters", start="02")
    assert done == {"02_reads": "executed", "03_alone": "reused"}
    done = chapters_module._run_report(run, (), finished / "chapters", before="02_reads")
    assert list(done) == ["01_makes"]
    assert chapters_module._run_report(run, (), finished / "chapters", before="1") == {}
    with pytest.raises(parameters_module.ParameterError, match="no chapter '04'"):
        chapters_module._run_report(run, (), finished / "chapters", ["04"])


def test_a_single_chapter_that_fails_names_those_before_it_that_are_not_current(tmp_path):
    chapters = write_toys(tmp_path / "chapters")
    run = make_run(tmp_path / "run")
    with pytest.raises(chapters_module.ReportError) as failure:
        chapters_module._run_report(run, (), chapters, ["02"])
    assert "no n.json in the run" in str(failure.value)
    assert "not current: 01_makes (it was not executed yet)" in str(failure.value)
    assert f"--run-dir {run.dir} --before 02` runs them" in str(failure.value)
    chapters_module._run_report(run, (), chapters, ["01"])
    (run.dir / "n.json").write_text("no number")
    with pytest.raises(chapters_module.ReportError) as failure:
        chapters_module._run_report(run, (), chapters, ["02"])
    assert "not current:" not in str(failure.value), "the chapter before it is not to blame"


def test_the_others_run_where_a_chapter_fails_if_they_are_to(tmp_path, capsys):
    chapters = write_toys(tmp_path / "chapters")
    write_chapter(chapters / "00_fails.ipynb", "1 / 0")
    run = make_run(tmp_path / "run", **{"03_alone": {"denominator": 0}})
    with pytest.raises(chapters_module.ReportError) as failure:
        chapters_module._run_report(run, (), chapters, keep_going=True)
    for said in ("chapter 00_fails failed", "chapter 03_alone failed", "2 of 4 failed"):
        assert said in str(failure.value)
    assert printed(run, "02_reads") == "twice: 4\n"


def test_a_kernel_that_dies_is_an_error_with_the_chapter(tmp_path, capfd):
    code = "import os\nos.write(2, b'last words of a library')\nos._exit(1)"
    write_chapter(tmp_path / "chapters" / "01_dies.ipynb", code)
    with pytest.raises(
        chapters_module.ReportError, match="chapter 01_dies: its process died"
    ) as failure:
        run_toys(tmp_path)
    assert "last words of a library" in str(failure.value)
    assert "last words" not in capfd.readouterr().err


def test_the_kernel_is_this_python_whatever_kernels_a_user_has(tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({
        "argv": ["/nonexistent/python", "{connection_file}"], "display_name": "python3",
        "language": "python"}))  # fmt: skip
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    write_chapter(tmp_path / "chapters" / "01_which.ipynb", "import sys\nprint(sys.executable)")
    run_toys(tmp_path)
    assert printed(make_run(tmp_path / "run"), "01_which") == f"{sys.executable}\n"


def test_a_chapter_runs_in_its_own_folder_as_in_jupyterlab(tmp_path):
    write_chapter(tmp_path / "chapters" / "01_where.ipynb", "import os\nprint(os.getcwd())")
    here = Path.cwd()
    run_toys(tmp_path)
    assert printed(make_run(tmp_path / "run"), "01_where") == f"{tmp_path / 'chapters'}\n"
    assert Path.cwd() == here


def test_papermill_alone_runs_a_chapter_of_a_run(finished, tmp_path):
    run_toys(finished)
    papermill.execute_notebook(
        finished / "chapters" / "02_reads.ipynb", tmp_path / "out.ipynb",
        {"run_dir": str(finished / "run"), "seed": 1}, progress_bar=False,
    )  # fmt: skip
    assert "twice: 4" in (tmp_path / "out.ipynb").read_text()


def test_papermill_with_other_parameters_leaves_a_notice_in_the_notebook(tmp_path):
    """In that of papermill alone; the report's own execution has the run's parameters."""
    (tmp_path / "settings.ini").touch()
    chapters = write_toys(tmp_path / "nbs" / "report")
    run = make_run(tmp_path / "runs" / "toy", **{"01_makes": {"n": 3}})
    chapters_module._run_report(run, (), chapters, ["01"])
    for seed, n, notice in ((5, 3, ""), (5, 4, "    n = 3\n"), (6, 3, "    seed = 5\n")):
        out = run.dir / "chapters" / "by_hand.ipynb"
        papermill.execute_notebook(
            chapters / "01_makes.ipynb", out, {"run_dir": str(run.dir), "seed": seed, "n": n},
            progress_bar=False, cwd=tmp_path,
        )  # fmt: skip
        said = printed(run, "by_hand")
        assert notice in said if notice else not said
    assert printed(run, "01_makes") == ""


@pytest.mark.parametrize(
    "chapters, message",
    [
        ({"01_makes": {"m": 3}}, "01_makes: no parameter 'm'. There is: seed, n."),
        ({"01_makes": {"run_dir": "x"}}, "01_makes: no parameter 'run_dir'. There is: seed, n."),
        ({"04_cnn": None}, "no chapter '04_cnn'. There is: 01_makes, 02_reads, 03_alone."),
    ],
)
def test_what_a_chapter_does_not_have_is_refused_before_anything_runs(tmp_path, chapters, message):
    write_toys(tmp_path / "chapters")
    prepared = []
    run = create_run({"run": "toy", "seed": 1, "chapters": chapters}, tmp_path / "run")
    with pytest.raises(parameters_module.ParameterError) as refusal:
        chapters_module._run_report(run, [("prepare", prepared.append)], tmp_path / "chapters")
    assert message in str(refusal.value)
    assert not prepared and not (run.dir / "chapters").exists()


def test_a_chapter_without_parameters_or_kernel_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    path = write_chapter(tmp_path / "chapters" / "01_bare.ipynb", parameters="n = 1")
    with pytest.raises(chapters_module.ReportError, match="sets run_dir and seed, found n"):
        chapters_module._plan_chapters(run, path.parent)
    notebook = nbformat.read(path, 4)
    notebook.metadata = {}
    nbformat.write(notebook, path)
    with pytest.raises(chapters_module.ReportError, match=r"01_bare\.ipynb: No kernel name"):
        chapters_module._plan_chapters(run, path.parent)
    path.unlink()
    with pytest.raises(chapters_module.ReportError, match="no chapters in"):
        chapters_module._plan_chapters(run, path.parent)


def test_a_chapter_that_is_not_python_is_named(tmp_path):
    write_chapter(tmp_path / "chapters" / "01_typo.ipynb", "print('a'")
    with pytest.raises(chapters_module.ReportError, match="chapter 01_typo is not Python"):
        run_toys(tmp_path)


def test_steps_count_as_executed_when_they_make_something(tmp_path):
    write_chapter(tmp_path / "chapters" / "01_quick.ipynb")
    run = make_run(tmp_path / "run")

    def makes(run):
        return run.make("a.json", lambda path: path.write_text("1"))

    steps = [("makes", makes), ("outside", lambda run: True), ("nothing", lambda run: False)]
    states = [list(chapters_module._run_report(run, steps, tmp_path / "chapters").values())[:3]
              for _ in range(2)]  # fmt: skip
    assert states == [["executed", "executed", "reused"], ["reused", "executed", "reused"]]


def test_a_failing_step_leaves_its_own_error(tmp_path, capsys):
    write_chapter(tmp_path / "chapters" / "01_quick.ipynb")

    def fails(run):
        raise FileNotFoundError("no songs")

    with pytest.raises(FileNotFoundError, match="no songs"):
        chapters_module._run_report(
            make_run(tmp_path / "run"), [("catalog", fails)], tmp_path / "chapters"
        )
    assert capsys.readouterr().out.split() == ["[", "1/2]", "catalog", "failed"]


def test_a_chapter_depends_on_the_functions_that_it_uses():
    def digest(*cells):
        notebook = new_notebook(cells=[new_markdown_cell("from x"), *map(new_code_cell, cells)])
        return chapters_module._code_digest(notebook)

    used = digest("%matplotlib inline\n!ls\nfrom msd_genre.datasets import plays",
                  "plays.read_triplets(x)")
    assert used == digest("from msd_genre.datasets.plays import read_triplets\nread_triplets(x)")
    assert used != digest("from msd_genre.datasets import plays", "plays.read_mismatches(x)")
    assert digest("import numpy") == digest("from pathlib import Path")


@pytest.mark.parametrize(
    "text, message",
    [
        ("run: x\nchapter: {}", "no section 'chapter'. There is: run, seed, data, catalog"),
        ("- a\n- b", "expected `name: value` lines, found list"),
        ("a: [", "is not YAML"),
        ("catalog: 3", "expected `name: value` pairs in the section 'catalog'"),
        ("seed: one", "expected an integer from 0 on as `seed`, found 'one'"),
        ("run: 2026", "expected a name of a folder as `run`, found 2026"),
        ("set: [a=1]", "no section 'set'"),
    ],
)
def test_parameters_that_cannot_be_meant(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(parameters_module.ParameterError) as refusal:
        parameters_module.read_params(path)
    assert str(path) in str(refusal.value) and message in str(refusal.value)


def test_parameters_say_what_run_they_are(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("chapters:\n")
    params = parameters_module.read_params(path)
    assert (params["run"], params["seed"], params["params_file"]) == ("mine", 1, path.as_posix())
    with pytest.raises(parameters_module.ParameterError, match="no parameter file"):
        parameters_module.read_params(tmp_path / "none.yaml")


def test_importing_the_runner_loads_no_science():
    code = "import sys, msd_genre.report; print([m for m in sys.modules if m in " \
        "('tensorflow', 'sklearn', 'matplotlib', 'nbdev', 'msd_genre.models')])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_a_run_whose_chapter_or_artefact_has_changed_is_not_published(finished, tmp_path):
    run_toys(finished)
    run, chapters = make_run(finished / "run"), finished / "chapters"
    chapters_module._ensure_up_to_date(run, chapters)
    kept = (run.dir / ".keys" / "n.json.json").read_text()
    said = json.loads(kept)
    (run.dir / ".keys" / "n.json.json").write_text(json.dumps(said | {"digest": "0" * 64}))
    with pytest.raises(
        chapters_module.ReportError, match=r"01_makes: n.json, which it reads, has changed"
    ):
        chapters_module._ensure_up_to_date(run, chapters)
    (run.dir / ".keys" / "n.json.json").write_text(kept)
    chapters_module._ensure_up_to_date(run, chapters)
    original = (chapters / "03_alone.ipynb").read_bytes()
    edited = nbformat.read(chapters / "03_alone.ipynb", 4)
    edited.cells[0].source += " More prose."
    nbformat.write(edited, chapters / "03_alone.ipynb")
    with pytest.raises(
        chapters_module.ReportError, match="is stale and is not published:\n  03_alone"
    ):
        chapters_module._ensure_up_to_date(run, chapters)
    (chapters / "03_alone.ipynb").write_bytes(original)


def declare(tmp_path, declared):
    chapters = tmp_path / "chapters"
    for name in ("01_last", "02_first", "03_alone"):
        write_chapter(chapters / f"{name}.ipynb")
    (chapters / "_chapters.yml").write_text(declared)
    return chapters


def test_chapters_run_after_those_whose_artifacts_they_read(tmp_path):
    chapters = declare(tmp_path, "01_last: {reads: [catalog.parquet, n.csv], models: [02_first]}\n"
                                 "02_first: {writes: [n.csv]}")  # fmt: skip
    plan = chapters_module._plan_chapters(make_run(tmp_path / "run"), chapters)
    assert [one.name for one in plan] == ["02_first", "01_last", "03_alone"]
    assert chapters_module.chapter_graph(chapters)["01_last"] == {"02_first"}


@pytest.mark.parametrize("declared, message", [
    ("01_last: {reads: [n.csv]}", "01_last reads n.csv, which no step and no chapter makes"),
    ("01_last: {reads: [a], writes: [b]}\n02_first: {reads: [b], writes: [a]}",
     "chapters cannot need each other"),
])  # fmt: skip
def test_chapters_that_cannot_be_ordered(tmp_path, declared, message):
    with pytest.raises(chapters_module.ReportError, match=message):
        chapters_module._plan_chapters(make_run(tmp_path / "run"), declare(tmp_path, declared))


OWN_MODEL = """
from msd_genre.models.networks import register_model


@register_model("toy", sizes={"width": 3})
def toy(n_classes, shapes, sizes):
    return 1
"""


def test_a_chapter_follows_the_model_that_it_uses_in_a_module_of_the_run(tmp_path):
    folder, source = tmp_path / "chapters", tmp_path / "my_toy_models.py"
    source.write_text(OWN_MODEL)
    ask = "from msd_genre.models.networks import default_sizes\nprint(default_sizes({!r}))"
    write_chapter(folder / "01_toy.ipynb", OPEN, ask.format("toy"))
    write_chapter(folder / "02_other.ipynb", OPEN, ask.format("joint"))
    params = {"run": "own", "seed": 1, "modules": ["my_toy_models"],
              "params_file": str(tmp_path / "own.yaml")}  # fmt: skip

    def report():
        done = chapters_module._run_report(create_run(params, tmp_path / "run"), (), folder)
        return list(done.values())

    assert report() == ["executed", "executed"]
    assert report() == ["reused", "reused"]
    source.write_text(OWN_MODEL.replace("return 1", "return 2"))
    run = create_run(params, tmp_path / "run")
    changes = [chapters_module._changes(one, run)
               for one in chapters_module._plan_chapters(run, folder)]  # fmt: skip
    assert changes == [["the model toy, which it uses, has changed"], []]
