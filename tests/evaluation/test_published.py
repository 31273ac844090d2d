"""The published numbers: what the tables hold, and what the text of the report may rest on."""

import json
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from msd_genre.analysis.embedding import retrieval
from msd_genre.datasets.labels import WRITEUP_GENRES
from msd_genre.evaluation import published
from msd_genre.evaluation.metrics import SCORES


def test_genre_counts_are_the_histogram_of_the_last_funnel_step():
    counts = published.genre_counts()
    assert set(counts.index) == set(WRITEUP_GENRES)
    assert counts.sum() == published.funnel().kept.iloc[-1] == 32_648
    assert counts.is_monotonic_decreasing
    assert round(published.majority_share(), 4) == 0.5206


def test_funnel_loses_what_lies_between_its_steps():
    table = published.funnel()
    assert table.kept.tolist() == [100_600, 59_134, 32_648]
    assert table.lost.tolist()[1:] == [41_466, 26_486]
    assert table.lost.isna().tolist() == [True, False, False]


def test_grid_history_has_each_epoch_of_each_setting():
    history = published.grid_history()
    settings = history.groupby(["batch_size", "learning_rate", "filters"])
    assert settings.ngroups == 3 * 4 * 2
    assert all(group.tolist() == list(range(1, 21)) for _, group in settings.epoch)
    # The rows scored were 19,000 resampled ones, cut 70 to 30: accuracies are whole counts.
    for column, rows in {"train_accuracy": 13_300, "validation_accuracy": 5_700}.items():
        counts = history[column] * rows
        assert np.abs(counts - counts.round()).max() < 0.01, column


def test_scores_name_what_they_are_and_where_they_stand():
    table = published.scores()
    assert set(table.model) == {"baseline", "cnn", "lstm", "majority"}
    assert set(table.score) <= set(SCORES)
    assert table.value.between(0, 1).all()
    assert not table[["where", "note", "part"]].isin(["", None]).any().any()
    claimed = table[table.claimed]
    assert not claimed.duplicated(["model", "score"]).any()
    ranges = claimed[claimed.low.notna()]
    assert ((ranges.low <= ranges.value) & (ranges.value <= ranges.high)).all()


def test_best_validation_accuracy_is_the_best_of_the_grid():
    table = published.scores()
    best = published.grid_history().validation_accuracy.max()
    assert round(best, 4) in table.value[table.part == "validation"].tolist()


@pytest.mark.parametrize("name", ["genre_counts", "grid_history", "funnel", "scores",
                                  "embedding_points"])
def test_each_file_names_its_source(name):
    text = files("msd_genre").joinpath("resources", f"published_{name}.json").read_text("utf-8")
    assert json.loads(text)["source"] == published._SOURCE


def test_the_points_are_songs_without_names():
    points = published.embedding_points()
    assert list(points.columns) == ["genre", "x", "y", "artist"]
    assert len(points) == 2_921 and not points.isna().any(axis=None)
    assert set(points.genre) < set(WRITEUP_GENRES)
    # Artists are the numbers from 0 on, each used, in an order that is not that of the songs.
    assert sorted(points.artist.unique()) == list(range(1_818))
    assert not points.artist.drop_duplicates().is_monotonic_increasing
    text = (
        files("msd_genre")
        .joinpath("resources", "published_embedding_points.json")
        .read_text("utf-8")
    )
    words = {word for word in json.loads(text)["rows"] if word}
    assert words == {"genre", "x", "y", "artist"}, "no titles, no names"


def test_the_map_shows_neighbours_of_one_genre_and_artists_on_both_sides():
    """The facts that chapter 08 rests on, as computed from the figure's own data before."""
    points = published.embedding_points()
    found = retrieval(points[["x", "y"]], points.genre, points.artist, k=[10]).fillna(0)
    purity = found.query("view == 'all'")["precision_10"].mean()
    assert purity == pytest.approx(0.811, abs=0.001)
    overlap = published.artist_overlap(points)
    assert overlap.known.mean() == pytest.approx(0.53, abs=0.01)
    assert overlap.right.mean() == pytest.approx(0.86, abs=0.02)


def test_artist_overlap_is_counted_as_said():
    """One artist's songs in two genres: whatever the split, its usual genre is the larger one."""
    points = pd.DataFrame({"genre": ["Pop"] * 30 + ["Rock"] * 10, "artist": 7})
    table = published.artist_overlap(points, test_share=0.25, n_splits=200)
    assert len(table) == 200 and table.known.eq(1).all()
    assert table.right.mean() == pytest.approx(0.75, abs=0.03)
    assert table.equals(published.artist_overlap(points, test_share=0.25, n_splits=200))
    # Of two songs by each of many artists, one in four is drawn for the test: its fellow is in
    # train with probability 60 / 79.
    pairs = pd.DataFrame({"genre": "Rock", "artist": np.repeat(range(40), 2)})
    known = published.artist_overlap(pairs, test_share=0.25, n_splits=400).known
    assert known.mean() == pytest.approx(60 / 79, abs=0.02)


def test_on_unseen_songs_our_own_network_is_no_better_than_a_logistic_regression():
    """The front page and chapter 7 say so, in words; this is what the record says."""
    rows = published._unseen_scores().set_index(["labels", "model"])
    macro = rows["macro_f1"].unstack("model")
    assert len(macro) == 2 and (macro["joint (ours)"] <= macro["logistic"]).all()
    assert (rows["low"] <= rows["macro_f1"]).all() and (rows["macro_f1"] <= rows["high"]).all()
    assert (rows["unseen_songs"] < rows["songs"]).all()


def test_the_table_of_unseen_songs_has_each_score_with_its_interval():
    table = published.unseen_table(["logistic"]).set_index("labels")
    assert table.loc["tagtraum CD1", "macro-F1"] == "0.50 [0.42, 0.57]"
    assert table.loc["artist terms", "accuracy"] == "0.51 [0.49, 0.54]"
    assert table.loc["artist terms", "songs"] == "2,185"
