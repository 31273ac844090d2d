"""Guesses of popularity: ranks against plain computations, tests that find nothing in nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from msd_genre.analysis import popularity
from msd_genre.analysis.popularity import (
    PopularityError,
    _deal_by_artist,
    _other_songs_of_artist,
    _PlayedSongs,
    _rank_correlation,
    artist_folds,
    feature_sets,
    guess_all,
    guess_bins,
    load_played,
    neighbours_tell,
    permutation_test,
    score_bins,
    score_guesses,
)  # fmt: skip


def invented(n=300, n_artists=90, of_artist=0.5, of_sound=0.0, seed=0):
    """Songs whose plays are their artist's fame, what can be heard of it, and chance."""
    rng = np.random.default_rng(seed)
    artist, fame = np.sort(rng.integers(n_artists, size=n)), rng.normal(size=n_artists)
    sound = rng.normal(size=(n, 12)) + 0.5 * rng.normal(size=(n_artists, 12))[artist]
    log = 2 + of_artist * fame[artist] + of_sound * sound[:, 0] + 0.4 * rng.normal(size=n)
    names = np.array([f"AR{i:03d}" for i in artist], object)
    year = np.where(rng.random(n) < 0.2, np.nan, rng.integers(1960, 2011, n))
    familiarity = (0.5 + 0.1 * fame)[artist]
    return _PlayedSongs(
        np.array([f"TR{i:04d}" for i in range(n)]), np.ceil(10**log).astype(int), names,
        np.array(["Rock", "Pop"], object)[artist % 2], year, familiarity,
        sound.astype(np.float32), rng.normal(size=(n, 6)).astype(np.float32),
    )  # fmt: skip


def test_weighted_rank_correlation_is_that_of_rows_written_out():
    rng = np.random.default_rng(1)
    values, guesses = rng.integers(0, 8, 60), rng.normal(size=60).round(1)
    weights = rng.integers(0, 4, size=(60, 5))
    for column, found in zip(weights.T, _rank_correlation(values, guesses, weights), strict=True):
        rows = np.repeat(np.arange(60), column)
        assert found == pytest.approx(spearmanr(values[rows], guesses[rows])[0])
    assert np.isnan(_rank_correlation(values, np.ones(60))[0])


def test_no_artist_is_learnt_from_and_asked_about():
    songs = invented()
    folds = artist_folds(songs.artists, 5)
    assert sorted(np.concatenate([answer for _, answer in folds])) == list(range(len(songs)))
    for learn, answer in folds:
        assert not set(songs.artists[learn]) & set(songs.artists[answer])
    with pytest.raises(PopularityError, match=r"1 artists for 5 folds"):
        artist_folds(np.array(["AR1"] * 9), 5)


def test_other_songs_of_the_artist_do_not_hold_the_song_itself():
    songs = invented(n=6, n_artists=1)
    songs.artists[:] = ["a", "a", "a", "b", "b", "c"]
    log, guess = songs.log_plays, _other_songs_of_artist(songs)
    assert guess[0] == pytest.approx(log[1:3].mean()) and guess[3] == pytest.approx(log[4])
    assert guess[5] == pytest.approx(log.mean())


def test_guesses_find_what_is_there():
    songs = invented(of_sound=0.3)
    guesses = guess_all(songs, artist_folds(songs.artists))
    assert set(guesses) == {*feature_sets(songs), "artist's other songs"}
    table = score_guesses(songs.log_plays, guesses, songs.artists).set_index("model")
    assert table.loc["sound", "low"] > 0.1 and table.loc["artist familiarity", "low"] > 0.2
    assert table.loc["words", "low"] < 0.05
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_artists_exchange_the_plays_of_whole_artists():
    artists = np.array(["a", "b", "b", "c", "d", "d", "e", "e", "e"])
    values = np.arange(9)
    dealt = _deal_by_artist(values, artists, np.random.default_rng(3))
    assert sorted(dealt) == list(range(9)) and (dealt != values).any()
    of = pd.Series(artists)[dealt].to_numpy()
    for name in set(artists):
        mine = of[artists == name]
        assert len(set(mine)) == 1 and (artists == mine[0]).sum() == len(mine)


def test_the_permutation_test_finds_something_only_where_it_is():
    loud, quiet = invented(of_sound=0.3), invented(of_sound=0.0, seed=4)
    found, nothing = (permutation_test(songs.sound, songs, artist_folds(songs.artists), 99)
                      for songs in (loud, quiet))  # fmt: skip
    assert found.p == 0.01 and nothing.p > 0.05
    again = permutation_test(loud.sound, loud, artist_folds(loud.artists), 99)
    assert (again.null == found.null).all() and again.observed == found.observed


def test_the_p_value_is_even_where_there_is_nothing():
    """Of many tests on nothing, about a tenth come out below a tenth."""
    p = []
    for seed in range(24):
        songs = invented(n=50, n_artists=20, seed=100 + seed)
        p.append(permutation_test(songs.sound, songs, artist_folds(songs.artists, 2), 19).p)
    assert sum(one <= 0.1 for one in p) <= 7 and max(p) > 0.7


def test_bins_in_order_beat_one_answer_only_where_there_is_something():
    songs = invented(n=400, of_artist=0.8)
    bins = pd.qcut(songs.plays, 5, labels=False)
    folds = artist_folds(songs.artists)
    chances = {"fame": guess_bins(feature_sets(songs)["artist familiarity"], bins, folds, 5, 1.0),
               "words": guess_bins(songs.words, bins, folds, 5)}  # fmt: skip
    assert all(np.allclose(p.sum(axis=1), 1) and p.min() >= 0 for p in chances.values())
    table = score_bins(bins, chances, songs.artists).set_index(["model", "score"])
    off = table.xs("distance in bins", level="score")
    assert off.loc["fame", "high"] < off.loc["one answer", "low"] < off.loc["words", "high"]
    answered = chances["fame"].argmax(axis=1)
    assert table.loc[("fame", "accuracy"), "value"] == (answered == bins).mean()
    learnt = np.full(10, 4)
    one = score_bins(bins, chances, songs.artists, learnt).set_index(["model", "score"])
    assert one.loc[("one answer", "accuracy"), "value"] == (bins == 4).mean()


def test_neighbours_tell_where_places_are_in_order():
    songs = invented()
    places = np.column_stack([songs.log_plays, np.random.default_rng(0).normal(size=len(songs))])
    assert neighbours_tell(places, songs.log_plays, songs.artists, n_permutations=99).p == 0.01
    with pytest.raises(PopularityError, match="by one artist"):
        neighbours_tell(places, songs.log_plays, np.array(["a"] * len(songs)))


# ---- in a run


def test_songs_with_plays_of_a_run(demo_run):
    songs, catalog = load_played(demo_run), demo_run.read("catalog.parquet")
    there = catalog[catalog["dropped_at"].isna() & catalog["plays"].notna()]
    assert len(songs) == there["song_id"].nunique() > 50
    plays = there.set_index("track_id")["plays"][songs.track_ids]
    assert songs.plays.tolist() == plays.tolist() and np.isfinite(songs.sound).all()


def test_a_run_without_triplets_has_no_songs_with_plays(demo_run, demo_corpus, tmp_path):
    import shutil

    from msd_genre.corpus import catalog as catalog_module
    from msd_genre.corpus import features
    from msd_genre.workspace import runs

    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    shutil.rmtree(corpus / "taste_profile")
    run = runs.create_run(demo_run.params | {"data": {"folder": str(corpus)}}, tmp_path / "run")
    catalog_module.build_catalog(run), features.build_store(run), features.build_lyrics(run)
    assert len(load_played(run)) == 0 and popularity.all_plays(run).empty
