"""Each recipe of the guide `extending` is carried out from outside of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from msd_genre import cli
from msd_genre.corpus import catalog, splits
from msd_genre.datasets import labels
from msd_genre.evaluation import metrics, score_tables
from msd_genre.models import classical, networks, training
from msd_genre.report import chapters
from msd_genre.workspace import digests, runs

ROOT = Path(__file__).parent.parent
GUIDE = nbformat.read(ROOT / "nbs" / "guides" / "extending.ipynb", 4)
REGISTRIES = (networks.MODELS, classical.BASELINES, metrics.SCORES, labels.LABELS,
              splits.RESAMPLINGS)  # fmt: skip


def blocks(title, language="python"):
    """The blocks of a section of the guide."""
    text = "\n".join(cell.source for cell in GUIDE.cells)
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


@pytest.fixture
def restored_registries(monkeypatch):
    """Remove what a test registers."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", {**registry._entries})
    monkeypatch.setattr(digests, "_FOLLOWED", {*digests._FOLLOWED})
    monkeypatch.setattr(cli.main, "commands", {**cli.main.commands})


@pytest.fixture
def my_run(own_run, restored_registries, tmp_path, monkeypatch):
    """The finished run, whose parameters name a module with the recipes of this page."""
    titles = ("A model", "A score", "A label source", "A resampling")
    (tmp_path / "my_music.py").write_text("\n\n".join(
        block for title in titles for block in blocks(title)))  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    path = own_run.dir / "params.yaml"
    params = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({
        **params, "modules": ["my_music"], "params_file": str(tmp_path / "mine.yaml")}))
    yield runs.open_run(own_run.dir)
    sys.modules.pop("my_music", None)


def run_chapter(run, number, folder):
    """Run one chapter in a process of its own; return what is printed."""
    code = ("import pathlib, sys; from msd_genre.report.chapters import _run_report;"
            "from msd_genre.workspace.runs import open_run;"
            "folder = pathlib.Path(sys.argv[3]) if sys.argv[3:] else None;"
            "_run_report(open_run(sys.argv[1]), chapters_dir=folder, only=[sys.argv[2]])")
    words = [str(run.dir), number, *([str(folder)] if folder else [])]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, text=True,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def stale_chapters(run):
    return [one.name for one in chapters._plan_chapters(run) if chapters._changes(one, run)]


def test_additions_leave_what_does_not_use_them_current(my_run):
    """All chapters but those that list every entry: 4 all baselines, 7 all scores."""
    assert runs.stale(my_run) == {}
    assert stale_chapters(my_run) == ["04_baseline", "07_results"]


def test_a_model_and_a_classifier_are_trained_and_scored(my_run):
    network = training.train(my_run, "resnet", epochs=1, batch_size=64, verbose=False)
    folder = classical.train_classical(my_run, "knn")
    lines = [{"name": "ResNet", "folders": [f"models/{network.name}"]},
             {"name": "neighbors", "folders": [f"models/{folder.name}"]}]
    table = score_tables.make_table(my_run, "scores/mine.csv", lines, n_boot=50,
                                    scores=["accuracy", "kappa"])  # fmt: skip
    assert set(table["score"]) == {"accuracy", "kappa"} and len(table) == 4
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert runs.stale(my_run) == {}


def test_chapter_7_shows_a_model_with_and_without_a_cost(my_run):
    path = my_run.dir / "params.yaml"
    params = yaml.safe_load(path.read_text())
    seven = params["chapters"].setdefault("07_results", {})
    seven["others"] = {**seven.get("others", {}), "1-D ResNet": "resnet-custom",
                       "free of cost": "resnet-custom-free"}  # fmt: skip
    path.write_text(yaml.safe_dump(params))
    run = runs.open_run(my_run.dir)
    for fold in seven.get("folds", [0]):
        one = training.train(run, "resnet", fold=fold, epochs=1, batch_size=64, verbose=False)
        free = one.name.replace("custom", "custom-free")
        run.make(f"models/{free}", lambda folder, one=one: shutil.copytree(
            one.dir, folder, ignore=shutil.ignore_patterns("cost.json")))  # fmt: skip
    run_chapter(run, "07", None)
    assert {"1-D ResNet", "free of cost"} <= set(run.scores()["model"])
    assert "kappa" in set(run.scores()["score"])


def test_a_label_set_and_a_resampling_are_known_by_name(my_run):
    assert labels.label_source("My_Labels.cls") == "My labels"
    assert "Polka" in labels.known_genres()
    assert catalog._catalog_options({"labels": "mine"})["labels"] == "mine"
    songs = catalog.kept(my_run.catalog())
    split = splits.make_split(songs, "artist", 1, min_songs=2, allow_absent=True,
                              resampling="at_most_200")  # fmt: skip
    assert set(split["copies"]) == {1}


def test_a_figure_is_a_function_from_a_table(demo_corpus):
    place = {}
    exec(blocks("A figure")[0], place)
    songs = pd.DataFrame({"genre": ["Rock", "Rock", "Jazz"], "year": [1990, 1990, None]})
    assert place["songs_by_year"](songs).axes[0].get_xlabel() == "year"


def test_a_chapter_is_run_after_those_that_it_needs(own_run, tmp_path):
    folder = shutil.copytree(ROOT / "nbs" / "report", tmp_path / "report")
    (entry,), (code,) = blocks("A chapter", "yaml"), blocks("A chapter")
    with (folder / "_chapters.yml").open("a") as file:
        file.write(entry)
    cells = [new_markdown_cell("# Mine\n\n> The three best models."),
             new_code_cell('run_dir = "runs/demo"\nseed = 1', metadata={"tags": ["parameters"]}),
             new_code_cell(code)]  # fmt: skip
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}),
                   folder / "14_mine.ipynb")  # fmt: skip
    assert chapters.chapter_graph(folder)["14_mine"] == {"07_results"}
    assert "14_mine" in run_chapter(own_run, "14", folder)
    executed = nbformat.read(chapters._executed_path(own_run, "14_mine"), 4)
    (shown,) = [one for cell in executed.cells for one in cell.get("outputs", [])]
    assert "low" in shown.data["text/plain"]


def test_a_dataset_is_one_entry(tmp_path):
    """In a copy of the package: its file is found, and its page is reported."""
    copy = shutil.copytree(ROOT / "msd_genre", tmp_path / "msd_genre")
    with (copy / "resources" / "downloads.yaml").open("a") as file:
        file.write("\n" + blocks("A dataset", "yaml")[0])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lastfm_tags.db").touch()
    code = ("from msd_genre.files.layout import _describe, find_layout\n"
            "table = _describe(find_layout('data')).set_index('source')\n"
            "print(table.loc['tags', 'file'], table.loc['tags', 'address'])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, check=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.stdout.split() == ["data/lastfm_tags.db", "http://millionsongdataset.com/lastfm/"]


def test_a_subcommand_explains_itself(own_run, restored_registries):
    exec(blocks("A subcommand")[0], {"__name__": "mine"})
    run = CliRunner().invoke
    assert "Example: msd-genre genres runs/demo" in run(cli.main, ["genres", "--help"]).output
    assert "Rock" in run(cli.main, ["genres", str(own_run.dir)]).output


def test_every_recipe_starts_from_a_file_that_exists():
    links = re.findall(r"\]\((\.\./[^)]+\.ipynb)\)", "\n".join(c.source for c in GUIDE.cells))
    assert len(links) >= 8
    assert not [link for link in links if not (ROOT / "nbs" / "guides" / link).is_file()]
