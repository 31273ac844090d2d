"The networks: their sizes, their variants, what bad input gets, and other backends."

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from msd_genre import models

SMALL = {
    "baseline": {"dense_units": (6,), "embedding_units": 5},
    "cnn": {"dense_units": (6,), "filters": (4, 4), "pools": (4, 2)},
    "lstm": {"dense_units": (6,), "lstm_units": (3, 2)},
}


def small(name, variant="as_written", n_classes=3):
    return models.build_model(
        name, n_classes, n_frames=40, lyric_dim=7, variant=variant, **SMALL[name]
    )


def songs(n, rng):
    return {
        "chroma": rng.random((n, 40, 12), dtype="float32"),
        "timbre": rng.normal(0, 50, (n, 40, 12)).astype("float32"),
        "lyrics": rng.normal(size=(n, 7)).astype("float32"),
    }


@pytest.mark.parametrize(
    ("name", "parameters"), [("baseline", 65_480), ("cnn", 534_472), ("lstm", 68_488)]
)
def test_as_coded_has_the_parameters_of_the_saved_notebooks(name, parameters):
    model = models.build_model(name, 18, lyric_dim=300, variant="as_coded")
    assert model.count_params() == parameters
    assert models.layer_table(model).parameters.sum() == parameters


@pytest.mark.parametrize("variant", models.VARIANTS)
@pytest.mark.parametrize("name", models.MODELS)
def test_shapes_and_names(name, variant):
    model = small(name, variant)
    assert {tensor.name: tensor.shape for tensor in model.inputs} == {
        "chroma": (None, 40, 12),
        "timbre": (None, 40, 12),
        "lyrics": (None, 7),
    }
    probabilities = model.predict(songs(5, np.random.default_rng(0)), verbose=0)
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert model.output_names == ["genre"]


@pytest.mark.parametrize("name", models.MODELS)
def test_the_embedding_has_50_units_unless_asked(name):
    model = models.build_model(name, 4, n_frames=60)
    assert model.get_layer("embedding").output.shape == (None, 50)


def test_convolutions_are_linear_as_coded_and_relu_as_written():
    expected = {"as_coded": keras.activations.linear, "as_written": keras.activations.relu}
    for variant, activation in expected.items():
        layers = small("cnn", variant).layers
        found = {layer.activation for layer in layers if isinstance(layer, keras.layers.Conv1D)}
        assert found == {activation}


def penalty(layer, part):
    regularizer = getattr(layer, f"{part}_regularizer")
    return None if regularizer is None else (float(regularizer.l1), float(regularizer.l2))


@pytest.mark.parametrize("name", models.MODELS)
def test_penalties_lie_on_the_dense_layers_alone(name):
    as_coded = small(name, "as_coded")
    for layer in as_coded.layers:
        if isinstance(layer, keras.layers.Dense):
            assert penalty(layer, "kernel") == pytest.approx((0.01, 0.01)), layer.name
            assert penalty(layer, "bias") == pytest.approx((0.01, 0.01)), layer.name
        elif hasattr(layer, "kernel_regularizer"):
            assert penalty(layer, "kernel") is None, layer.name
    penalised = [layer for layer in small(name).layers if getattr(layer, "kernel_regularizer", 0)]
    assert bool(penalised) == (name != "lstm")


def test_the_lstm_keeps_its_last_state_only():
    table = models.layer_table(small("lstm")).set_index("layer")
    assert table.output_shape["chroma_lstm_1"] == "40 x 3"
    assert table.output_shape["chroma_lstm_2"] == "2"


def test_layer_table_tells_what_feeds_what():
    table = models.layer_table(small("cnn")).set_index("layer")
    assert table.inputs["chroma"] == ""
    assert table.inputs["chroma_conv_2"] == "chroma_pool_1"
    assert table.inputs["song"] == "chroma_mean, timbre_mean, lyrics"
    assert table.kind["timbre_pool_1"] == "MaxPooling1D"


def test_minimum_frames_is_exact():
    needed = models.minimum_frames()
    model = models.build_model("cnn", 2, n_frames=needed, filters=(2, 2, 2))
    assert model.get_layer("chroma_pool_3").output.shape == (None, 1, 2)
    with pytest.raises(models.ModelError, match=f"at least {needed}"):
        models.build_model("cnn", 2, n_frames=needed - 1)


@pytest.mark.parametrize("name", models.MODELS)
def test_saved_and_loaded_it_says_the_same(name, tmp_path):
    model, batch = small(name), songs(3, np.random.default_rng(1))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        model.predict(batch, verbose=0), loaded.predict(batch, verbose=0)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "gru"}, "unknown model 'gru'; the models are baseline, cnn, lstm"),
        ({"variant": "coded"}, "unknown variant 'coded'; the variants are as_written, as_coded"),
        ({"lstm_units": (3,)}, "the cnn has no size lstm_units; its sizes are dense_units"),
        ({"filters": (2, 2)}, "must have one entry each"),
        ({"n_classes": 1}, "found 1 classes, expected 2 or more"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(models.ModelError, match=message):
        models.build_model(**({"name": "cnn", "n_classes": 3} | call))


ONE_STEP = """
import keras, numpy as np
from msd_genre.layers import quick_twin
from msd_genre.models import build_model
assert keras.config.backend() == "{backend}"
rng = np.random.default_rng(0)
x = {{"chroma": rng.random((8, 40, 12)), "timbre": rng.random((8, 40, 12)),
     "lyrics": rng.random((8, 7))}}
for name, sizes in {sizes}.items():
    model = build_model(name, 3, n_frames=40, lyric_dim=7, **sizes)
    model.compile("adam", "sparse_categorical_crossentropy")
    before = np.array(keras.ops.convert_to_numpy(model.get_layer("genre").kernel))
    loss = model.train_on_batch(x, rng.integers(0, 3, 8))
    assert np.isfinite(loss), name
    after = keras.ops.convert_to_numpy(model.get_layer("genre").kernel)
    assert not np.array_equal(before, after), name
    said = [keras.ops.convert_to_numpy(one(x)) for one in (model, quick_twin(model))]
    np.testing.assert_allclose(*said, atol=1e-4)
    twin = quick_twin(model)
    twin.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    assert np.isfinite(twin.train_on_batch(x, rng.integers(0, 3, 8))), name
    assert not np.array_equal(after, keras.ops.convert_to_numpy(model.get_layer("genre").kernel))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_one_step_on_each_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run = subprocess.run(
        [sys.executable, "-c", ONE_STEP.format(backend=backend, sizes=SMALL)],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
