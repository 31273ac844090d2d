"""The command line: quick to answer, plain in its errors, thin in between."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

from msd_genre import cli
from msd_genre.report import chapters
from msd_genre.synthetic import plan as plan_module
from msd_genre.synthetic import write
from msd_genre.workspace import runs
from msd_genre.workspace.parameters import ParameterError
from msd_genre.workspace.runs import _locked, create_run

ROOT = Path(__file__).parent.parent


def ask(*words):
    return CliRunner().invoke(cli.main, words, prog_name="msd-genre")


def test_the_command_is_installed():
    command = Path(sys.executable).parent / "msd-genre"
    seen = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert "0." in seen.stdout


@pytest.mark.parametrize(
    "words",
    [["report"], ["build"], ["site"], ["record"], ["verify"], ["sources"], ["fetch"],
     ["similar"], ["predict"], ["export"], ["demo", "write"]],
)
def test_each_command_teaches_by_example(words):
    shown = ask(*words, "--help")
    assert shown.exit_code == 0
    assert f"    msd-genre {' '.join(words)} " in shown.output


@pytest.mark.parametrize(
    "words, message",
    [
        (["report", "none.yaml"], "no parameter file none.yaml"),
        (["site", "runs/none"], "msd-genre report params/demo.yaml"),
        (["sources", "nowhere"], "no folder nowhere"),
        (["report", str(ROOT / "params" / "demo.yaml"), "--data", "x"], "params/sample.yaml"),
        (["similar", "A - B", "--run", "runs/none"], "msd-genre report params/demo.yaml"),
        (["export", "runs/none", "--into", "x"], "msd-genre report params/demo.yaml"),
    ],
)
def test_an_error_is_a_sentence_and_exit_code_1(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = ask(*words)
    assert seen.exit_code == 1
    assert seen.output.startswith("Error: ") and message in seen.output
    assert "Traceback" not in seen.output


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def breaks(*args, **kwargs):
        raise KeyError("a bug")

    monkeypatch.setattr(write, "write_demo", breaks)
    assert isinstance(ask("demo", "write", "anywhere").exception, KeyError)


def test_demo_write_passes_its_options_on(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        write, "write_demo", lambda folder, **options: asked.append((folder, options)) or folder
    )
    seen = ask("demo", "write", str(tmp_path / "mine"), "--songs", "1500", "--seed", "3")
    assert seen.exit_code == 0 and "1,500 fictional songs" in seen.output
    [(folder, options)] = asked
    assert folder == tmp_path / "mine" and options["n_songs"] == 1500 and options["seed"] == 3
    assert options["parameters"] is plan_module.PARAMETERS


def test_a_parameter_is_set_beside_the_file_and_checked_like_those_in_it(tmp_path):
    def plan(*settings):
        return ask("report", str(ROOT / "params" / "full.yaml"), "--run-dir", str(tmp_path / "run"),
                   "--dry-run", *(word for one in settings for word in ("--set", one)))

    seen = plan("02_lyrics.vectors=/vectors/of/mine.bin", "05_cnn.epochs=2")
    assert seen.exit_code == 0 and "02_lyrics" in seen.output
    for setting, said in [
        ("02_lyrics.vector=glove-6b-50d", "02_lyrics: no parameter 'vector'. There is: "),
        ("2_lyrics.vectors=x", "no chapter '2_lyrics'"),
        ("vectors=glove-6b-50d", "expected CHAPTER.PARAMETER=VALUE"),
        ("05_cnn.epochs", "expected CHAPTER.PARAMETER=VALUE"),
        ("catalogue.labels=tagtraum", "no section 'catalogue'"),
        ("05_cnn.epochs=[2", "the value is not YAML"),
        ("run.name=mine", "run holds 'full', no parameters"),
        ("seed=-2", "seed=-2: expected an integer from 0 on as `seed`, found -2"),
        ("05_cnn.epochs.first=2", "05_cnn.epochs holds 20, no parameters"),
    ]:
        refused = plan(setting)
        assert refused.exit_code == 1 and said in refused.output


def test_what_is_set_reaches_the_run_and_leaves_the_file_alone(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("chapters: {02_lyrics: {weighting: count}}\n")
    settings = ("02_lyrics.vectors=v.bin", "catalog.min_segments=200", "seed=7")
    params, folder = cli._resolve_run(str(path), str(tmp_path), None, f"{tmp_path}/run", settings)
    assert params["chapters"] == {"02_lyrics": {"weighting": "count", "vectors": "v.bin"}}
    assert params["catalog"] == {"min_segments": 200} and params["seed"] == 7
    assert folder == tmp_path / "run" and not folder.exists()
    assert path.read_text() == "chapters: {02_lyrics: {weighting: count}}\n"


def test_sources_lists_what_is_there_and_where_to_get_the_rest(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "tagtraum").mkdir()
    (tmp_path / "tagtraum" / "msd_tagtraum_cd1.cls").touch()
    seen = ask("sources", str(tmp_path))
    assert seen.exit_code == 0
    assert "tagtraum/msd_tagtraum_cd1.cls" in seen.output
    assert "missing: http" in seen.output and str(tmp_path) not in seen.output


def test_sources_asks_for_a_folder(monkeypatch):
    monkeypatch.delenv("MSD_GENRE_DATA", raising=False)
    seen = ask("sources")
    assert seen.exit_code == 2 and "MSD_GENRE_DATA" in seen.output


def test_where_the_songs_come_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").touch()
    monkeypatch.setenv("MSD_GENRE_DATA", "/songs/of/the/machine")

    def folder(section, data=None):
        return cli._resolve_data({"data": section}, data)["data"]["folder"]

    assert folder({"source": "demo", "songs": 9, "seed": 4}) == str(tmp_path / "data" / "demo-9-4")
    with_plays = folder({"source": "demo", "songs": 9, "seed": 4, "listeners": 90})
    other = folder({"source": "demo", "songs": 9, "parameters": {"elsewhere": 1.0}, "seed": 4})
    assert len({with_plays, other, str(tmp_path / "data" / "demo-9-4")}) == 3
    with pytest.raises(ParameterError, match="data: no parameter 'listener'"):
        folder({"source": "demo", "listener": 90})
    assert folder({"source": "folder", "folder": "own"}, "given") == str(tmp_path / "given")
    assert folder({"source": "folder", "folder": "own"}) == str(tmp_path / "own")
    assert folder({}) == "/songs/of/the/machine"
    monkeypatch.delenv("MSD_GENRE_DATA")
    assert folder(None) is None
    with pytest.raises(cli.DataError, match=r"no source 'web'\. There is: demo, folder"):
        folder({"source": "web"})


def test_the_demo_is_written_once_and_again_when_its_code_changed(tmp_path):
    folder = tmp_path / "data" / "demo-20-1"
    params = {"seed": 1, "data": {"songs": 20, "seed": 1, "folder": str(folder)}}
    run = create_run(params, tmp_path / "run")
    assert cli._write_demo_songs(run) and not cli._write_demo_songs(run)
    record = json.loads((folder / "demo.json").read_text())
    (folder / "demo.json").write_text(json.dumps(record | {"code": "older"}))
    assert cli._write_demo_songs(run)
    assert json.loads((folder / "demo.json").read_text()) == record


def test_a_record_holds_the_scores_and_no_path_of_this_machine(tmp_path):
    params = {"run": "tiny", "seed": 3, "data": {"source": "folder", "folder": str(tmp_path)}}
    run = create_run(params, tmp_path / "run")
    run.make("results.csv", lambda path: path.write_text("model,score,value\n"))
    done = ask("record", str(run.dir), "--out", str(tmp_path / "record"))
    assert done.exit_code == 0, done.output
    kept = {path.name: path.read_text() for path in (tmp_path / "record").iterdir()}
    assert set(kept) == {"results.csv", "stamp.json", "params.yaml"}
    assert not [name for name, text in kept.items() if str(tmp_path) in text]
    assert json.loads(kept["stamp.json"])["seed"] == 3


def test_a_record_has_the_tables_that_the_chapters_declare(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").touch()
    (tmp_path / "nbs" / "report").mkdir(parents=True)
    (tmp_path / "nbs" / "report" / "_record.yml").write_text("[scores/05_*.csv, none.csv]")
    monkeypatch.chdir(tmp_path)
    run = create_run({"run": "tiny", "seed": 3}, tmp_path / "run")
    for name in ("results.csv", "scores/05_a.csv", "scores/05_b.csv", "scores/07_a.csv"):
        run.make(name, lambda path, name=name: path.write_text(name))
    kept = chapters.record_run(run)
    assert kept == tmp_path / "results" / "tiny"
    tables = {path.relative_to(kept).as_posix(): path.read_text() for path in kept.rglob("*.csv")}
    assert {name: name for name in tables} == tables
    assert set(tables) == {"results.csv", "scores/05_a.csv", "scores/05_b.csv"}
    (tmp_path / "nbs" / "report" / "_record.yml").unlink()
    with pytest.raises(chapters.ReportError, match="expected the list of the tables"):
        chapters.record_run(run)


def test_the_chapters_declare_every_recorded_table():
    """So a run that is recorded again leaves no older table beside its own."""
    patterns = yaml.safe_load((ROOT / "nbs" / "report" / "_record.yml").read_text())
    for folder in (ROOT / "results").glob("*/stamp.json"):
        declared = {path for pattern in patterns for path in folder.parent.glob(pattern)}
        others = {folder.with_name(f"{name}.csv") for name in ("results", "trainings")}
        recorded = {*folder.parent.rglob("*.csv")} - others
        assert recorded <= declared


def test_songs_are_written_only_for_the_demo():
    steps = {source: [name for name, _ in cli._preparation({"data": {"source": source}})]
             for source in cli._DATA_SOURCES}  # fmt: skip
    assert steps == {"demo": ["demo songs", "catalog", "features"],
                     "folder": ["catalog", "features"]}  # fmt: skip


def test_build_makes_catalog_and_store_and_says_what_was_set_aside(demo_corpus, tmp_path):
    params = tmp_path / "mine.yaml"
    params.write_text("{run: mine, seed: 1, data: {source: folder}, catalog: {}, chapters: {}}")
    run_dir = tmp_path / "run"
    words = ("build", str(params), "--data", str(demo_corpus), "--run-dir", str(run_dir))
    seen = ask(*words, "--songs", str(demo_corpus / "data"))
    assert seen.exit_code == 0, seen.output
    assert "song files found" in seen.output and f"songs in {run_dir / 'features'}" in seen.output
    assert "set aside" in seen.output and "truncated" in seen.output
    made = {path: path.stat().st_mtime_ns for path in run_dir.glob("features/*")}
    assert ask(*words).exit_code == 0
    assert made == {path: path.stat().st_mtime_ns for path in run_dir.glob("features/*")}


@pytest.mark.parametrize("word", ["build", "report"])
def test_a_second_command_in_a_run_is_refused_and_changes_nothing(word, demo_corpus, tmp_path):
    params = tmp_path / "mine.yaml"
    params.write_text("{run: mine, seed: 1, data: {source: folder}, catalog: {}, chapters: {}}")
    with _locked(tmp_path / "run"):
        seen = ask(word, str(params), "--data", str(demo_corpus), "--run-dir", f"{tmp_path}/run")
    assert seen.exit_code == 1 and "another msd-genre command is at work in" in seen.output
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.fixture
def two_chapters(tmp_path, monkeypatch):
    """A project of two toy chapters, the first of which fails; no songs are prepared."""
    tagged = new_code_cell('run_dir = "x"\nseed = 1', metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    (tmp_path / "nbs" / "report").mkdir(parents=True)
    (tmp_path / "settings.ini").touch()
    (tmp_path / "toy.yaml").write_text("{run: toy, seed: 1}")
    for name, code in (("01_fails", "1 / 0"), ("02_alone", "print(1)")):
        page = new_notebook(cells=[tagged, new_code_cell(code)], metadata={"kernelspec": kernel})
        nbformat.write(page, tmp_path / "nbs" / "report" / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSD_GENRE_DATA", raising=False)
    monkeypatch.setattr(cli, "_preparation", lambda params: [])
    return tmp_path


def test_a_report_that_keeps_going_ends_with_status_1_and_what_failed(two_chapters):
    seen = ask("report", "toy.yaml", "--keep-going")
    assert seen.exit_code == 1
    assert "Error: chapter 01_fails failed" in seen.output and "1 of 2 failed" in seen.output
    assert (two_chapters / "runs" / "toy" / "chapters" / "02_alone.ipynb").is_file()
    assert not (two_chapters / "_site").exists()
    planned = ask("report", "toy.yaml", "--dry-run").output.splitlines()
    assert [line.split(maxsplit=1) for line in planned[:2]] == [
        ["01_fails", "runs: it was not executed yet"], ["02_alone", "reused"]]  # fmt: skip


def test_a_single_chapter_ends_with_what_the_site_still_needs(two_chapters):
    page = two_chapters / "nbs" / "report" / "01_fails.ipynb"
    page.write_text(page.read_text().replace("1 / 0", "1 / 1"))
    first = ask("report", "toy.yaml", "--only", "1")
    assert f"`msd-genre site {two_chapters / 'runs' / 'toy'}` makes it" in first.output
    page.write_text(page.read_text().replace("1 / 1", "2 / 1"))
    second = ask("report", "toy.yaml", "--only", "2")
    assert second.exit_code == 0 and "msd-genre site" not in second.output
    assert "is stale and is not published:\n  01_fails: its cells have changed" in second.output
    assert "Run `msd-genre report toy.yaml` again" in second.output


def test_a_dry_run_writes_nothing_and_knows_chapters_by_number_and_name(two_chapters):
    for words in (["--only", "2"], ["--only", "02_alone"], ["--from", "02"]):
        seen = ask("report", "toy.yaml", "--dry-run", *words)
        assert seen.exit_code == 0 and "01_fails" not in seen.output
        assert seen.output.startswith("02_alone             runs: it was not executed yet\n")
    seen = ask("report", "toy.yaml", "--dry-run", "--only", "3")
    assert seen.exit_code == 1
    assert "no chapter '3'. There is: 01_fails, 02_alone." in seen.output
    assert not (two_chapters / "runs").exists()


def test_a_report_ends_with_what_each_chapter_took(two_chapters):
    seen = ask("report", "toy.yaml", "--only", "2")
    assert seen.exit_code == 0, seen.output
    table = seen.output.partition("What each took when it was made")[2].splitlines()
    assert table[1].split() == ["step", "attempts", "seconds", "processor_s", "memory_gb"]
    name, attempts, *cost = table[2].split()
    assert (name, attempts) == ("02_alone", "1") and all(float(one) > 0 for one in cost)
    again = ask("report", "toy.yaml", "--only", "2").output
    assert "reused" in again and table[2] in again, "what was reused cost what it cost"


def test_build_writes_the_demo_songs_that_it_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").touch()
    (tmp_path / "demo.yaml").write_text(
        "{run: d, seed: 1, data: {source: demo, songs: 60, seed: 4}, catalog: {}, chapters: {}}"
    )
    seen = ask("build", "demo.yaml")
    assert seen.exit_code == 0, seen.output
    assert (tmp_path / "data" / "demo-60-4" / "demo.json").is_file()
    assert f"songs in {tmp_path / 'runs' / 'd' / 'features'}" in seen.output


def test_a_finished_run_verifies_and_a_spoilt_one_is_not_published(
    demo_run, tmp_path, monkeypatch
):
    run = shutil.copytree(demo_run.dir, tmp_path / "run")
    seen = ask("verify", str(run))
    assert seen.exit_code == 0 and "results.csv" in seen.output and "NO" not in seen.output
    assert ask("record", str(run), "--out", str(tmp_path / "record")).exit_code == 0
    stored = run / "models" / "cnn-as_written-artist-f0-s1" / "predictions.parquet"
    table = pd.read_parquet(stored)
    table.sample(frac=1, random_state=0).to_parquet(stored)
    seen = ask("verify", str(run))
    assert seen.exit_code == 1 and "its content is not what was written" in seen.output
    (run / "results.csv").unlink()
    given = yaml.safe_load((run / "params.yaml").read_text()).get("params_file", "params/demo.yaml")
    for words in (["record", str(run), "--out", str(tmp_path / "record")], ["site", str(run)]):
        seen = ask(*words)
        assert seen.exit_code == 1 and "is stale and is not published" in seen.output
        assert "results.csv: it is gone" in seen.output
        assert f"msd-genre report {given} --run-dir {run} --data" in seen.output
    usual = shutil.copytree(run, tmp_path / "runs" / "smallest")
    for module in (chapters, runs):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    shutil.copytree(ROOT / "nbs" / "report", tmp_path / "nbs" / "report")
    seen = ask("site", str(usual))
    assert "is stale" in seen.output and "--run-dir" not in seen.output


@pytest.mark.slow
def test_raw_data_that_have_changed_are_noticed(demo_run, demo_corpus, tmp_path):
    """The run is not published then; where they are gone, that is said and it may be."""
    run, corpus = shutil.copytree(demo_run.dir, tmp_path / "run"), tmp_path / "corpus"
    params = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(params.replace(str(demo_corpus), str(corpus)))
    gone = ask("verify", str(run))
    assert gone.exit_code == 0 and "were not compared, since they are not there" in gone.output
    shutil.copytree(demo_corpus, corpus)
    same = ask("verify", str(run))
    assert same.exit_code == 0 and "raw data" not in same.output
    next(corpus.rglob("TR*.h5")).unlink()
    changed = ask("verify", str(run))
    assert changed.exit_code == 1 and "the raw data have changed" in changed.output
    assert "the raw data have changed" in ask("site", str(run)).output


def test_a_run_is_asked_for_similar_songs_a_walk_a_new_song_and_its_model(
    demo_run, demo_corpus, tmp_path
):
    songs = demo_run.read("catalog.parquet").query("dropped_at.isna()")
    first, last = songs["track_id"].iloc[[0, -1]]
    where = ("--run", str(demo_run.dir), "--model", "joint-ours")
    near = ask("similar", first, "-n", "3", *where)
    assert near.exit_code == 0 and len(near.output.splitlines()) == 4, near.output
    walk = ask("similar", first, last, "--playlist", "5", *where)
    assert walk.exit_code == 0 and len(walk.output.splitlines()) == 6, walk.output
    assert ask("similar", first, last, *where).exit_code == 2
    unknown = ask("similar", "Nobody - Nothing", *where)
    assert unknown.exit_code == 1 and "Spelt most like it" in unknown.output
    path = str(demo_corpus / songs["path"].iloc[0])
    seen = ask("predict", path, *where)
    assert seen.exit_code == 0 and "nearest songs" in seen.output and "on the map" in seen.output
    assert ask("predict", *where).exit_code == 2
    made = ask("export", str(demo_run.dir), "--model", "joint-ours", "--into", f"{tmp_path}/m")
    assert made.exit_code == 0, made.output
    taken = ask("predict", path, "--model", f"{tmp_path}/m")
    assert taken.exit_code == 0 and "nearest songs" not in taken.output
    assert taken.output.splitlines()[:4] == seen.output.splitlines()[:4]
