"Fused layers: the same function, gradient and penalty as Keras' own; what is not supported."

import keras
import numpy as np
import pytest
import tensorflow as tf

from msd_genre.models import fused
from msd_genre.models.fused import LayerError, _fused_clone
from msd_genre.models.networks import build_model

L = keras.layers


@pytest.mark.parametrize(("outputs", "taps"), [(4, 4), (2, 3), (6, 3), (1, 5), (5, 1)])
def test_tiles_give_the_values_of_a_convolution(outputs, taps):
    rng = np.random.default_rng(0)
    of_outputs, of_kernel, of_input = fused._winograd_matrices(outputs, taps)
    frames, kernel = rng.normal(size=outputs + taps - 1), rng.normal(size=taps)
    values = of_outputs @ ((of_kernel @ kernel) * (of_input @ frames))
    assert len(of_input) == outputs + taps - 1, "as few products as there can be"
    np.testing.assert_allclose(values, np.correlate(frames, kernel), atol=1e-5)


def answers_and_gradients(model, x, pull):
    "What a network says, and the gradient of a sum of it with regard to inputs and variables."
    inputs = [tf.convert_to_tensor(one) for one in x]
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        said = keras.tree.flatten(model(inputs, training=True))
        total = sum(tf.reduce_sum(a * p) for a, p in zip(said, pull, strict=True))
    found = tape.gradient(total, [*inputs, *variables])
    names = [*range(len(inputs)), *(id(v) for v in model.trainable_variables)]
    return [np.array(a) for a in said], dict(zip(names, map(np.array, found), strict=True))


def same_function(model, atol=2e-4):
    "The fused clone has the same outputs and the same gradients, at inputs of size 1."
    rng, clone = np.random.default_rng(1), _fused_clone(model)
    for v in model.trainable_variables:
        v.assign(v + rng.normal(0, 0.1, v.shape))  # no bias stays 0
    x = [rng.normal(size=(3, *one.shape[1:])).astype("float32") for one in model.inputs]
    pull = [rng.normal(size=(3, *one.shape[1:])).astype("float32") for one in model.outputs]
    (said, found), (own, expected) = (answers_and_gradients(m, x, pull) for m in (clone, model))
    for ours, theirs in zip(said, own, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)
    assert found.keys() == expected.keys()
    for name in expected:
        scale = max(1, abs(expected[name]).max())
        np.testing.assert_allclose(found[name] / scale, expected[name] / scale, atol=atol)
    return clone


@pytest.mark.parametrize(
    ("time", "channels", "taps", "pool", "activation"),
    [(30, 12, 4, 4, "linear"),  # one product
     (71, 40, 4, 2, "relu"),  # tiles of two windows, the last one half empty
     (32, 40, 4, 2, "tanh"),
     (23, 40, 3, 3, "relu"),  # frames are left over
     (20, 33, 1, 5, "linear"),
     (26, 33, 5, 6, "relu")],  # a window is longer than a tile may be
)  # fmt: skip
def test_convolution_and_pool_are_those_of_keras(time, channels, taps, pool, activation):
    x = keras.Input((time, channels))
    convolved = L.Conv1D(5, taps, activation=activation)(x)
    clone = same_function(keras.Model([x], [L.MaxPooling1D(pool)(convolved)]))
    assert [type(layer).__name__ for layer in clone.layers] == ["InputLayer", "_WinogradConvPool"]


@pytest.mark.parametrize(("depth", "sequences"), [(1, False), (2, True), (3, False)])
def test_stacks_of_lstm_are_those_of_keras(depth, sequences):
    inputs = [keras.Input((9, 4)), keras.Input((9, 3))]
    outputs = []
    for x in inputs:
        for k in range(depth):
            x = L.LSTM(3 + k, return_sequences=k < depth - 1 or sequences)(x)
        outputs.append(x)
    clone = same_function(keras.Model(inputs, outputs))
    assert sum(isinstance(layer, fused._FusedLSTM) for layer in clone.layers) == 1


def test_attention_over_an_lstm_and_lstm_of_other_lengths_are_followed():
    """What is read twice is not hidden inside a stack; other lengths are read apart."""
    one, other = keras.Input((8, 3)), keras.Input((5, 2))
    lower = L.LSTM(4, return_sequences=True)(one)
    upper = L.LSTM(3, return_sequences=True)(lower)
    weights = L.Softmax(axis=1)(L.Dense(1)(upper))
    heard = L.Flatten()(L.Dot(axes=1)([weights, upper]))
    model = keras.Model([one, other], [heard, L.GlobalMaxPooling1D()(lower), L.LSTM(2)(other)])
    clone = same_function(model)
    assert sum(isinstance(layer, fused._FusedLSTM) for layer in clone.layers) == 3


@pytest.mark.parametrize("name", ["baseline", "cnn", "lstm"])
def test_the_clone_of_each_network_shares_variables_and_penalties(name):
    sizes = {"cnn": {"filters": (4, 4), "pools": (4, 2)}}.get(name, {})
    model = build_model(name, 3, n_frames=40, lyric_dim=7, variant="as_coded", **sizes)
    clone = _fused_clone(model)
    assert {id(v) for v in clone.variables} == {id(v) for v in model.variables}
    assert len(clone.losses) == len(model.losses) == 8
    assert float(sum(clone.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-5)


def test_penalties_of_what_is_replaced_are_kept():
    x = keras.Input((20, 4))
    convolve = L.Conv1D(3, 4, kernel_regularizer="l2")
    read = L.LSTM(3, kernel_regularizer="l1", bias_regularizer="l2")
    model = keras.Model(x, read(L.MaxPooling1D(2)(convolve(x))))
    clone = _fused_clone(model)
    assert len(model.losses) == 3
    assert float(sum(clone.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-5)


def network(*chain, frames=20):
    x = start = keras.Input((frames, 4))
    for layer in chain:
        x = layer(x)
    return keras.Model(start, x)


class Own(L.Dense):
    "A layer that is not Keras' own."


def used_twice():
    x, layer = keras.Input((4,)), L.Dense(4, name="twice")
    return keras.Model(x, layer(layer(x)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network(Own(3, name="own")), "own is a Own, which is not supported"),
        (network(L.GRU(3, name="gru")), "gru is a GRU"),
        (network(L.LSTM(3, dropout=0.5, name="a")), "a is an LSTM with unusual settings"),
        (network(L.LSTM(3, activation="relu", name="a")), "a is an LSTM with unusual settings"),
        (network(L.Conv1D(3, 4, name="c")), "c is a convolution without a plain max pool"),
        (network(L.Conv1D(3, 4, padding="same", name="c"), L.MaxPooling1D(2)), "c is a conv"),
        (network(L.Conv1D(3, 4, strides=2, name="c"), L.MaxPooling1D(2)), "c is a convolution"),
        (network(L.Conv1D(3, 4, name="c"), L.MaxPooling1D(3, strides=2)), "c is a convolution"),
        (network(L.Conv1D(3, 4, activation="gelu", name="c"), L.MaxPooling1D(2)), "c is a conv"),
        (network(L.Dense(3, dtype="mixed_bfloat16", name="d")), "d computes in bfloat16"),
        (used_twice(), "twice is used more than once"),
        (keras.Sequential([L.Dense(3)], name="s"), "s is not a functional model"),
    ],
)
def test_what_is_not_supported_is_named(model, message):
    with pytest.raises(LayerError, match=message):
        _fused_clone(model)
