"Training: the same seed gives the same bits, also after a kill; what is written; bad input."

import gc
import shlex
import weakref

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from msd_genre.corpus.features import _statistic_names, open_store
from msd_genre.corpus.leaks import LeakError
from msd_genre.corpus.splits import SplitError
from msd_genre.datasets.word_vectors import fit_idf, lyric_vectors
from msd_genre.evaluation.metrics import scores, validate_predictions
from msd_genre.inference.predictor import open_predictor
from msd_genre.models import fused as fused_module
from msd_genre.models import inputs as inputs_module
from msd_genre.models import networks, training
from msd_genre.models.inputs import TrainingError, _load_inputs
from msd_genre.models.training import open_trained, train
from msd_genre.workspace import digests
from msd_genre.workspace.registry import RegistryError
from msd_genre.workspace.runs import RunError, _report_command, create_run, stale

GENRES = ["Jazz", "Metal", "Rock", "Vocal"]
N_SONGS, N_FRAMES, N_STEMS = 300, 40, 12
SMALL = {"dense_units": (8,), "filters": (4, 4), "pools": (4, 2)}
CHOICES = {"epochs": 4, "batch_size": 16, "sizes": SMALL, "verbose": False}


def invented_catalog():
    track_ids = [f"TRAAA{i:03d}128F000000" for i in range(N_SONGS)]
    genre = np.array(GENRES)[np.arange(N_SONGS) % 3]
    genre[:4] = "Vocal"
    artists = [f"AR{i:03d}" for i in range(N_SONGS)]
    return pd.DataFrame(
        {"track_id": track_ids, "artist_id": artists, "genre": genre, "dropped_at": None}
    )


def write_store(folder, catalog, rng):
    n, level = len(catalog), catalog.genre.map(GENRES.index).to_numpy()[:, None, None]
    arrays = {
        "chroma": rng.random((n, N_FRAMES, 12)),
        "timbre": rng.normal(30.0 * level, 20, (n, N_FRAMES, 12)),
        "start_s": np.tile(np.arange(N_FRAMES) / 4, (n, 1)),
        "summary": rng.normal(size=(n, 3)),
    }
    folder.mkdir()
    with h5py.File(folder / "store.h5", "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values.astype("float32"))
        file.create_dataset("track_id", data=np.array(catalog.track_id, "S18"))
        file.create_dataset("recording", data=np.array([f"{i:032x}" for i in range(n)], "S32"))
        file.attrs["summary_names"] = list("abc")


def write_lyrics(folder, n, rng):
    folder.mkdir()
    counts = sparse.csr_array(rng.integers(0, 3, (n, N_STEMS)).astype("float32"))
    sparse.save_npz(folder / "counts.npz", counts)
    np.save(folder / "stem_vectors.npy", rng.normal(size=(N_STEMS, 6)).astype("float32"))


def invented_split(track_ids):
    "90 songs: every second one trained on, thrice; as_coded tests a genre it is not trained on."
    chosen, part = np.arange(4, 94), np.array(["train", "validation", "train", "test"])
    split = pd.DataFrame({"part": part[chosen % 4], "track_id": track_ids[chosen], "fold": 0})
    split["copies"] = np.where(split.part == "train", 3, 1)
    coded = split.assign(copies=np.where(split.part == "test", 1, 2))
    vocal = pd.DataFrame({"part": "test", "track_id": track_ids[:4], "fold": 0, "copies": 1})
    coded = pd.concat([coded, vocal])
    return pd.concat([split.assign(protocol="artist"), coded.assign(protocol="as_coded")])


def make_run(folder, **params):
    run, catalog = create_run({"seed": 1} | params, folder), invented_catalog()
    rng = np.random.default_rng(0)
    run.make("catalog.parquet", catalog.to_parquet)
    run.make("features", lambda path: write_store(path, catalog, rng))
    run.make("lyrics", lambda path: write_lyrics(path, N_SONGS, rng))
    run.make("split.parquet", invented_split(catalog.track_id.to_numpy()).to_parquet)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("training") / "run")


@pytest.fixture
def new_run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def cnn(run):
    return train(run, "cnn", **CHOICES)


def same_bits(one, other):
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    pd.testing.assert_frame_equal(one.embedding, other.embedding, check_exact=True)
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    for a, b in zip(one.load().get_weights(), other.load().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_learns_and_writes_what_others_read(run, cnn):
    assert cnn.name == "cnn-as_written-artist-f0-s1"
    assert cnn.history.epoch.tolist() == [1, 2, 3, 4]
    assert list(cnn.history) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert cnn.history.loss.iloc[-1] < cnn.history.loss.iloc[0]
    assert cnn.classes == ["Jazz", "Metal", "Rock"]
    assert cnn.cost["parameters"] == cnn.load().count_params()
    assert cnn.cost["train_rows"] == 3 * 45
    for part, songs in {"validation": 23, "test": 22}.items():
        rows = cnn.predictions[cnn.predictions.part == part]
        assert len(rows) == songs
        validate_predictions(rows)
    catalog = run.read("catalog.parquet").set_index("track_id")
    assert (catalog.genre[cnn.predictions.track_id].to_numpy() == cnn.predictions.genre).all()
    assert not list((run.dir / ".scratch").glob("*")), "work to go on from is left behind"


def test_the_embedding_is_that_of_the_saved_network(run, cnn):
    table = cnn.embedding
    _, places = training.predict(cnn.load(), _load_inputs(run, table.track_id))
    assert places.shape == (len(table), 50)
    np.testing.assert_allclose(places, table.filter(regex="^e_"), atol=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(new_run, cnn):
    same_bits(train(new_run, "cnn", **CHOICES), cnn)
    other = train(new_run, "cnn", **CHOICES, seed=2)
    assert other.name.endswith("-s2")
    assert not np.array_equal(other.load().get_weights()[0], cnn.load().get_weights()[0])


def interrupt(monkeypatch, epoch, batch=None):
    "A KeyboardInterrupt after an epoch, or in a batch of it."
    save, begin = training._save_state, keras.callbacks.Callback.on_train_batch_begin
    done = []

    def save_and_stop(model, history, scratch):
        save(model, history, scratch)
        done.append(len(history))
        if batch is None and len(history) == epoch:
            raise KeyboardInterrupt

    def stop_in_batch(callback, index, logs=None):
        begin(callback, index, logs)
        if len(done) == epoch - 1 and index == batch:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save_state", save_and_stop)
    monkeypatch.setattr(training._StopOnNaN, "on_train_batch_begin", stop_in_batch, raising=False)


@pytest.mark.parametrize(("epoch", "batch", "done"), [(2, None, 2), (4, None, 4), (3, 2, 2)])
def test_a_killed_training_goes_on_and_ends_the_same(
    epoch, batch, done, new_run, cnn, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        interrupt(patch, epoch, batch)
        with pytest.raises(KeyboardInterrupt):
            train(new_run, "cnn", **CHOICES)
    with pytest.raises(RunError, match="no models/cnn"):
        open_trained(new_run, cnn.name)
    capsys.readouterr()
    resumed = train(new_run, "cnn", **CHOICES | {"verbose": True})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"going on after epoch {done}"
    assert [line[:9] for line in lines[2:]] == [f"epoch  {k}/" for k in range(done + 1, 5)]
    same_bits(resumed, cnn)


def test_a_training_lets_go_of_its_songs(new_run, monkeypatch):
    """A chapter trains dozens of networks in one process, each on a gigabyte of songs."""
    held, load = [], training.load_songs

    def watched(*args):
        songs = load(*args)
        held.extend(map(weakref.ref, [songs, *songs.inputs.values()]))
        return songs

    monkeypatch.setattr(training, "load_songs", watched)
    train(new_run, "baseline", **CHOICES | {"epochs": 1, "sizes": {"dense_units": (8,)}})
    gc.collect()
    assert len(held) > 2 and not [one for one in held if one() is not None]


def test_what_an_attempt_with_other_choices_left_is_not_gone_on_with(new_run, cnn, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(new_run, "cnn", **CHOICES, learning_rate=0.5)
    same_bits(train(new_run, "cnn", **CHOICES), cnn)


def test_as_coded_has_an_output_for_every_genre_and_copies_in_validation(run):
    coded = train(run, "baseline", "as_coded", protocol="as_coded", epochs=1, verbose=False)
    assert coded.classes == GENRES
    parts = coded.predictions.groupby("part")
    assert parts.track_id.agg(["size", "nunique"]).loc["validation"].tolist() == [46, 23]
    assert "Vocal" in set(parts.get_group("test").genre)
    assert not coded.embedding.duplicated(["part", "track_id"]).any()
    validation = parts.get_group("validation")
    answers = validation.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_")
    assert (answers == validation.genre).mean() == pytest.approx(coded.history.val_accuracy[0])


def test_the_lstm_trains(run):
    sizes = {"lstm_units": (3, 2), "dense_units": (8,)}
    lstm = train(run, "lstm", epochs=1, batch_size=45, sizes=sizes, verbose=False)
    assert np.isfinite(lstm.history.to_numpy()).all()
    validate_predictions(lstm.predictions.query("part == 'test'"))


def test_a_second_call_trains_nothing_and_another_choice_does(run, cnn, monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", refuse)
    same_bits(train(run, "cnn", **CHOICES), cnn)
    with pytest.raises(AssertionError, match="trained again"):
        train(run, "cnn", **CHOICES, weighting="inverse")


def test_inputs_come_in_the_order_asked_for(run):
    wanted = np.array([299, 0, 257, 255, 256, 0])
    track_ids = run.read("catalog.parquet").track_id.to_numpy()
    inputs = _load_inputs(run, track_ids[wanted], "count")
    store = open_store(run.path("features"))
    for name in ("chroma", "timbre"):
        np.testing.assert_array_equal(inputs[name], getattr(store, name)[:][wanted])
    counts, vectors = run.read("lyrics/counts.npz"), run.read("lyrics/stem_vectors.npy")
    expected = lyric_vectors(counts, vectors, "count")[wanted]
    np.testing.assert_allclose(inputs["lyrics"], expected, rtol=1e-6)
    assert {array.dtype for array in inputs.values()} == {np.dtype("float32")}


def test_tfidf_learns_its_frequencies_from_the_train_part(run):
    trained = train(
        run, "baseline", weighting="tfidf", epochs=1, batch_size=64, seed=3, verbose=False
    )
    split = run.read("split.parquet").query("protocol == 'artist' and part == 'train'")
    rows = open_store(run.path("features")).rows(np.sort(split.track_id.to_numpy()))
    expected = fit_idf(run.read("lyrics/counts.npz")[rows])
    np.testing.assert_allclose(np.load(trained.dir / "idf.npy"), expected)


def test_the_order_depends_on_seed_and_epoch_alone():
    rows = np.repeat(np.arange(20), 2)
    first = inputs_module._epoch_order(rows, seed=1, epoch=0)
    np.testing.assert_array_equal(first, inputs_module._epoch_order(rows, seed=1, epoch=0))
    np.testing.assert_array_equal(np.sort(first), rows)
    for seed, epoch in [(1, 1), (2, 0), (0, 1)]:
        assert not np.array_equal(first, inputs_module._epoch_order(rows, seed, epoch))


def change(run, name, edit):
    "Change an artefact of a run behind its back."
    table = edit(pd.read_parquet(run.dir / name))
    table.to_parquet(run.dir / name)


def test_a_loss_that_is_no_number_stops_at_once(new_run):
    with h5py.File(new_run.dir / "features" / "store.h5", "a") as file:
        file["timbre"][:] = np.nan
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, batch \d: lower"):
        train(new_run, "baseline", epochs=2, batch_size=16, verbose=False)


def test_a_split_that_is_older_than_the_catalog_is_named(new_run):
    change(new_run, "catalog.parquet", lambda songs: songs.iloc[10:])
    with pytest.raises(SplitError, match="6 of the split's 90 tracks are not among the catalog"):
        train(new_run, "cnn", **CHOICES)


def test_songs_that_the_store_does_not_have_are_named(run):
    command = shlex.join(_report_command(run.dir))
    with pytest.raises(TrainingError, match="1 tracks are not in the store, such as TRZ") as error:
        _load_inputs(run, np.array(["TRZZZ00128F0000000"]))
    assert f"run `{command}`" in str(error.value) and "split.parquet" in str(error.value)


def test_lyrics_of_another_store_are_named(new_run):
    counts = new_run.read("lyrics/counts.npz")
    sparse.save_npz(new_run.dir / "lyrics" / "counts.npz", counts[:7])
    with pytest.raises(TrainingError, match="7 songs, the feature store has 300") as error:
        _load_inputs(new_run, new_run.read("catalog.parquet").track_id[:2])
    command = shlex.join(_report_command(new_run.dir))
    assert str(error.value).endswith(f"Delete lyrics/ in the run, then run `{command}`")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"weighting": "log"}, "weighting is 'log', not one of"),
        ({"scaling": "minmax"}, "scaling is 'minmax', not one of none, standard"),
        ({"outputs": "all"}, "outputs is 'all', not one of learnt, catalog"),
        ({"tag": "a-b"}, "tag is 'a-b': it may hold letters and digits"),
        ({"epochs": 0}, "epochs is 0: it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0: it must be 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: it must be above 0"),
        ({"momentum": 0.9}, "no choice momentum; there is model, variant, protocol"),
    ],
)
def test_bad_choices_are_named(run, choices, message):
    with pytest.raises(TrainingError, match=message):
        train(run, "baseline", **choices, verbose=False)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"protocol": "official"}, "no split 'official', fold 0, in the run; there is artist"),
        ({"fold": 3}, "no split 'artist', fold 3"),
    ],
)
def test_a_split_that_is_not_there_is_named(run, choices, message):
    with pytest.raises(SplitError, match=message):
        train(run, "baseline", **choices, verbose=False)


def test_a_split_that_leaks_is_not_trained_on(new_run):
    """One artist of train stands in test: stopped under `artist`, declared under `as_coded`."""
    split = new_run.read("split.parquet").query("protocol == 'artist'")
    known, tested = (split.track_id[split.part == part].iloc[0] for part in ("train", "test"))

    def same_artist(songs):
        by_track = songs.set_index("track_id").artist_id.to_dict()
        return songs.assign(artist_id=songs.track_id.replace({tested: known}).map(by_track))

    change(new_run, "catalog.parquet", same_artist)
    with pytest.raises(LeakError, match="artist"):
        train(new_run, "baseline", epochs=1, batch_size=16, verbose=False)
    train(new_run, "baseline", "as_coded", protocol="as_coded", epochs=1, batch_size=16,
          verbose=False)  # fmt: skip


def test_what_is_estimated_from_songs_is_estimated_from_train_alone(new_run):
    """Other values in validation and test change neither the scale nor the rarity of words."""
    plan = inputs_module.Plan("baseline", scaling="standard", weighting="tfidf")
    before = inputs_module.load_songs(new_run, plan)
    split = new_run.read("split.parquet").query("protocol == 'artist'")
    unseen = split.track_id[split.part != "train"]
    rows = open_store(new_run.path("features")).rows(unseen.to_numpy(dtype=str))
    with h5py.File(new_run.dir / "features" / "store.h5", "a") as file:
        timbre = file["timbre"][:]
        timbre[rows] *= 100
        file["timbre"][:] = timbre
    counts = new_run.read("lyrics/counts.npz").tolil()
    counts[rows] = 1
    sparse.save_npz(new_run.dir / "lyrics" / "counts.npz", counts.tocsr())
    after = inputs_module.load_songs(new_run, plan)
    assert after.scale == before.scale and (after.idf == before.idf).all()
    assert not np.allclose(after.inputs["timbre"], before.inputs["timbre"])


def test_scaled_series_have_mean_0_and_deviation_1_in_train_and_zeros_after_the_end(new_run):
    with h5py.File(new_run.dir / "features" / "store.h5", "a") as file:
        for name in ("chroma", "timbre"):
            values = file[name][:]
            values[:, 30:] = 0  # every song ends here
            file[name][:] = values
    songs = inputs_module.load_songs(new_run, inputs_module.Plan("baseline", scaling="standard"))
    train_rows = np.unique(songs.rows["train"])
    for name in ("chroma", "timbre"):
        heard = songs.inputs[name][train_rows][:, :30].astype(float)
        assert np.allclose(heard.mean(axis=(0, 1)), 0, atol=1e-5)
        assert np.allclose(heard.std(axis=(0, 1)), 1, atol=1e-5)
        assert (songs.inputs[name][:, 30:] == 0).all()
    words = songs.inputs["lyrics"][train_rows].astype(float)
    assert np.allclose(words.mean(axis=0), 0, atol=1e-5)


def test_a_tag_tells_two_trainings_apart(new_run):
    choices = {"epochs": 1, "batch_size": 16, "sizes": SMALL, "verbose": False}
    plain = train(new_run, "cnn", "as_coded", **choices)
    other = train(new_run, "cnn", "as_coded", outputs="learnt", tag="learnt", **choices)
    assert (plain.name, other.name) == ("cnn-as_coded-artist-f0-s1",
                                        "cnn-as_coded-learnt-artist-f0-s1")  # fmt: skip
    assert set(other.predictions.model) == {"cnn-as_coded-learnt"}
    assert "Vocal" in plain.classes and "Vocal" not in other.classes


def test_where_any_tag_will_do_a_training_that_is_alike_is_not_done_again(new_run, monkeypatch):
    monkeypatch.setattr(training, "_build", lambda run, plan, verbose, folder: folder.mkdir())
    choices = {"epochs": 1, "batch_size": 16, "sizes": SMALL}
    first = train(new_run, "cnn", tag="first", **choices)
    assert train(new_run, "cnn", tag="second", any_tag=True, **choices).name == first.name
    said = choices | {
        "sizes": networks.default_sizes("cnn") | SMALL
    }  # what else is as it was anyway
    assert train(new_run, "cnn", tag="third", any_tag=True, **said).name == first.name
    less = {"sizes": SMALL | {"filters": (2, 2)}}
    changes = {"learning_rate": 0.01}, {"seed": 2}, {"scaling": "standard"}, less
    for i, change in enumerate(changes):
        other = train(new_run, "cnn", tag=f"other{i}", any_tag=True, **choices | change)
        assert f"-other{i}-" in other.name
    assert train(new_run, "cnn", tag="second", **choices).name != first.name


@pytest.fixture
def fused(monkeypatch):
    "Even the smallest training is fused."
    monkeypatch.setattr(fused_module, "_SONGS_THAT_PAY", 0)
    monkeypatch.setattr(fused_module, "_STEPS_THAT_PAY", 0)
    monkeypatch.setattr(fused_module, "_STEPS_IN_A_CALL", 4)
    monkeypatch.setattr(fused_module, "_PROGRAMS", {})


def test_fused_training_learns_what_keras_learns_bit_for_bit_the_same_each_time(
    new_run, cnn, fused, monkeypatch
):
    """Also after a kill, and with a program that another training had compiled."""
    one = train(new_run, "cnn", **CHOICES)
    assert (one.cost["way"], one.cost["why"]) == ("fused", "many steps in one call")
    assert (cnn.cost["way"], cnn.cost["why"]) == ("keras", fused_module._TOO_FEW)
    np.testing.assert_allclose(one.history, cnn.history, rtol=1e-3)
    for ours, theirs in zip(one.load().get_weights(), cnn.load().get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    train(new_run, "cnn", **CHOICES, seed=2)
    assert len(fused_module._PROGRAMS) == 1, "another seed is trained by the same program"
    remove_training(new_run, one)
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(new_run, "cnn", **CHOICES)
    fused_module._PROGRAMS.clear()  # as in a new process
    resumed = train(new_run, "cnn", **CHOICES)
    pd.testing.assert_frame_equal(resumed.history, one_history(one), check_exact=True)


def remove_training(run, trained):
    "Forget a training, but for what was read of it."
    trained.dir.rename(run.dir / "before")


def one_history(trained):
    return pd.read_csv(trained.dir.parent.parent / "before" / "history.csv")


def songs_of(inputs, labels):
    "A split of invented songs, all in train and validation."
    rows = np.arange(len(labels))
    return inputs_module.Songs(["a", "b", "c"], rows.astype(str), np.array(["a", "b", "c"])[labels],
                          {"train": rows, "validation": rows}, inputs, None, None)  # fmt: skip


def mixed_network():
    "All that a training must keep: noise, penalties, a constraint, a schedule."
    L = keras.layers
    keras.utils.set_random_seed(3)
    series = keras.Input((20, 4), name="series")
    x = L.Conv1D(5, 4, activation="relu", kernel_regularizer="l2")(series)
    x = L.Dropout(1e-7)(L.MaxPooling1D(2)(x))  # its generator goes on, and drops nothing
    x = L.LSTM(4, kernel_constraint="max_norm")(x)
    model = keras.Model({"series": series}, L.Dense(3, "softmax", bias_regularizer="l1")(x))
    rate = keras.optimizers.schedules.CosineDecay(0.01, 30)
    model.compile(
        keras.optimizers.AdamW(rate, clipnorm=1.0), fused_module._LOSS, metrics=["accuracy"]
    )
    return model


def test_noise_penalties_constraints_and_schedules_are_kept(monkeypatch):
    """One program and Keras, two epochs over 23 songs in batches of 5, with weights."""
    monkeypatch.setattr(fused_module, "_STEPS_IN_A_CALL", 2)
    rng = np.random.default_rng(0)
    inputs = {"series": rng.normal(size=(23, 20, 4)).astype("float32")}
    labels, weights = np.arange(23) % 3, rng.uniform(0.5, 2, 23).astype("float32")
    order, ours, theirs = rng.permutation(23), mixed_network(), mixed_network()
    assert fused_module._fallback_reason(ours, 23, 10_000, 5) == ""
    program = fused_module._fused_program(ours)
    program.load_from(ours)
    for _ in range(2):
        learnt = program.epoch(inputs, labels, order, 5, weights)
        learnt |= program.evaluate(inputs, labels, np.arange(23), 8)
    program.copy_to(ours)
    given = {name: array[order] for name, array in inputs.items()}
    logs = theirs.fit(given, labels[order], sample_weight=weights[order], batch_size=5, epochs=2,
                      shuffle=False, verbose=0).history  # fmt: skip
    loss, accuracy = theirs.evaluate(inputs, labels, verbose=0)
    expected = {"loss": logs["loss"][-1], "accuracy": logs["accuracy"][-1],
                "val_loss": loss, "val_accuracy": accuracy}  # fmt: skip
    assert learnt == pytest.approx(expected, rel=1e-3)
    own = fused_module._variables(theirs, theirs.optimizer)
    for a, b in zip(fused_module._variables(ours, ours.optimizer), own, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), atol=1e-3, err_msg=b.path)


def trained_weights(name, way, nudge):
    "Weights after 100 steps at the real range; `nudge`: the first ones are off by a rounding."
    rng = np.random.default_rng(0)
    inputs = {"chroma": rng.random((100, 40, 12), dtype="float32"),
              "timbre": rng.normal(0, 50, (100, 40, 12)).astype("float32"),
              "lyrics": rng.normal(size=(100, 7)).astype("float32")}  # fmt: skip
    songs = songs_of(inputs, rng.integers(0, 3, 100))
    sizes = {"cnn": {"filters": (40, 40), "pools": (4, 2)}}.get(name, {})
    plan = inputs_module.Plan(name, "as_coded", batch_size=10, sizes=sizes)
    model = training._compile_model(songs, plan)
    model.jit_compile = False  # Keras' own way is compiled in a second, not in ten
    if nudge:
        model.set_weights([np.nextafter(w, np.float32(9)) for w in model.get_weights()])
    if way == "fused":
        program = fused_module._fused_program(model)
        program.load_from(model)
    for epoch in range(10):
        order = inputs_module._epoch_order(songs.rows["train"], 1, epoch)
        if way == "fused":
            program.epoch(songs.inputs, songs.labels, order, 10)
        else:
            model.fit(inputs_module._Batches(songs, order, 10), shuffle=False, verbose=0)
    if way == "fused":
        program.copy_to(model)
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.parametrize("name", ["cnn", "lstm"])
@pytest.mark.slow
def test_after_100_steps_both_ways_are_as_near_as_keras_is_to_itself(name):
    plain = trained_weights(name, "keras", nudge=False)
    far = abs(trained_weights(name, "keras", nudge=True) - plain)
    ours = abs(trained_weights(name, "fused", nudge=False) - plain)
    print(name, "median, 99 %, largest:", *np.quantile(ours, [0.5, 0.99, 1]), "against",
          *np.quantile(far, [0.5, 0.99, 1]))  # fmt: skip
    assert np.sqrt((ours**2).mean()) <= 2 * np.sqrt((far**2).mean())


@pytest.mark.parametrize("way", ["keras", "fused"])
def test_a_training_that_diverges_keeps_the_last_good_weights(new_run, way, request):
    """Where Keras clips an answer that is no number, by processor, it shows one batch later."""
    if way == "fused":
        request.getfixturevalue("fused")
    plan = inputs_module.Plan("baseline", epochs=2, batch_size=16)
    songs = inputs_module.load_songs(new_run, plan)
    bad = songs.rows["train"][5]
    songs.inputs["timbre"][bad] = np.nan
    batch = int(np.argmax(inputs_module._epoch_order(songs.rows["train"], 1, 0) == bad)) // 16
    model, probe = training._compile_model(songs, plan), training._compile_model(songs, plan)
    nothing = {x.name: np.full((16, *x.shape[1:]), np.nan, np.float32) for x in probe.inputs}
    clips = np.isfinite(probe.train_on_batch(nothing, np.zeros(16), return_dict=True)["loss"])
    seen = batch + (2 if way == "keras" and clips else 1)
    with pytest.raises(TrainingError, match=rf"nan in epoch 1, batch {seen}: lower .*good w"):
        training.fit(model, songs, plan, new_run.dir, verbose=False)
    kept = training._compile_model(songs, plan)
    first, kept = kept.get_weights(), keras.Model(kept.inputs, kept.outputs)
    kept.load_weights(new_run.dir / "last_good.weights.h5")
    assert all(np.isfinite(w).all() for w in kept.get_weights())
    moved = any((a != b).any() for a, b in zip(kept.get_weights(), first, strict=True))
    assert moved == (way == "fused" and batch > 0)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("RESOURCE_EXHAUSTED: OOM when ...")])
def test_running_out_of_memory_names_what_to_lower(new_run, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(training, "fit", fail)
    with pytest.raises(TrainingError, match="batch_size 16: lower batch_s"):
        train(new_run, "baseline", batch_size=16, verbose=False)


def test_a_corpus_that_fills_the_memory_is_read_from_the_store_with_the_same_bits(
    new_run, cnn, monkeypatch
):
    monkeypatch.setattr(inputs_module, "_IN_MEMORY_GB", 1e-6)
    songs = inputs_module.load_songs(new_run, inputs_module.Plan("cnn"))
    assert isinstance(songs.inputs["timbre"], inputs_module._StoredRows)
    with pytest.raises(TrainingError, match="they stay in the store, where they cannot be scaled"):
        inputs_module.load_songs(new_run, inputs_module.Plan("cnn", scaling="standard"))
    same_bits(train(new_run, "cnn", **CHOICES), cnn)


@pytest.mark.parametrize("way", ["keras", "fused"])
def test_class_weights_count_in_both_ways(new_run, way, request):
    "The loss of the first step is the mean of the songs' losses by their weights."
    if way == "fused":
        request.getfixturevalue("fused")
    setup = {"rows": "songs", "class_weights": "balanced", "epochs": 1, "batch_size": 200,
             "sizes": {"dense_units": (8,)}, "tag": way}  # fmt: skip
    plan = inputs_module.Plan("baseline", **setup)
    songs = inputs_module.load_songs(new_run, plan)
    before = training._compile_model(songs, plan)
    rows = songs.rows["train"]
    chances, _ = training.predict(before, {n: a[rows] for n, a in songs.inputs.items()})
    losses = -np.log(chances[np.arange(len(rows)), songs.labels[rows]])
    expected = (losses * songs.weights[rows]).mean() + sum(map(float, before.losses))
    weighted = train(new_run, "baseline", verbose=False, **setup)
    assert weighted.cost["way"] == way
    assert weighted.history.loss[0] == pytest.approx(expected, rel=1e-4)


def test_segments_are_turned_to_the_key_and_end_with_the_song():
    rng = np.random.default_rng(0)
    chroma, timbre = rng.random((2, 5, 12), "float32"), rng.random((2, 5, 12), "float32")
    start = np.array([[0, 1, 3, 4, 6], [0, 2, 5, 0, 0]], "float32")
    chroma[1, 3:] = timbre[1, 3:] = 0
    made = inputs_module._segment_inputs(chroma, timbre, start, np.array([0, 7]))
    assert made.shape == (2, 5, 25) and made.dtype == np.float32
    np.testing.assert_array_equal(made[0, :, :12], chroma[0])
    np.testing.assert_array_equal(made[1, :, 0], chroma[1, :, 7])
    np.testing.assert_array_equal(made[..., 12:24], timbre)
    np.testing.assert_allclose(np.exp(made[0, :, 24]), [1, 2, 1, 2, 2])
    np.testing.assert_allclose(np.exp(made[1, :3, 24]), [2, 3, 3])
    assert (made[1, 3:] == 0).all()


def test_what_is_not_known_is_scaled_to_the_mean():
    values = np.array([[1.0, np.nan], [3.0, 4.0]], "float32")
    np.testing.assert_array_equal(inputs_module._rescale(values, [2, 4], [1, 2]), [[-1, 0], [1, 0]])
    series = np.array([[[1.0], [3.0], [0.0]]], "float32")
    np.testing.assert_array_equal(inputs_module._rescale(series, [2], [1]), [[[-1], [1], [0]]])


def test_words_have_the_length_of_scaled_statistics():
    counts = sparse.csr_array(np.array([[1, 3, 0], [0, 0, 0]], "float32"))
    made = inputs_module._word_inputs(counts, "tfidf", np.array([1.0, 2.0, 1.0]))
    length = np.sqrt(len(_statistic_names()))
    row = np.array([1, 2 * (1 + np.log(3)), 0])
    np.testing.assert_allclose(made[0], row / np.linalg.norm(row) * length, rtol=1e-6)
    assert (made[1] == 0).all() and counts.data.tolist() == [1, 3]


def test_frames_and_lyric_dimensions_are_cut(new_run):
    plan = inputs_module.Plan("baseline", frames=(10, 20), lyric_dims=2)
    whole = inputs_module.load_songs(new_run, inputs_module.Plan("baseline"))
    cut = inputs_module.load_songs(new_run, plan)
    np.testing.assert_array_equal(cut.inputs["timbre"], whole.inputs["timbre"][:, 10:30])
    assert cut.inputs["lyrics"].shape[1] == 2
    vectors = new_run.read("lyrics/stem_vectors.npy")
    full = inputs_module.load_songs(
        new_run, inputs_module.Plan("baseline", lyric_dims=vectors.shape[1])
    )
    lengths = [np.linalg.norm(one.inputs["lyrics"], axis=1) for one in (full, whole)]
    np.testing.assert_allclose(*lengths, rtol=1e-4)  # all directions: only turned


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"frames": (30, 20)}, "frames 30 to 49 of a store with 40 a song"),
        ({"lyric_dims": 9}, "lyric_dims is 9: the words' vectors have 6"),
        ({"optimizer": "rprop"}, "optimizer is 'rprop', not one of adam, adamw, sgd, momentum"),
        ({"share": 0.0}, "a share of 0.0 of train"),
    ],
)
def test_choices_that_cannot_be_had_are_named(new_run, choices, message):
    with pytest.raises((TrainingError, SplitError), match=message):
        train(new_run, "baseline", epochs=1, verbose=False, **choices)


def test_networks_of_our_own_bring_their_own_choices():
    plan = inputs_module.Plan("joint", "ours")
    assert (plan.weighting, plan.scaling, plan.rows) == ("tfidf", "standard", "songs")
    assert (plan.class_weights, plan.schedule, plan.outputs) == ("balanced", "cosine", "learnt")
    assert plan.inputs == ("timbre_statistics", "chroma_statistics", "song_statistics", "words")
    plain = inputs_module.Plan("cnn", "as_coded")
    assert (plain.weighting, plain.scaling, plain.rows) == ("count", "none", "resampled")
    assert (plain.class_weights, plain.schedule, plain.outputs) == ("none", "constant", "catalog")


RESNET = """
import keras

from msd_genre.models.networks import register_model


def block(x, filters):
    shortcut = keras.layers.Conv1D(filters, 1)(x)
    for activation in ("relu", "linear"):
        x = keras.layers.Conv1D(filters, 3, padding="same", activation=activation)(x)
    return keras.layers.MaxPooling1D(2)(keras.layers.Add()([x, shortcut]))


@register_model("resnet", sizes={"filters": (4, 8)}, inputs=("chroma", "timbre"))
def resnet(n_classes, shapes, sizes):
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    x = keras.layers.Concatenate()([*inputs.values()])
    for filters in sizes["filters"]:
        x = block(x, filters)
    x = keras.layers.Dense(50, name="embedding")(keras.layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, keras.layers.Dense(n_classes, "softmax", name="genre")(x))
"""


def test_a_model_of_a_user_is_trained_scored_and_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(networks.MODELS, "_entries", {**networks.MODELS._entries})
    source = tmp_path / "my_resnet.py"
    source.write_text(RESNET)
    run = make_run(tmp_path / "run", modules=["my_resnet"], params_file=str(tmp_path / "my.yaml"))
    train(run, "baseline", **CHOICES | {"epochs": 1, "sizes": {"dense_units": (8,)}})
    before = run.sidecars()["models/baseline-as_written-artist-f0-s1"]["key"]
    trained = train(run, "resnet", epochs=1, batch_size=16, verbose=False)
    assert trained.name == "resnet-custom-artist-f0-s1" and trained.load().name == "resnet_custom"
    assert trained.cost["train_rows"] == 45, "not each song once"
    tested = trained.predictions.query("part == 'test'")
    validate_predictions(tested)
    assert 0 <= scores(tested, trained.classes)["accuracy"] <= 1
    assert stale(run) == {}

    stems = pd.DataFrame({"stem": [f"stem{i}" for i in range(N_STEMS)]})
    stems.to_parquet(run.dir / "lyrics" / "stems.parquet")
    opened = open_predictor(run, "resnet")
    assert [one.name for one in opened.network.inputs] == ["chroma", "timbre"]
    assert set(opened.scale) == {"chroma", "timbre"} and opened.classes == trained.classes

    source.write_text(RESNET.replace("relu", "gelu"))
    assert [*stale(run)] == ["models/resnet-custom-artist-f0-s1"]
    train(run, "baseline", **CHOICES | {"epochs": 1, "sizes": {"dense_units": (8,)}})
    assert run.sidecars()["models/baseline-as_written-artist-f0-s1"]["key"] == before
    with pytest.raises(RegistryError, match=r"no model 'resnet2'; there is baseline, .*, resnet$"):
        train(run, "resnet2")


def test_a_change_of_a_network_leaves_the_others_current(new_run, monkeypatch):
    """The code of a training has the function that builds its network, and no other."""
    for name in ("baseline", "lstm"):
        train(new_run, name, epochs=1, batch_size=64, verbose=False,
              sizes={"dense_units": (8,)})  # fmt: skip
    code = {name: made["code"]["names"] for name, made in new_run.sidecars().items()}
    reached = digests._reached([tuple(one.split(":"))
                                for one in code["models/lstm-as_written-artist-f0-s1"]])
    names = {name for module, name in reached if module == "msd_genre.models.networks"}
    assert {"_lstm", "_lstm_branch", "build_model"} <= names
    assert not names & {"_cnn", "_conv_branch", "_baseline", "_joint", "_segment_branch"}
