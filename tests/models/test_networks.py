"The networks: their sizes, their variants, what bad input gets, and other backends."

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from msd_genre.models import networks
from msd_genre.models.networks import MODELS, ModelError, register_model
from msd_genre.workspace.registry import RegistryError

SMALL = {
    "baseline": {"dense_units": (6,), "embedding_units": 5},
    "cnn": {"dense_units": (6,), "filters": (4, 4), "pools": (4, 2)},
    "lstm": {"dense_units": (6,), "lstm_units": (3, 2)},
    "transformer": {"dense_units": (6,), "width": 4, "heads": 2},
    "joint": {"parts": networks._PARTS, "filters": (4, 4), "kernel": 3},
}
SHAPES = {"timbre_statistics": (9,), "chroma_statistics": (8,), "song_statistics": (3,),
          "words": (20,), "lyrics": (7,), "segments": (40, 25)}
EACH = [(name, variant) for name in SMALL for variant in MODELS[name].variants]
WRITE_UP = [name for name in SMALL if "as_coded" in MODELS[name].variants]


def small(name, variant="", n_classes=3, **sizes):
    return networks.build_model(
        name, n_classes, n_frames=40, lyric_dim=7, variant=variant, shapes=SHAPES,
        **SMALL[name] | sizes,
    )  # fmt: skip


def songs(n, rng):
    return {
        "chroma": rng.random((n, 40, 12), dtype="float32"),
        "timbre": rng.normal(0, 50, (n, 40, 12)).astype("float32"),
        "lyrics": rng.normal(size=(n, 7)).astype("float32"),
    }


def inputs_of(model, n, rng):
    "Songs of whatever shape the network takes."
    return {one.name: rng.random((n, *one.shape[1:]), dtype="float32") for one in model.inputs}


@pytest.mark.parametrize(
    ("name", "parameters"), [("baseline", 65_480), ("cnn", 534_472), ("lstm", 68_488)]
)
def test_as_coded_has_the_parameters_of_the_saved_notebooks(name, parameters):
    model = networks.build_model(name, 18, lyric_dim=300, variant="as_coded")
    assert model.count_params() == parameters
    assert networks.layer_table(model).parameters.sum() == parameters


@pytest.mark.parametrize("variant", networks.VARIANTS)
@pytest.mark.parametrize("name", WRITE_UP)
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


@pytest.mark.parametrize("name", WRITE_UP)
def test_the_embedding_has_50_units_unless_asked(name):
    model = networks.build_model(name, 4, n_frames=60)
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


@pytest.mark.parametrize("name", WRITE_UP)
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
    table = networks.layer_table(small("lstm")).set_index("layer")
    assert table.output_shape["chroma_lstm_1"] == "40 x 3"
    assert table.output_shape["chroma_lstm_2"] == "2"


def test_layer_table_tells_what_feeds_what():
    table = networks.layer_table(small("cnn")).set_index("layer")
    assert table.inputs["chroma"] == ""
    assert table.inputs["chroma_conv_2"] == "chroma_pool_1"
    assert table.inputs["song"] == "chroma_mean, timbre_mean, lyrics"
    assert table.kind["timbre_pool_1"] == "MaxPooling1D"


def test_minimum_frames_is_exact():
    needed = networks._minimum_frames()
    model = networks.build_model("cnn", 2, n_frames=needed, filters=(2, 2, 2))
    assert model.get_layer("chroma_pool_3").output.shape == (None, 1, 2)
    with pytest.raises(networks.ModelError, match=f"at least {needed}"):
        networks.build_model("cnn", 2, n_frames=needed - 1)


@pytest.mark.parametrize(("name", "variant"), EACH)
def test_saved_and_loaded_it_says_the_same(name, variant, tmp_path):
    sizes = {"pooling": networks._POOLINGS} if (name, variant) == ("cnn", "as_written") else {}
    model = small(name, variant, **sizes)
    batch = inputs_of(model, 3, np.random.default_rng(1))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(
        model.predict(batch, verbose=0), loaded.predict(batch, verbose=0)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "gru"}, "no model 'gru'; there is baseline, cnn, lstm, transformer"),
        ({"variant": "coded"}, "unknown variant 'coded' of cnn; its variants are as_written, as_"),
        ({"name": "joint", "variant": "as_coded"}, "'as_coded' of joint; its variants are ours"),
        ({"name": "joint"}, "needs the shape of timbre_statistics, chroma_"),
        ({"name": "joint", "variant": "ours", "parts": ["sound"]}, "choose one or more of timbre_"),
        ({"name": "transformer", "variant": "ours", "heads": 5}, "12 cannot be shared by 5 heads"),
        ({"pooling": ("median",)}, r"pooling \['median'\]: choose of mean, max, l2"),
        ({"lstm_units": (3,)}, "the cnn has no size lstm_units; its sizes are dense_units"),
        ({"filters": (2, 2)}, "must have one entry each"),
        ({"n_classes": 1}, "found 1 classes, expected 2 or more"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ModelError, RegistryError), match=message):
        networks.build_model(**({"name": "cnn", "n_classes": 3} | call))


def test_the_first_variant_is_the_default():
    assert [*MODELS["lstm"].variants] == ["as_written", "as_coded", "attention", "gru"]
    assert networks.default_sizes("lstm") == networks.default_sizes("lstm", "as_written")
    assert small("joint").name == "joint_ours" and small("lstm").name == "lstm_as_written"


REGISTERED = {"units": 4, "layer": "embedding", "end": "softmax"}


def dense(n_classes, shapes, sizes):
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    x = keras.layers.Dense(sizes["units"], name=sizes["layer"])(inputs["words"])
    return keras.Model(inputs, keras.layers.Dense(n_classes, sizes["end"], name="genre")(x))


@pytest.fixture
def registered(monkeypatch):
    "A model of this module, for one test."
    monkeypatch.setattr(MODELS, "_entries", {**MODELS._entries})
    return register_model("dense", sizes=REGISTERED, inputs=("words",))(dense)


def test_a_registered_model_is_built_by_its_name(registered):
    assert registered is dense and MODELS["dense"].title == "Dense"
    model = networks.build_model("dense", 3, shapes=SHAPES, units=2)
    assert model.name == "dense_custom" and model.get_layer("embedding").output.shape == (None, 2)
    assert networks._resolve("dense", "") == ("custom", MODELS["dense"].sizes, networks._CUSTOM)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"layer": "song"}, 'layers words, song, genre; expected one .*`name="embedding"`'),
        ({"end": "relu"}, r"ends in genre with the shape \(3,\); expected one softmax of 3"),
    ],
)
def test_a_registered_model_has_an_embedding_and_probabilities(registered, sizes, message):
    with pytest.raises(ModelError, match=message):
        networks.build_model("dense", 3, shapes=SHAPES, **sizes)


def test_a_registered_model_takes_what_it_declares(registered):
    register_model("dense", inputs=("words", "lyrics"))(
        lambda n, shapes, sizes: dense(n, {"words": (20,)}, REGISTERED))
    with pytest.raises(ModelError, match="has the inputs words; expected words, lyrics: name"):
        networks.build_model("dense", 3, shapes=SHAPES)
    with pytest.raises(ModelError, match=r"inputs \['melody'\]: choose one or more of chroma"):
        register_model("other", inputs=("melody",))
    with pytest.raises(ModelError, match="named 'my-model'; expected letters, digits, and _"):
        register_model("my-model")


def test_a_joint_network_takes_its_parts_and_no_others():
    model = small("joint", "ours", parts=("words", "segments"))
    assert {one.name: one.shape for one in model.inputs} == {
        "words": (None, 20), "segments": (None, 40, 25)}  # fmt: skip
    assert model.get_layer("embedding").output.shape == (None, 50)
    table = networks.layer_table(model).set_index("layer")
    assert table.inputs["segments_attended"] == "segments_weight, segments_pool_2"


def test_the_transformer_has_about_the_parameters_of_the_lstm():
    counts = [networks.build_model(name, 18, lyric_dim=300, variant=variant).count_params()
              for name, variant in [("lstm", "as_written"), ("transformer", "ours")]]  # fmt: skip
    assert abs(counts[1] / counts[0] - 1) < 0.05


def test_attention_is_a_mean_with_weights_that_add_up_to_one():
    model = small("lstm", "attention")
    parts = [model.get_layer(f"chroma_{name}").output for name in ("lstm_2", "weight", "flat")]
    states, weights, mean = keras.Model(model.inputs, parts).predict(
        songs(2, np.random.default_rng(0)), verbose=0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((states * weights).sum(axis=1), mean, rtol=1e-4, atol=1e-6)


def test_pooling_over_time_by_hand():
    model = small("cnn", pooling=networks._POOLINGS)
    parts = [model.get_layer(f"timbre_{name}").output for name in ("pool_2", "all")]
    before, after = keras.Model(model.inputs, parts).predict(
        songs(2, np.random.default_rng(0)), verbose=0)
    expected = [before.mean(axis=1), before.max(axis=1), np.sqrt((before**2).mean(axis=1))]
    np.testing.assert_allclose(after, np.concatenate(expected, axis=1), rtol=1e-4)


ONE_STEP = """
import keras, numpy as np
from msd_genre.models.fused import LayerError, _fused_clone
from msd_genre.models.networks import MODELS, build_model
assert keras.config.backend() == "{backend}"
rng = np.random.default_rng(0)
for name, sizes in {sizes}.items():
    model = build_model(name, 3, n_frames=40, lyric_dim=7, variant=[*MODELS[name].variants][-1],
                        shapes={shapes}, **sizes)
    x = {{one.name: rng.random((8, *one.shape[1:])) for one in model.inputs}}
    model.compile("adam", "sparse_categorical_crossentropy")
    before = np.array(keras.ops.convert_to_numpy(model.get_layer("genre").kernel))
    loss = model.train_on_batch(x, rng.integers(0, 3, 8))
    assert np.isfinite(loss), name
    after = keras.ops.convert_to_numpy(model.get_layer("genre").kernel)
    assert not np.array_equal(before, after), name
    try:
        clone = _fused_clone(model)
    except LayerError:  # attention and the like
        assert name in ("lstm", "transformer", "joint"), name
        continue
    said = [keras.ops.convert_to_numpy(one(x)) for one in (model, clone)]
    np.testing.assert_allclose(*said, atol=1e-4)
    clone.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    assert np.isfinite(clone.train_on_batch(x, rng.integers(0, 3, 8))), name
    assert not np.array_equal(after, keras.ops.convert_to_numpy(model.get_layer("genre").kernel))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.slow
def test_one_step_on_each_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run = subprocess.run(
        [sys.executable, "-c", ONE_STEP.format(backend=backend, sizes=SMALL, shapes=SHAPES)],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
