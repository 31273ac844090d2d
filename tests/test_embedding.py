"The embedding space: maps that repeat, purities that can be counted by hand, bad input."

import numpy as np
import pytest

from msd_genre.embedding import EmbeddingError, neighbour_purity, tsne

LINE = np.array([[0.0], [1.0], [2.1], [10.0], [11.0], [12.1]])


def test_purity_counted_by_hand():
    # Nearest two of each point on the line are the two others of its group of three.
    table = neighbour_purity(LINE, list("aabbbb"), k=(1, 2))
    # k = 1: points 0 and 1 have each other; 2 has 1, another genre; 3, 4 and 5 their own.
    assert table.purity.tolist() == pytest.approx([5 / 6, (1 + 1 + 0 + 6) / 12])
    # k = 1: a 2 of 2, b 3 of 4. k = 2: a 1/2, b (0 + 1 + 1 + 1) / 4.
    assert table.macro_purity.tolist() == pytest.approx([(1 + 3 / 4) / 2, (1 / 2 + 3 / 4) / 2])
    assert table.chance.tolist() == pytest.approx([(2 * 1 + 4 * 3) / 6 / 5] * 2)


def test_a_song_is_not_its_own_neighbour_even_among_copies():
    copies = np.zeros((3, 2))
    assert neighbour_purity(copies, ["a", "b", "c"], k=(1,)).purity[0] == 0


def test_songs_of_the_own_group_are_no_neighbours():
    groups = [0, 0, 1, 2, 3, 3]
    table = neighbour_purity(LINE, list("abbaab"), k=(1,), groups=groups)
    # The nearest of points 0 to 5 are 2, 2, 1, 4, 3 and 3: four of them have the point's label.
    assert table.purity[0] == pytest.approx(4 / 6)
    # Others of its label in other groups, of all in other groups.
    assert table.chance[0] == pytest.approx(np.mean([2 / 4, 2 / 4, 2 / 5, 2 / 5, 2 / 4, 2 / 4]))
    with pytest.raises(EmbeddingError, match="6 vectors, 6 labels and 2 groups"):
        neighbour_purity(LINE, list("aabbbb"), k=(1,), groups=[0, 1])


def test_groups_of_one_song_change_nothing():
    vectors, labels = np.random.default_rng(0).normal(size=(50, 3)), list("ab" * 25)
    alone = neighbour_purity(vectors, labels, groups=range(50))
    assert alone.equals(neighbour_purity(vectors, labels))


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
    with pytest.raises(EmbeddingError, match="6 vectors, 2 labels"):
        neighbour_purity(LINE, ["a", "b"], k=(1,))
    with pytest.raises(EmbeddingError, match="k = 10 needs at least 11"):
        neighbour_purity(LINE, list("aabbbb"))
