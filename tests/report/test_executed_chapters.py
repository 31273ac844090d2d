"""Every chapter once, on the smallest demo: as the runner does it, and by papermill alone."""

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
import yaml

from msd_genre.corpus import catalog, features
from msd_genre.report import chapters
from msd_genre.workspace import runs
from msd_genre.workspace.artifacts import ARTIFACTS

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "nbs" / "report").glob("*.ipynb"))
NAMES = [path.stem for path in CHAPTERS]


def outputs(run, name):
    """The outputs of an executed chapter, each with its cell."""
    notebook = nbformat.read(chapters._executed_path(run, name), 4)
    return [(cell, o) for cell in notebook.cells for o in cell.get("outputs", [])]


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_shows_its_figures_with_captions_and_no_warning(demo_run, name):
    shown = outputs(demo_run, name)
    assert not [o for _, o in shown if o.output_type == "error"]
    said = [o.text for _, o in shown if o.get("name") == "stderr"
            and ("Warning" in o.text or "WARNING:tensorflow" in o.text)]  # fmt: skip
    assert not said
    for kind, key in [("fig-", "image/png"), ("tbl-", "text/markdown")]:
        labelled = [(c, o) for c, o in shown if f"#| label: {kind}" in c.source]
        cells = {c.id for c, _ in labelled}
        assert cells, f"{name} has no cell labelled {kind}"
        with_data = {c.id for c, o in labelled if key in o.get("data", {})}
        with_caption = {
            c.id for c, o in labelled
            if o.get("metadata", {}).get("msd_genre", {}).get("role") == "caption"
        }  # fmt: skip
        assert with_data == with_caption == cells


def test_the_run_holds_what_the_guide_says(demo_run):
    for name in ["params.yaml", "stamp.json", "catalog.parquet", "split.parquet", "results.csv",
                 "songs", "features", "lyrics", "embedding/tsne.parquet",
                 "spaces/joint-ours-artist-f0-s1/songs.faiss", "pages/song_map.html"]:
        assert (demo_run.dir / name).exists(), name
    assert demo_run.stamp["fictional"] is True and demo_run.stamp["data"]
    models = {p.name for p in (demo_run.dir / "models").iterdir()}
    assert models >= {f"{model}-{variant}-artist-f0-s1" for model in ("baseline", "cnn", "lstm")
                      for variant in ("as_written", "as_coded")}
    assert models >= {f"{name}-artist-f0-s1" for name in ("majority", "logistic", "trees")}


def declared_path(name):
    """The declared artifact that a path of a run belongs to."""
    found = [one.path for one in ARTIFACTS
             if fnmatch(name, one.path) or fnmatch(name, f"{one.path}/*")]  # fmt: skip
    return found[0] if found else f"{name}, which is not declared"


def columns_of(table):
    """The columns of a table."""
    return set(pd.read_csv(table) if table.suffix == ".csv" else pd.read_parquet(table))


def test_every_artifact_is_declared(demo_run):
    assert {declared_path(name) for name in demo_run.sidecars()} <= {one.path for one in ARTIFACTS}


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda one: one.path)
def test_files_and_columns_are_those_that_are_declared(demo_run, artifact):
    """A table that is an artifact has the columns, and a folder the files, that are declared."""
    names = [key for key in ", ".join(artifact.columns).split(", ") if key]
    declared = {name for name in names if not Path(name).suffix and name != "*"}
    files, columns = set(), set()
    for path in demo_run.dir.glob(artifact.path):
        files |= {one.as_posix() for one in path.rglob("*") if one.is_file()}
        columns |= columns_of(path) if path.suffix in (".csv", ".parquet") else set()
    patterns = [f"*/{name}" for name in set(names) - declared]
    assert [one for one in files if not any(fnmatch(one, p) for p in patterns)] == []
    assert [one for one in patterns if files and not any(fnmatch(f, one) for f in files)] == []
    assert columns in (declared, set())  # none: this run is too small to make it


def test_chapters_read_and_write_what_they_declare(demo_run):
    """Who made an artifact is told by the times of its sidecar and of the chapters' records."""
    declared = yaml.safe_load((ROOT / "nbs" / "report" / "_chapters.yml").read_text())
    records = sorted((demo_run.dir / "chapters").glob("[0-9][0-9]_*.json"),
                     key=lambda path: path.stat().st_mtime)  # fmt: skip
    done = [(path.stat().st_mtime, path.stem) for path in records]
    steps = {one.path for one in ARTIFACTS if one.made_by in ("catalog", "features")}
    maker, untracked = {}, {"longer", "popularity.csv"}  # these have no sidecar
    for name in demo_run.sidecars():
        made = (demo_run.dir / ".keys" / f"{name.replace('/', '__')}.json").stat().st_mtime
        maker[name] = next(chapter for when, chapter in done if made <= when)
    for path, (_, chapter) in zip(records, done, strict=True):
        entry, reads = declared[chapter], json.loads(path.read_text())["reads"]
        wrote = {declared_path(name) for name, by in maker.items() if by == chapter} - steps
        assert wrote == set(entry.get("writes", [])) - untracked, chapter
        read = {declared_path(name) for name in reads}
        assert read - set(entry.get("writes", [])) - {"models/*"} == set(entry["reads"]), chapter
        trained = {"/".join(name.split("/")[:2]) for name in reads if name.startswith("models/")}
        others = {maker[name] for name in trained} - {chapter}
        assert others == set(entry.get("models", [])), chapter


def test_the_scores_are_those_of_the_predictions(demo_run):
    from msd_genre.evaluation import metrics

    results = demo_run.read("results.csv").set_index(["model", "score"])["value"]
    for model in ("baseline", "cnn", "lstm"):
        table = demo_run.read(f"models/{model}-as_written-artist-f0-s1/predictions.parquet")
        test = table.query("part == 'test'")
        genres = sorted({*test.genre, *(c[2:] for c in test.filter(like="p_"))})
        right = test.filter(like="p_").idxmax(axis=1).str[2:] == test.genre
        assert results[f"{model} as written", "accuracy"] == right.mean()
        assert metrics.scores(test, genres)["accuracy"] == right.mean()


def test_a_network_of_ones_own_stands_beside_all_models(demo_run):
    others = demo_run.params["chapters"]["07_results"]["others"]
    assert others and set(others) <= set(demo_run.read("results.csv")["model"])


def test_a_second_run_reuses_everything(demo_run):
    steps = [("catalog", catalog.build_catalog), ("features", features.build_store)]
    again = chapters._run_report(runs.open_run(demo_run.dir), steps)
    assert set(demo_run.states) == {"executed"}
    assert set(again.values()) == {"reused"}


def test_papermill_alone_makes_the_same_scores_to_the_bit(demo_run, tmp_path):
    """A second run of the same parameters and seed, its chapters executed without the runner."""
    run = runs.create_run(demo_run.params, tmp_path / "again")
    catalog.build_catalog(run)
    features.build_store(run)
    for path in [p for p in CHAPTERS if p.stem in ("02_lyrics", "03_splits", "04_baseline")]:
        chosen = demo_run.params["chapters"].get(path.stem, {})
        given = {"run_dir": str(run.dir), "seed": 1} | chosen
        papermill.execute_notebook(path, tmp_path / path.name, given, kernel_name="python3",
                                   progress_bar=False, cwd=path.parent)  # fmt: skip
    for name in ("catalog.parquet", "split.parquet",
                 "models/baseline-as_written-artist-f0-s1/predictions.parquet"):
        assert run.read(name).equals(demo_run.read(name)), name
    mine, theirs = (features.open_store(r.path("features")) for r in (run, demo_run))
    assert (mine.timbre[:] == theirs.timbre[:]).all()


def test_the_first_chapter_does_without_anything_set_aside(
    demo_run, demo_corpus, drop_broken_rows, tmp_path
):
    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    for path in demo_run.read("songs/rejected.parquet")["path"]:
        (corpus / path).unlink()
    drop_broken_rows(corpus)
    labels = next(corpus.glob("tagtraum/*.cls"))
    labels.rename(labels.with_name("msd-MAGD-genreAssignment.cls"))
    run = runs.create_run(demo_run.params | {"data": {"folder": str(corpus)}}, tmp_path / "run")
    catalog.build_catalog(run)
    features.build_store(run)
    assert catalog.set_aside(run).empty
    chapter = next(path for path in CHAPTERS if path.stem == "01_songs")
    papermill.execute_notebook(chapter, tmp_path / "out.ipynb", {"run_dir": str(run.dir)},
                               kernel_name="python3", progress_bar=False, cwd=chapter.parent)
    shown = (tmp_path / "out.ipynb").read_text()
    assert "0 song files and 0 rows of text files" in shown
    assert "**MAGD**. The editors" in shown and "tagtraum CD" not in shown


def test_a_chapter_of_a_run_that_is_not_there_says_what_to_run(tmp_path):
    command = [Path(sys.executable).parent / "papermill", CHAPTERS[0], tmp_path / "out.ipynb",
               "-k", "python3", "-p", "run_dir", str(tmp_path / "none"), "--no-progress-bar"]
    done = subprocess.run(command, cwd=CHAPTERS[0].parent, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no run in" in done.stderr and "make report" in done.stderr


def test_the_site_of_the_run_is_whole(demo_site):
    """Staging and rendering refuse references and links that lead nowhere."""
    for name in NAMES:
        page = (demo_site / "report" / f"{name}.html").read_text()
        assert "fictional" in page and "<img" in page
        assert page.count("<figcaption") + page.count("<caption") >= 2
    assert (demo_site / "report" / "song_map.html").is_file()
    assert 'href="report/song_map.html"' in (demo_site / "index.html").read_text()


def test_the_results_name_no_best_model_and_quote_the_scores_on_unseen_songs(demo_run):
    shown = [o["data"]["text/markdown"] for _, o in outputs(demo_run, "07_results")
             if "text/markdown" in o.get("data", {})]  # fmt: skip
    summary = next(text for text in shown if "## What it means" in text)
    assert not re.search(r"\bbest (by|model is)\b", summary, re.IGNORECASE)
    assert "@tbl-unseen" in summary and any("0.50 [0.42, 0.57]" in text for text in shown)
