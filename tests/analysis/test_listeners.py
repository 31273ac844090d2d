"""Factors, rankings and new songs: golden scores, tastes that are found, and bad input."""

import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_similarity

from msd_genre.analysis import cold_start
from msd_genre.analysis import listeners as listeners_module
from msd_genre.analysis.cold_start import _scaled_inputs, fold_in, gap_closed
from msd_genre.analysis.listeners import (
    CollaborativeError,
    Factors,
    _ranking_scores,
    _shared_listeners,
    _strengths,
    als,
    by_chance,
    by_cosine,
    by_factors,
    by_popularity,
    hold_out_plays,
    make_matrix,
    nearest,
    neighbour_scores,
    score_rankers,
    search_als,
    shuffle_plays,
    split_users,
    top_songs,
)  # fmt: skip
from msd_genre.datasets.plays import play_matrix
from msd_genre.synthetic import plan as plan_module
from msd_genre.synthetic import write

SEARCHED = {"rank": 20, "alpha": 5.0, "regularization": 30.0, "weighting": "binary"}


@pytest.fixture(scope="module")
def listened():
    """Plays of the demo's listeners, with the genre that each song is heard as."""
    plan = plan_module.make_plan(600, seed=1)
    groups = write._listened_groups(plan, seed=1)
    heard = [write._plays_of(listener, groups, seed=1) for listener in range(600)]
    names = [f"SO{number:05d}" for number in range(len(plan))]
    triplets = pd.DataFrame({
        "user": np.repeat([f"u{i:04d}" for i in range(600)], [len(songs) for songs, _ in heard]),
        "song_id": np.concatenate([[names[song] for song in songs] for songs, _ in heard]),
        "plays": np.concatenate([counts for _, counts in heard]),
    }).astype({"user": "category", "song_id": "category"})  # fmt: skip
    matrix = play_matrix(triplets, min_plays=5, min_songs=5)
    style = {names[song]: key[0] for key, (songs, _) in groups.items() if len(key) == 1
             for song in songs}  # fmt: skip
    return matrix, np.array([style[song] for song in matrix.songs])


@pytest.fixture(scope="module")
def parts(listened):
    return hold_out_plays(listened[0].counts, share=0.2, seed=1)


def ndcg(table, model):
    return table.set_index(["model", "score"]).loc[(model, "nDCG@50")]


# ---- golden scores


def test_ranking_scores_by_hand():
    """Two hidden songs, found at places 2 and 4; one hidden song, not in the list."""
    top = np.array([[7, 3, 1, 5, 0], [2, 4, 6, -1, -1]])
    hidden = sparse.csr_array((2, 8), dtype=int).tolil()
    hidden[0, 3] = hidden[0, 5] = 4
    hidden[1, 0] = 1
    scores = _ranking_scores(top, sparse.csr_array(hidden))
    ideal = 1 + 1 / np.log2(3)
    assert scores.loc[0].tolist() == pytest.approx(
        [0.2, 1.0, (1 / np.log2(3) + 1 / np.log2(5)) / ideal, (1 / 2 + 2 / 4) / 2]
    )
    assert scores.loc[1].tolist() == [0, 0, 0, 0]


def test_ndcg_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, relevant = rng.random((40, 120)), rng.random((40, 120)) < 0.6  # more than 50 hidden
    relevant[:20] &= rng.random((20, 120)) < 0.1
    relevant[:, 0] = True
    top = np.argsort(-scores, axis=1)
    ours = _ranking_scores(top, sparse.csr_array(relevant.astype(int)))["nDCG@50"]
    theirs = [ndcg_score(relevant[[i]], scores[[i]], k=50) for i in range(40)]
    assert ours.tolist() == pytest.approx(theirs)


def test_the_map_divides_by_what_could_be_found():
    n = 600
    perfect = _ranking_scores(np.arange(n)[None], sparse.csr_array(np.ones((1, n), int)))
    assert perfect.loc[0].tolist() == pytest.approx([1, 50 / n, 1, 1])


def test_what_was_played_is_not_recommended_and_the_best_come_first():
    seen = sparse.csr_array(np.array([[1, 0, 0, 0], [0, 0, 2, 0]]))
    scores = np.array([[9.0, 1, 3, 2], [1, 1, 9, 2]])
    top = top_songs(lambda rows: scores[rows], seen, np.array([0, 1]), k=4)
    assert top.tolist() == [[2, 3, 1, -1], [3, 0, 1, -1]]
    allowed = np.where([True, True, False, False], scores, -np.inf)
    assert top_songs(lambda rows: allowed[rows], seen, np.array([1, 0]), 2).tolist() == [
        [0, 1], [1, -1]]  # fmt: skip


def test_blocks_change_nothing(parts, monkeypatch):
    train, _ = parts
    rows = np.arange(40)
    whole = top_songs(by_popularity(train), train, rows)
    monkeypatch.setattr(listeners_module, "_CELLS", train.shape[1] * 7)
    assert (top_songs(by_popularity(train), train, rows) == whole).all()


# ---- what is held out


def test_some_songs_of_each_user_are_hidden_and_nothing_is_lost(listened):
    counts = listened[0].counts
    train, hidden = hold_out_plays(counts, 0.3, seed=4)
    assert (train + hidden != counts).nnz == 0 and train.multiply(hidden).nnz == 0
    assert np.diff(train.indptr).min() >= 1 and np.diff(hidden.indptr).min() >= 1
    assert 0.25 < hidden.nnz / counts.nnz < 0.3
    some = hold_out_plays(counts, 0.3, seed=4, n_users=50)[1]
    assert (np.diff(some.indptr) > 0).sum() == 50


def test_one_song_a_user_cannot_be_hidden():
    with pytest.raises(CollaborativeError, match="none of 4 users played two songs"):
        hold_out_plays(sparse.csr_array(np.eye(4, dtype=int)))


def test_shuffled_plays_keep_how_much_each_user_plays(listened):
    counts = listened[0].counts
    dealt = shuffle_plays(counts)
    assert (np.diff(dealt.indptr) <= np.diff(counts.indptr)).all()
    assert dealt.nnz > 0.85 * counts.nnz
    assert dealt.multiply(counts).nnz < 0.5 * counts.nnz


# ---- tastes are found, and only where they are


def test_factors_find_tastes_and_shuffled_plays_fall_back_to_chance(parts):
    train, hidden = parts
    columns = np.random.default_rng(1).integers(train.shape[1], size=train.nnz)
    uniform = sparse.csr_array((train.data, columns, train.indptr), train.shape, copy=True)
    uniform.sum_duplicates()
    table, _ = score_rankers({
        "random": by_chance(train), "popular": by_popularity(train),
        "cosine": by_cosine(train), "ALS": by_factors(als(train, **SEARCHED)),
        "dealt": by_factors(als(shuffle_plays(train), **SEARCHED)),
        "dealt evenly": by_factors(als(uniform, **SEARCHED)),
    }, train, hidden, "popular")  # fmt: skip
    found = ndcg(table, "ALS")
    assert found.difference_low > 0 and found.value > 1.25 * ndcg(table, "popular").value
    assert ndcg(table, "cosine").difference_low > 0
    assert ndcg(table, "dealt").difference_high < 0, "popularity is all that is left"
    chance, popular = ndcg(table, "random").value, ndcg(table, "popular").value
    assert abs(ndcg(table, "dealt evenly").value - chance) < 0.1 * (popular - chance)


def test_neighbours_are_mostly_of_the_same_taste(listened):
    matrix, style = listened
    places, cosines = nearest(als(matrix.counts, **SEARCHED).songs, 5)
    assert (np.diff(cosines, axis=1) <= 1e-6).all()
    assert (places != np.arange(len(style))[:, None]).all()
    same, shares = (style[places] == style[:, None]).mean(), np.bincount(style) / len(style)
    assert same > 0.6 and same > 1.5 * (shares**2).sum()


def test_a_seed_gives_the_same_bits(parts):
    settings = {"rank": 8, "iterations": 3}
    first, again, other = (als(parts[0], **settings, seed=seed) for seed in (3, 3, 4))
    assert (first.songs == again.songs).all() and (first.users == again.users).all()
    assert (other.songs != first.songs).any()
    assert (als(parts[0], **settings, seed=3, n_threads=2).songs == first.songs).all()


def test_the_settings_that_find_most_come_first(parts):
    table = search_als(parts[0], [{"rank": 50, "alpha": 40.0, "regularization": 0.01}, SEARCHED])
    assert table["rank"].tolist() == [20, 50] and table["nDCG@50"].is_monotonic_decreasing


def test_spark_and_implicit_agree_within_the_interval(parts):
    missing = "pyspark is not installed (pip install 'msd_genre[spark]'): its ALS was not tested"
    pytest.importorskip("pyspark", reason=missing)
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("no Java (Debian: default-jre-headless): Spark's ALS was not tested")
    train, hidden = parts
    settings = {"iterations": 8}  # and the write-up's
    table, _ = score_rankers({
        "popular": by_popularity(train), "implicit": by_factors(als(train, **settings)),
        "spark": by_factors(als(train, **settings, engine="spark")),
    }, train, hidden, "implicit")  # fmt: skip
    spark, ours = ndcg(table, "spark"), ndcg(table, "implicit")
    assert spark.low < ours.high and ours.low < spark.high
    assert abs(spark.difference) < ours.high - ours.low


# ---- songs that nobody has played


def test_what_plays_say_of_a_song_can_be_folded_in(listened, parts):
    """A song taken out and folded in again ranks nearly as if it had been there."""
    counts = listened[0].counts
    new = np.arange(0, counts.shape[1], 9)
    known = {name: SEARCHED[name] for name in ("alpha", "regularization", "weighting")}
    left = sparse.csr_array(counts.multiply(~np.isin(np.arange(counts.shape[1]), new)))
    left.eliminate_zeros()
    assert left.nnz < counts.nnz and not left[:, new].nnz
    factors = als(left, **SEARCHED)
    true = fold_in(factors, sparse.csr_array(counts[:, new]), **known)
    rng = np.random.default_rng(0)
    table, each = cold_start.rank_new_songs(
        counts, factors, {"true": true, "half": true + rng.normal(0, true.std(), true.shape),
                          "random": true[rng.permutation(len(new))]}, new)  # fmt: skip
    assert ndcg(table, "true").low > ndcg(table, "random").high
    songs = np.zeros_like(factors.songs)
    songs[new] = true
    hidden = sparse.csr_array(counts.multiply(np.isin(np.arange(counts.shape[1]), new)))
    hidden.eliminate_zeros()
    others = ~np.isin(np.arange(counts.shape[1]), new)
    ranked = by_factors(Factors(factors.users, songs))
    among_all = score_rankers({"true": lambda rows: np.where(others, -np.inf, ranked(rows))}, left,
                              hidden, "true")[1]["true"]  # fmt: skip
    assert np.allclose(each["true"], among_all, atol=1e-6)
    _, few = cold_start.rank_new_songs(counts, factors, {"true": true, "random": true}, new,
                                          n_users=20)  # fmt: skip
    rows = {tuple(row) for row in each["true"].round(9).to_numpy()}
    assert len(few["true"]) == 20
    assert {tuple(row) for row in few["true"].round(9).to_numpy()} <= rows
    closed = gap_closed(each).set_index("model")
    assert closed.index.tolist() == ["half"] and 0 < closed.loc["half", "closed"] < 1
    assert closed.closed_low["half"] < closed.closed["half"] < closed.closed_high["half"]


def test_without_a_gap_nothing_is_said_to_close_it():
    each = {name: pd.DataFrame({"nDCG@50": np.full(30, 0.2)}) for name in ("random", "true", "x")}
    assert gap_closed(each)["closed"].isna().all()


def test_inputs_are_scaled_on_train_alone_and_what_is_left_out_is_zero():
    rng = np.random.default_rng(0)
    shapes = {"chroma": (9, 5, 12), "timbre": (9, 5, 12), "lyrics": (9, 4)}
    inputs = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    train = np.arange(6)
    scaled = _scaled_inputs(inputs, train, "sound")
    assert not scaled["lyrics"].any() and abs(scaled["timbre"][train].mean()) < 1e-5
    louder = np.concatenate([inputs["timbre"][:6], inputs["timbre"][6:] + 100])
    changed = inputs | {"timbre": louder}
    assert (_scaled_inputs(changed, train)["timbre"][:6] == scaled["timbre"][:6]).all()
    with pytest.raises(CollaborativeError, match="parts is 'colour', not one of sound, lyrics"):
        _scaled_inputs(inputs, train, "colour")


# ---- neighbours


def test_nearest_is_the_cosine_and_leaves_out_the_own_group():
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    groups = np.arange(30) // 3
    places, cosines = nearest(vectors, 4, rows=np.array([5, 20]), groups=groups)
    near = cosine_similarity(vectors)
    near[groups[:, None] == groups] = -2
    assert places.tolist() == np.argsort(-near, axis=1)[[5, 20], :4].tolist()
    assert cosines == pytest.approx(np.sort(near, axis=1)[[5, 20], :-5:-1])
    with pytest.raises(CollaborativeError, match="too few of other groups for 28"):
        nearest(vectors, 28, groups=groups)


def test_shared_listeners_is_the_cosine_of_the_columns(listened):
    counts = listened[0].counts[:, :40]
    places = np.random.default_rng(0).integers(40, size=(40, 3))
    whole = cosine_similarity((counts.toarray() > 0).T.astype(float))
    expected = whole[np.arange(40)[:, None], places].mean(axis=1)
    assert _shared_listeners(places, sparse.csr_array(counts)) == pytest.approx(expected)


def test_judges_made_none_of_the_vectors_and_prefer_factors_to_any_songs(listened):
    matrix, style = listened
    others, judges = split_users(matrix.counts)
    assert others.shape[0] + judges.shape[0] == matrix.counts.shape[0]
    table = neighbour_scores({"factors": als(others, **SEARCHED).songs}, style,
                             np.arange(len(style)), judges)  # fmt: skip
    table = table.set_index(["space", "score"])
    for score in ("same genre", "shared listeners"):
        assert table.loc[("factors", score), "low"] > table.loc[("any songs", score), "high"]


# ---- bad input


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"rank": 0}, "rank is 0: it must be 1 or more"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"regularization": float("nan")}, "regularization is nan"),
        ({"weighting": "square"}, "not one of count, log, binary"),
        ({"engine": "abacus"}, "not one of implicit, spark"),
        ({"alpha": 1e38}, "not finite: ALS diverged. Raise regularization, or lower alpha"),
    ],
)
def test_choices_that_cannot_work_are_refused(parts, choice, message):
    with pytest.raises(CollaborativeError, match=message):
        als(parts[0], **choice)


def test_factors_at_zero_are_an_error(parts):
    train = parts[0]
    flat = Factors(*(np.full((n, 2), value) for n, value in zip(train.shape, (0, 1), strict=True)))
    with pytest.raises(CollaborativeError, match=f"{train.shape[0]} of {train.shape[0]} users"):
        listeners_module._checked(flat, train)
    no_song = Factors(flat.users + 1, flat.songs - 1)
    with pytest.raises(CollaborativeError, match="songs that have plays are zero: lower regular"):
        listeners_module._checked(no_song, train)


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(CollaborativeError, match="no plays"):
        als(sparse.csr_array((3, 4), dtype=int))


def test_without_spark_it_says_what_to_install(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(CollaborativeError, match=r"pip install 'msd_genre\[spark\]'"):
        als(parts[0], rank=2, engine="spark")


def test_weighed_plays():
    counts = sparse.csr_array(np.array([[3, 0], [0, 1]]))
    assert _strengths(counts).data.tolist() == [3, 1]
    assert _strengths(counts, "binary").data.tolist() == [1, 1]
    assert _strengths(counts, "log").data.tolist() == pytest.approx(np.log([4, 2]))


# ---- in a run


def test_the_run_has_a_matrix_without_the_mismatched_songs(own_run):
    matched = make_matrix(own_run, 1, 1)
    everything = make_matrix(own_run, 1, 1, drop_mismatches=False)
    wrong = set(own_run.read("texts/mismatches/mismatches.parquet")["song_id"])
    assert not wrong & set(matched.songs) and wrong & set(everything.songs)
    gone = matched.dropped.set_index("step")
    assert gone.loc["mismatched", "songs"] == len(wrong & set(everything.songs))
    assert matched.plays.sum() + gone["plays"].sum() == everything.plays.sum()
    names = listeners_module.song_names(own_run, matched.songs)
    assert names["song_id"].tolist() == matched.songs.tolist() and names["title"].notna().all()


def test_the_scores_of_the_run_are_in_its_record(demo_run, tmp_path):
    from msd_genre.report import chapters

    folder = chapters.record_run(demo_run, tmp_path / "record")
    listeners = pd.read_csv(folder / "listeners.csv")
    assert {"ALS as the write-up", "ALS, searched", "most popular"} <= {*listeners["model"]}
    assert listeners["value"].between(0, 1).all() and (folder / "popularity.csv").is_file()


def test_real_triplets_are_ranked_better_than_by_popularity(real_msd):
    from msd_genre.datasets.plays import read_mismatches, read_triplets

    wrong = read_mismatches(real_msd / "AdditionalFiles" / "sid_mismatches.txt")[0]["song_id"]
    triplets = read_triplets([real_msd / "taste_profile" / "train_triplets.txt"])[0]
    matrix = play_matrix(triplets, wrong, min_plays=5, min_songs=5)
    train, hidden = hold_out_plays(matrix.counts)
    table, _ = score_rankers({"popular": by_popularity(train), "ALS": by_factors(als(train))},
                             train, hidden, "popular")  # fmt: skip
    assert ndcg(table, "ALS").difference_low > 0
