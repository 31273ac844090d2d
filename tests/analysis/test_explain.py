"""Explanations: complete, right where a network can be read off, and gone where it is shuffled."""

import keras
import numpy as np
import pandas as pd
import pytest

from msd_genre.analysis import explain
from msd_genre.analysis.explain import ExplainError
from msd_genre.models.inputs import Songs
from msd_genre.models.networks import build_model

FOLDER = "explain/cnn-as_written-artist-f0-s1"


def _songs(n=8, frames=60):
    rng = np.random.default_rng(0)
    return {"chroma": rng.random((n, frames, 12), np.float32),
            "timbre": rng.normal(0, 1, (n, frames, 12)).astype(np.float32),
            "lyrics": rng.normal(0, 1, (n, 5)).astype(np.float32)}  # fmt: skip


def _reference(inputs):
    return {name: np.zeros(array.shape[1:], np.float32) for name, array in inputs.items()}


def _network(name, **sizes):
    keras.utils.set_random_seed(0)
    common = {"dense_units": (16,), "embedding_units": 8, "l1": 0.0, "l2": 0.0}
    return build_model(name, 4, n_frames=60, lyric_dim=5, **common | sizes)


@pytest.mark.parametrize(
    ("name", "sizes", "tolerance"),
    [("baseline", {}, 0.02), ("cnn", {"filters": (8, 8, 8)}, 0.02),
     ("lstm", {"lstm_units": (4,)}, 0.02)],
)
def test_attributions_sum_to_the_difference_of_margins(name, sizes, tolerance):
    model, inputs = _network(name, **sizes), _songs()
    start = {name: array[-1] for name, array in _songs(9).items()}  # not 0, where ReLUs bend
    genres = np.arange(8) % 4
    found, _ = explain._integrated_gradients(model, inputs, genres, start, steps=128)
    error = explain._completeness_error(model, inputs, genres, start, found)
    ahead = explain._margins(model, inputs)
    nothing = explain._margins(model, {name: one[None] for name, one in start.items()})
    difference = (ahead - nothing)[np.arange(8), genres]
    assert np.abs(error).max() < tolerance * np.abs(difference).max()
    assert all(found[name].shape == inputs[name].shape for name in inputs)
    coarse, _ = explain._integrated_gradients(model, inputs, genres, start, steps=1)
    worse = explain._completeness_error(model, inputs, genres, start, coarse)
    assert np.abs(worse).mean() > np.abs(error).mean()


def test_a_linear_network_is_read_off():
    """Without a ReLU that bites, the attribution is weight times input, exactly."""
    model, inputs = _network("baseline", dense_units=()), _songs(3)
    kernel, bias = model.get_layer("embedding").get_weights()
    model.get_layer("embedding").set_weights([kernel, bias + 100])  # every unit is active
    output = model.get_layer("genre").get_weights()[0]
    slope = kernel @ (output - output.mean(axis=1, keepdims=True))  # (12 + 12 + 5, genres)
    found, gradients = explain._integrated_gradients(
        model, inputs, np.array([0, 1, 2]), _reference(inputs), steps=3)
    for song in range(3):
        assert found["lyrics"][song] == pytest.approx(
            inputs["lyrics"][song] * slope[24:, song], abs=1e-3)
        assert found["chroma"][song].sum(axis=0) == pytest.approx(
            inputs["chroma"][song].mean(axis=0) * slope[:12, song], abs=1e-3)
    stems, weights, usual = np.random.default_rng(1).normal(size=(7, 5)), np.ones(7), np.zeros(7)
    words = explain._word_attributions(weights, usual, stems, gradients["lyrics"][0])
    assert words == pytest.approx(stems @ slope[24:, 0], abs=1e-3)


def test_margins_come_from_probabilities_too():
    model, inputs = _network("cnn", filters=(4, 4, 4)), _songs()
    logs = np.log(model.predict(inputs, verbose=0))
    ahead = explain._margins(model, inputs)
    assert ahead == pytest.approx(logs - logs.mean(axis=1, keepdims=True), abs=1e-4)


def test_filters_sum_to_the_margin_and_lose_it_when_left_out():
    model, inputs = _network("cnn", filters=(8, 8, 8)), _songs()
    genres, start = np.zeros(8, int), _reference(inputs)
    ends = explain._song_vectors(model, inputs)
    begin = explain._song_vectors(model, {name: one[None] for name, one in start.items()})[0]
    table = explain._filter_attributions(model, ends, genres, begin, steps=64)
    assert len(table) == 8 * 16
    everything = np.tile(np.arange(len(begin)), (8, 1))
    nothing = explain._margins(model, {name: one[None] for name, one in start.items()})[0, 0]
    assert explain._without_filters(model, ends, genres, begin, everything) == pytest.approx(
        nothing, abs=1e-4)
    active, middle = explain._filter_activity(model, inputs, "chroma", np.array([2, 5]))
    assert active.shape == (8, len(middle), 2)
    assert middle[0] == 23 and middle[1] - middle[0] == 8  # 47 segments are heard, 8 between two
    assert explain._filter_attributions(_network("baseline"), ends, genres, begin).empty


def test_attributions_of_shuffled_weights_are_others():
    model, inputs = _network("cnn", filters=(8, 8, 8)), _songs()
    genres, start = np.zeros(8, int), _reference(inputs)
    found, _ = explain._integrated_gradients(model, inputs, genres, start, steps=8)
    again, _ = explain._integrated_gradients(model, inputs, genres, start, steps=8)
    shuffled, _ = explain._integrated_gradients(
        explain._shuffle_weights(model, 1), inputs, genres, start, steps=8)
    assert (explain._rank_correlation(found["timbre"], again["timbre"]) > 0.999).all()
    assert abs(explain._rank_correlation(found["timbre"], shuffled["timbre"]).mean()) < 0.2
    for mine, theirs in zip(model.get_weights(),
                            explain._shuffle_weights(model, 1).get_weights(), strict=True):
        assert np.allclose(np.sort(mine.ravel()), np.sort(theirs.ravel()))


def test_an_input_is_replaced_and_no_other():
    inputs = _songs()
    left = explain._leave_out(inputs, "lyrics", _reference(inputs))
    assert not left["lyrics"].any() and left["chroma"] is inputs["chroma"]
    swapped = explain._swap(inputs, "timbre", seed=3)["timbre"]
    assert not any((a == b).all() for a, b in zip(swapped, inputs["timbre"], strict=True))
    assert np.allclose(np.sort(swapped[:, 0, 0]), np.sort(inputs["timbre"][:, 0, 0]))
    with pytest.raises(ExplainError, match="no input 'tempo'; the network takes chroma, timbre"):
        explain._leave_out(inputs, "tempo", _reference(inputs))


def test_the_reference_is_the_mean_of_segments_that_are_there():
    inputs = _songs(4)
    inputs["chroma"][:, 30:] = 0  # after the songs' end
    rows, scale = {"train": np.array([0, 1, 1])}, {"lyrics": [[1.0] * 5, [2.0] * 5]}
    songs = Songs(["a"], np.array(list("wxyz")), np.array(["a"] * 4), rows, inputs, None, scale)
    mean = explain._reference_song(songs)
    there = inputs["chroma"][:2, :30]
    assert mean["chroma"][50] == pytest.approx(there.mean(axis=(0, 1)), abs=1e-5)
    zeros = explain._reference_song(songs, "zeros")
    assert not zeros["chroma"].any() and zeros["lyrics"] == pytest.approx(-0.5)
    with pytest.raises(ExplainError, match="no reference 'median'; there is mean, zeros"):
        explain._reference_song(songs, "median")


def test_the_tables_of_a_run_fit_together(demo_run):
    table = demo_run.read(f"{FOLDER}/songs.parquet").set_index("track_id")
    maps = demo_run.read(f"{FOLDER}/maps.parquet")
    words = demo_run.read(f"{FOLDER}/words.parquet")
    assert set(maps["track_id"]) == set(words["track_id"]) == set(table.index)
    of_words = words.groupby("track_id")["attribution"].sum()
    assert of_words[table.index].to_numpy() == pytest.approx(table["lyrics"].to_numpy(), abs=1e-3)
    assert maps.groupby("track_id")["start_s"].is_monotonic_increasing.all()
    predicted = demo_run.read("models/cnn-as_written-artist-f0-s1/predictions.parquet")
    answers = predicted.query("part == 'test'").set_index("track_id").filter(like="p_")
    assert (answers.loc[table.index].idxmax(axis=1).str[2:] == table["answer"]).all()
    for name in ("chroma", "timbre", "lyrics"):
        for how in ("mean", "zeros", "swapped"):
            left = demo_run.read(f"{FOLDER}/without_{name}_{how}/predictions.parquet")
            assert left.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
            assert set(left["track_id"]) == set(answers.index)


def test_what_cannot_be_explained_is_named(demo_run):
    with pytest.raises(ExplainError, match=r"logistic-artist-f0-s1 is not .* `msd-genre report "):
        explain._open_network(demo_run, "models/logistic-artist-f0-s1")
    network = explain._open_network(demo_run, "models/cnn-as_written-artist-f0-s1")
    with pytest.raises(ExplainError, match="TRNONE: not among the"):
        explain._chosen_rows(network, np.zeros(3, int), np.arange(3), 1, ["TRNONE"], 0)
    assert explain._lacks(pd.DataFrame({"track_id": ["a"]}), pd.DataFrame(
        {"track_id": ["b", "a"], "stem": ["love", ""]}), ["a", "b"]) == ["lyrics", "segments"]
