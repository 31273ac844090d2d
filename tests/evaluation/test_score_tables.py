"""A run's tables of scores: what a line may say, and the same scores again."""

import json

import numpy as np
import pandas as pd
import pytest

from msd_genre.corpus import catalog, features, leaks, splits
from msd_genre.evaluation import metrics, score_tables
from msd_genre.synthetic.write import write_demo
from msd_genre.workspace import runs

CNN = splits.training_folder("cnn-as_written")


def kappa(counts):
    "The agreement beyond that of independent predictions."
    agreement = counts.right.sum(axis=0) / counts.total
    expected = (counts.true * counts.predicted).sum(axis=0) / counts.total**2
    return (agreement - expected) / (1 - expected)


def _loss(counts):
    return 1 - kappa(counts)


@pytest.fixture
def small_run(tmp_path):
    "A run with the predictions of one invented model."
    corpus = write_demo(tmp_path / "demo", n_songs=120, seed=1)
    run = runs.create_run({"seed": 1, "data": {"folder": str(corpus)}}, tmp_path / "small")
    songs = catalog.kept(catalog.build_catalog(run))
    features.build_store(run)
    genres = np.unique(songs.genre)
    p = np.random.default_rng(0).dirichlet(np.ones(len(genres)), len(songs))
    table = songs[["track_id", "genre"]].assign(
        model="lots", protocol="artist", fold=0, seed=1, part="test",
        **dict(zip([f"p_{genre}" for genre in genres], p.T, strict=True)))  # fmt: skip
    run.make("split.parquet", table[["track_id"]].to_parquet, inputs=["catalog.parquet"])
    run.make("models/lots/predictions.parquet", table.reset_index(drop=True).to_parquet)
    return run


def test_a_new_score_leaves_the_tables_without_it_current(small_run, monkeypatch):
    monkeypatch.setattr(metrics.SCORES, "_entries", dict(metrics.SCORES._entries))
    lines = [{"name": "lots", "folders": ["models/lots"]}]
    before = score_tables.make_table(small_run, "before.csv", lines, n_boot=20)
    made = small_run.path("before.csv").stat().st_mtime_ns
    metrics.register_score("kappa", "Cohen's kappa")(kappa)
    assert not runs.stale(small_run, ["before.csv"])
    score_tables.make_table(small_run, "before.csv", lines, n_boot=20)
    assert small_run.path("before.csv").stat().st_mtime_ns == made
    for name in ("every.csv", "one.csv"):
        names = [*metrics.SCORES] if name == "every.csv" else ["kappa"]
        table = score_tables.make_table(small_run, name, lines, n_boot=20, scores=names)
        assert table.score.tolist() == names
    every = small_run.read("every.csv").query("score != 'kappa'").reset_index(drop=True)
    pd.testing.assert_frame_equal(every, before)
    assert score_tables.verify(small_run, ["before.csv", "every.csv", "one.csv"]).ok.all()


def test_another_definition_makes_the_tables_with_it_stale(small_run, monkeypatch):
    monkeypatch.setattr(metrics.SCORES, "_entries", dict(metrics.SCORES._entries))
    lines = [{"name": "lots", "folders": ["models/lots"]}]
    metrics.register_score("kappa", "Cohen's kappa")(kappa)
    old = score_tables.make_table(small_run, "one.csv", lines, n_boot=20, scores=["kappa"])
    metrics.register_score("kappa", "Cohen's kappa", lower_is_better=True)(_loss)
    new = score_tables.make_table(small_run, "one.csv", lines, n_boot=20, scores=["kappa"])
    assert new.value[0] == pytest.approx(1 - old.value[0])


@pytest.mark.parametrize(
    "line, message",
    [
        ({"name": "x"}, "needs a name and folders"),
        ({"name": "x", "folders": [CNN], "parts": "test"}, "a line has no parts"),
        ({"name": "x", "folders": [CNN], "part": "train"}, "part is 'train', not one of test"),
        ({"name": "x", "folders": [CNN], "only": "old"}, "only is 'old', not one of all"),
        ({"name": "x", "folders": [CNN], "mix": "rock"}, "mix is 'rock', not one of None"),
    ],
)
def test_a_line_that_cannot_be_scored_is_refused(demo_run, line, message):
    with pytest.raises(score_tables.ResultError, match=message):
        score_tables.make_table(demo_run, "never.csv", [line])
    assert not (demo_run.dir / "never.csv").exists()


def test_a_training_that_is_not_there_is_named(demo_run):
    line = {"name": "x", "folders": [splits.training_folder("cnn-as_written", seed=9)]}
    with pytest.raises(runs.RunError, match="cnn-as_written-artist-f0-s9"):
        score_tables.make_table(demo_run, "never.csv", [line])


def test_a_line_gives_the_scores_of_the_stored_predictions(own_run):
    line = {"name": "cnn", "folders": [CNN]}
    table = score_tables.make_table(own_run, "mine.csv", [line], n_boot=20).set_index("score")[
        "value"
    ]
    stored = own_run.read(f"{CNN}/predictions.parquet").query("part == 'test'")
    classes = sorted({*stored.genre, *(n[2:] for n in stored if n.startswith("p_"))})
    assert table.to_dict() == metrics.scores(stored, classes)


def test_the_mixes_are_what_they_say(own_run):
    folder = splits.training_folder("cnn-as_coded", "as_coded")
    line = {"name": "cnn", "folders": [folder], "part": "validation"}
    rows = score_tables.read_predictions(own_run, [folder], "validation")
    _, equal = score_tables.select(own_run, line | {"mix": "equal"})
    assert np.allclose(equal, 1 / rows.genre.nunique())
    new, part = score_tables.select(own_run, line | {"only": "new", "mix": "validation"})
    counts = rows.genre.value_counts()[part.index]
    assert np.allclose(part, counts / counts.sum())
    split = own_run.read("split.parquet").query("protocol == 'as_coded' and copies > 0")
    assert not set(new.track_id) & set(split.query("part == 'train'").track_id)
    assert len(new) < len(rows)
    seen, _ = score_tables.select(own_run, line | {"only": "seen"})
    assert sorted([*seen.track_id, *new.track_id]) == sorted(rows.track_id)


def test_rows_are_told_apart_by_artist_and_genre(own_run):
    folder = splits.training_folder("cnn-as_coded", "as_coded")
    line = {"name": "cnn", "folders": [folder]}
    everything = score_tables.select(own_run, line)[0]
    artist_of = splits.artist_groups(leaks.kept_songs(own_run))
    split = own_run.read("split.parquet").query("protocol == 'as_coded' and copies > 0")
    taught = set(artist_of[split.query("part == 'train'").track_id])
    known = score_tables.select(own_run, line | {"only": "known artists"})[0]
    new = score_tables.select(own_run, line | {"only": "new artists"})[0]
    assert set(artist_of[known.track_id]) <= taught and len(known)
    assert not set(artist_of[new.track_id]) & taught
    assert len(known) + len(new) == len(everything)
    others = score_tables.select(own_run, line | {"only": "others"})[0]
    assert set(everything.genre) - set(others.genre) == {"Rock"}


def test_folds_are_judged_together(own_run):
    """Two invented folds of one model, of which the second has an output that the first lacks."""
    stored = own_run.read(f"{CNN}/predictions.parquet").query("part == 'test'")
    half = len(stored) // 2
    for fold, table in enumerate([stored[:half], stored[half:].assign(p_Polka=0.0)]):
        folder = own_run.dir / "models" / f"half-artist-f{fold}-s1"
        folder.mkdir()
        table.to_parquet(folder / "predictions.parquet")
    folders = [splits.training_folder("half", fold=fold) for fold in (0, 1)]
    both = score_tables.read_predictions(own_run, folders)
    assert both.track_id.tolist() == stored.track_id.tolist() and (both.p_Polka == 0).all()
    one = score_tables.make_table(own_run, "one.csv", [{"name": "m", "folders": [CNN]}], n_boot=20)
    two = score_tables.make_table(
        own_run, "two.csv", [{"name": "m", "folders": folders}], n_boot=20
    )
    ours = two.set_index("score")["value"].drop("micro_ap")  # Polka's cells count there
    assert np.allclose(ours, one.set_index("score")["value"][ours.index])


def test_models_of_other_songs_are_not_compared(own_run):
    lines = [{"name": "a", "folders": [CNN]}, {"name": "b", "folders": [CNN], "part": "validation"}]
    with pytest.raises(metrics.MetricError, match="the same songs in the same order: b is not"):
        score_tables.make_table(own_run, "never.csv", lines, "differences")
    with pytest.raises(
        score_tables.ResultError, match="no kind 'shares' of table; there is scores"
    ):
        score_tables.make_table(own_run, "never.csv", lines, "shares")


def test_a_finished_run_verifies_to_the_bit(demo_run):
    checks = score_tables.verify(demo_run)
    assert checks.ok.all()
    again = set(checks.query("check == 'scores from stored predictions'").artefact)
    assert {"results.csv", "differences.csv"} <= again and len(again) >= 8


@pytest.mark.parametrize("what", ["score", "prediction"])
def test_a_number_changed_by_hand_is_found(own_run, what):
    if what == "score":
        path = own_run.path("results.csv")
        table = pd.read_csv(path)
        table.loc[3, "value"] = np.nextafter(table.loc[3, "value"], 1)
        table.to_csv(path, index=False)
    else:
        path = own_run.path(f"{CNN}/predictions.parquet")
        table = pd.read_parquet(path)
        row = table.index[table.part == "test"][0]
        outputs = [name for name in table if name.startswith("p_")]
        table.loc[row, outputs] = table.loc[row, outputs].to_numpy()[::-1].copy()
        table.to_parquet(path)
    wrong = score_tables.verify(own_run).query("not ok").set_index("artefact")
    if what == "score":
        assert set(wrong.index) == {"results.csv"}
        assert any(found.startswith("row 3, value: ") for found in wrong.found)
        assert "its content is not what was written" in set(wrong.found)
    else:
        assert wrong.loc[CNN, "found"] == "its content is not what was written"
        assert "scores from stored predictions" in wrong.loc[["results.csv"], "check"].tolist()


def test_what_no_chapter_reads_need_not_fit(own_run):
    own_run.make("models/old/predictions.parquet", lambda path: path.write_text("x"))
    (own_run.dir / "models" / "old" / "predictions.parquet").write_text("y")
    assert not score_tables.verify(own_run).ok.all()
    records = (own_run.dir / "chapters").glob("*.json")
    read = {name for path in records for name in json.loads(path.read_text())["reads"]}
    assert score_tables.verify(own_run, sorted(read)).ok.all()


def test_predictions_that_cannot_be_scored_any_more_are_a_row_not_a_crash(own_run):
    path = own_run.path(f"{CNN}/predictions.parquet")
    table = pd.read_parquet(path)
    table.loc[table.part == "test", "p_Rock"] = 2.0
    table.to_parquet(path)
    wrong = score_tables.verify(own_run).query("not ok")
    said = wrong[wrong.check == "scores from stored predictions"].set_index("artefact").found
    assert said["results.csv"].startswith("cannot be scored: probabilities must be")


@pytest.mark.parametrize(
    "what", ["gone", "no table", "no part", "no rows", "results gone", "results no table"]
)
def test_verify_says_what_is_wrong_whatever_a_file_holds(own_run, what):
    path = own_run.path(f"{CNN}/predictions.parquet")
    table = pd.read_parquet(path)
    if what.startswith("results"):
        path = own_run.path("results.csv")
    if what.endswith("gone"):
        path.unlink()
    elif what.endswith("no table"):
        path.write_bytes(b"")
    else:
        (table.drop(columns="part") if what == "no part" else table.head(0)).to_parquet(path)
    wrong = score_tables.verify(own_run).query(
        "not ok and check == 'scores from stored predictions'"
    )
    said = wrong.set_index("artefact").found["results.csv"]
    expected = {"results gone": "it is gone", "results no table": "cannot be read: "}
    assert said.startswith(expected.get(what, "cannot be scored: ")), said


def test_differences_are_taken_in_the_mix_that_the_lines_share(own_run):
    """Weighted so that genres are alike, a difference in accuracy is one in balanced accuracy."""
    line = {"folders": [CNN], "mix": "equal"}
    other = {"folders": [splits.training_folder("logistic")], "mix": "equal"}
    pair = [line | {"name": "cnn"}, other | {"name": "logistic"}]
    mixed = score_tables.make_table(own_run, "mixed.csv", pair, "differences", n_boot=20)
    plain = score_tables.make_table(own_run, "plain.csv", [one | {"mix": None} for one in pair],
                               "differences", n_boot=20)  # fmt: skip
    mixed, plain = (table.set_index("score").difference for table in (mixed, plain))
    assert mixed["accuracy"] == pytest.approx(plain["balanced_accuracy"], abs=1e-12)
    with pytest.raises(score_tables.ResultError, match="logistic is weighted to another mix"):
        score_tables.make_table(
            own_run, "no.csv", [pair[0], pair[1] | {"mix": None}], "differences"
        )
    with pytest.raises(score_tables.ResultError, match="cnn: a spread is of the songs as they are"):
        score_tables.make_table(own_run, "no.csv", pair, "spread")
