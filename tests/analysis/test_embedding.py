"The embedding space: maps that repeat, purities that can be counted by hand, bad input."

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest
from sklearn.metrics import average_precision_score

from msd_genre.analysis.clusters import (
    NOISE,
    _explain_clusters,
    _find_clusters,
    _medoids,
    _song_properties,
)  # fmt: skip
from msd_genre.analysis.embedding import (
    EmbeddingError,
    _chance_precision,
    _retrieval_scores,
    _song_scores,
    read_space,
    retrieval,
    tsne,
)  # fmt: skip  # fmt: skip

LINE = np.array([[0.0], [1.0], [2.1], [10.0], [11.0], [12.1]])


def test_the_map_repeats_to_the_bit():
    vectors = np.random.default_rng(0).normal(size=(100, 8))
    first, again = tsne(vectors, 3, perplexity=10), tsne(vectors, 3, perplexity=10)
    assert first.shape == (100, 2)
    np.testing.assert_array_equal(first, again)


def test_a_collapsed_space_has_no_map_and_says_so():
    with pytest.warns(UserWarning, match="all 40 vectors are the same"):
        points = tsne(np.ones((40, 5)), 1, perplexity=10)
    assert np.array_equal(points, np.zeros((40, 2)))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros(5), r"shape \(5,\), expected \(songs, units\)"),
        (np.full((200, 2), np.nan), "200 of 200 vectors are not finite"),
        (np.zeros((31, 2)), "found 31 vectors, but a map at perplexity 30 needs at least 32"),
    ],
)
def test_bad_vectors_are_named(vectors, message):
    with pytest.raises(EmbeddingError, match=message):
        tsne(vectors, 1)


def test_bad_labels_and_too_many_neighbours_are_named():
    with pytest.raises(EmbeddingError, match="6 vectors, but 2 values of genre"):
        retrieval(LINE, ["a", "b"], range(6), k=(1,))
    with pytest.raises(EmbeddingError, match="6 vectors, but 2 values of artist"):
        retrieval(LINE, list("aabbbb"), [0, 1], k=(1,))
    with pytest.raises(EmbeddingError, match="k = 10 needs at least 11"):
        retrieval(LINE, list("aabbbb"), range(6))


def test_chance_is_what_shuffled_rankings_have():
    rng, relevant = np.random.default_rng(1), np.arange(12) < 4
    shuffled = [average_precision_score(rng.permutation(relevant), -np.arange(12))
                for _ in range(4000)]
    precision, ap = _chance_precision(np.array([4, 0, 1]), np.array([12, 12, 1]))
    assert precision[0] == pytest.approx(1 / 3)
    assert ap[0] == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / np.sqrt(4000))
    assert np.isnan(precision[1]) and np.isnan(ap[1])  # nothing to find
    assert precision[2] == ap[2] == 1


def test_precision_and_its_chance_counted_by_hand():
    # The nearest of each point on the line are in its group of three: 1, 0, 1, 4, 3, 4.
    table = retrieval(LINE, list("aabbbb"), range(6), k=(1, 2)).query("view == 'all'")
    assert table["precision_1"].tolist() == [1, 1, 0, 1, 1, 1]  # 2 has 1, another genre
    assert table["precision_2"].tolist() == [0.5, 0.5, 0, 1, 1, 1]
    assert table["chance_precision_1"].tolist() == pytest.approx([1 / 5] * 2 + [3 / 5] * 4)
    groups = [0, 0, 1, 2, 3, 3]  # the nearest by others are 2, 2, 1, 4, 3 and 3
    others = retrieval(LINE, list("abbaab"), groups, k=(1,)).query("view == 'others'")
    assert others["precision_1"].tolist() == [0, 1, 1, 1, 1, 0]
    assert others["chance_precision_1"].tolist() == pytest.approx(
        [2 / 4, 2 / 4, 2 / 5, 2 / 5, 2 / 4, 2 / 4])
    alone = retrieval(LINE, list("abbaab"), range(6), k=(1,)).set_index("view")
    assert alone.loc["all", "precision_1"].tolist() == alone.loc["others", "precision_1"].tolist()
    copies = retrieval(np.zeros((3, 2)), ["a", "b", "b"], range(3), k=(2,)).query("view == 'all'")
    assert copies["precision_2"].tolist()[1:] == [0.5, 0.5]  # a song is not its own neighbour


def test_retrieval_counted_by_hand():
    # On the line 0, 1, 2.1, 10, 11, 12.1 the others stand, from 0: 1, 2.1, 10, 11, 12.1.
    table = retrieval(LINE, list("abaabb"), [0, 0, 1, 2, 3, 3], k=(1, 2)).query("view == 'all'")
    first = table.iloc[0]  # finds b, a, a, b, b
    assert first["ap"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (first["precision_1"], first["precision_2"]) == (0, 0.5)
    assert (first["relevant"], first["candidates"]) == (2, 5)
    others = retrieval(LINE, list("abaabb"), [0, 0, 1, 2, 3, 3], k=(1, 2)).query("view == 'others'")
    assert others["ap"].iloc[0] == 1  # without the artist's own b: a, a, b, b
    assert table["same_artist"].tolist() == [0.5, 0.5, 0, 0, 0.5, 0.5]


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    vectors, genres = rng.normal(size=(60, 4)), rng.choice(["a", "b", "c"], 60)
    artists, languages = rng.integers(0, 20, 60), rng.choice(["en", "es"], 60)
    table = retrieval(vectors, genres, artists, matched=languages).set_index(["view", "song"])
    for song in range(0, 60, 7):
        distance = np.linalg.norm(vectors - vectors[song], axis=1)
        found = np.arange(60) != song
        views = {"all": found, "others": found & (artists != artists[song]),
                 "matched": found & (artists != artists[song]) & (languages == languages[song])}
        for view, mask in views.items():
            expected = average_precision_score(genres[mask] == genres[song], -distance[mask])
            assert table.loc[(view, song), "ap"] == pytest.approx(expected), (view, song)


def test_a_space_that_knows_nothing_scores_as_chance_does():
    rng = np.random.default_rng(4)
    space = pd.DataFrame(rng.normal(size=(700, 6))).add_prefix("e_").assign(
        track_id=[f"TR{i}" for i in range(700)], fold=np.arange(700) % 2,
        genre=rng.choice(list("aaab"), 700), artist=np.arange(700) // 2)
    scored = _retrieval_scores(_song_scores(space), n_boot=200)
    wide = scored.query("over == 'songs' and score != 'same_artist'")
    assert ((wide["low"] - 0.01 <= wide["chance"]) & (wide["chance"] <= wide["high"] + 0.01)).all()
    assert (scored["low"] <= scored["value"] + 1e-9).all()


def test_equal_distances_do_not_favour_the_order_of_the_songs():
    """A collapsed network puts all songs in one place; in order of genre they would look good."""
    genres = np.repeat(list("ab"), 100)
    table = retrieval(np.zeros((200, 3)), genres, range(200), k=(10,)).query("view == 'all'")
    assert abs(table["precision_10"].mean() - table["chance_precision_10"].mean()) < 0.05


def test_what_cannot_be_found_is_not_counted():
    table = retrieval(LINE, list("aabbbc"), [0, 0, 1, 2, 3, 4], k=(1, 4))
    alone = table.query("song == 5")
    assert alone[["ap", "precision_1"]].isna().all(axis=None)
    of_a = table.query("song == 0").set_index("view")["ap"]
    assert of_a["all"] == 1 and np.isnan(of_a["others"])  # the other a is by the same artist
    scored = _retrieval_scores(_song_scores(pd.DataFrame(LINE, columns=["e_0"]).assign(
        track_id=list("uvwxyz"), fold=0, genre=list("aabbbc"), artist=[0, 0, 1, 2, 3, 4]), k=(1,)),
        n_boot=50).set_index(["view", "score", "over"])
    assert scored.loc[("all", "ap", "songs"), "songs"] == 5
    assert "c" not in scored.loc[("all", "ap")].index


def test_differences_are_taken_song_by_song():
    rng = np.random.default_rng(0)
    space = pd.DataFrame(rng.normal(size=(40, 3))).add_prefix("e_").assign(
        track_id=[f"TR{i}" for i in range(40)], fold=0, genre=list("ab" * 20), artist=range(40))
    songs = _song_scores(space)
    same = _retrieval_scores(songs, n_boot=50, reference=songs)
    assert (same[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


def test_clusters_are_numbered_by_size_and_may_be_none():
    rng = np.random.default_rng(0)
    groups = np.concatenate([rng.normal(0, 0.1, (12, 4)), rng.normal(5, 0.1, (20, 4))])
    clusters = _find_clusters(groups, min_size=8)
    assert set(clusters[:12]) == {2} and set(clusters[12:]) == {1}
    central = _medoids(groups, clusters, [*range(12), *[99] * 20])
    assert len(central[1]) == 1 and len(set(central[2])) == 3  # no artist twice
    assert set(_find_clusters(10 * np.eye(30), min_size=5)) == {NOISE}
    nothing = pd.DataFrame({"x": np.arange(9.0)})
    assert _explain_clusters(np.full(9, NOISE), nothing, ["a"] * 9, range(9)).empty
    with pytest.raises(EmbeddingError, match="needs at least 9"):
        _find_clusters(groups[:5], min_size=8)


def _corpus(seed, effect=0.0):
    """Songs whose cluster and properties go with their artists, not with each other."""
    rng, n = np.random.default_rng(seed), 40
    who = np.repeat(np.arange(n), rng.choice([1, 1, 2, 3, 8], n))
    pop = rng.random(n) < 0.7
    inside = (rng.random(n) < np.where(pop, 0.2, 0.6))[who] ^ (rng.random(len(who)) < 0.1)
    speaks = rng.random(n) < np.where(pop, 0.2, 0.7)
    number = rng.normal(size=n)[who] + 0.3 * rng.normal(size=len(who)) + pop[who]
    properties = pd.DataFrame({"number": number + effect * inside,
                               "language": np.where(speaks, "es", "en")[who]})
    return np.where(inside, 1, NOISE), properties, np.where(pop, "Pop", "Latin")[who], who


def test_the_permutation_test_holds_its_level():
    """Artists of one song and of eight, properties that genre explains: p is uniform."""
    tables = [_explain_clusters(*_corpus(seed), n_perm=99, seed=seed) for seed in range(200)]
    both = pd.concat(tables, keys=range(200), names=["draw"]).reset_index()
    p = both.pivot(index="draw", columns="property", values="p")
    for name in p:
        assert kstest(p[name], "uniform").pvalue > 0.001, name
        assert (p[name] <= 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)
    any_found = np.mean([table["p_adjusted"].min() <= 0.05 for table in tables])
    assert any_found < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_the_permutation_test_finds_what_is_there():
    found = [_explain_clusters(*_corpus(seed, effect=3.0), n_perm=99).set_index("property")
             for seed in range(5)]
    assert all(table.loc["number", "p_adjusted"] <= 0.02 for table in found)
    assert all(table.loc["number", "effect"] > 0.5 for table in found)


def test_the_run_has_scores_clusters_and_an_untrained_space(demo_run):
    scores = demo_run.read("scores/10_retrieval.csv")
    assert {"CNN as written", "whole-song statistics", "lyric vector", "CNN as written, untrained",
            "the write-up's map"} <= set(scores["space"])
    assert {"all", "others", "matched"} == set(scores["view"])
    songs = demo_run.read("embedding/clusters/songs.parquet")
    tested = demo_run.read("models/cnn-as_written-artist-f0-s1/embedding.parquet")
    assert set(songs["track_id"]) == set(tested.query("part == 'test'")["track_id"])
    properties = _song_properties(demo_run, songs["track_id"])
    assert len(properties) == len(songs) and (properties["tempo (BPM)"].dropna() > 0).all()
    with pytest.raises(EmbeddingError, match="no space 'sound'"):
        read_space(demo_run, [], "sound")
