"A network outside of its training: the same numbers, near songs, new songs, models taken away."

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from msd_genre.corpus import catalog, features, splits
from msd_genre.datasets.musixmatch import read_counts, read_reverse_mapping
from msd_genre.files.song_file import read_song
from msd_genre.files.song_schema import SongError
from msd_genre.inference import index as index_module
from msd_genre.inference import new_song, predictor, song_map
from msd_genre.inference.index import NeighbourError
from msd_genre.inference.new_song import NewSongError
from msd_genre.inference.predictor import PredictorError
from msd_genre.workspace import runs


@pytest.fixture(scope="module")
def run(demo_corpus, tmp_path_factory):
    """A run with two small networks; the first scales its inputs and weights words by rarity."""
    from msd_genre.models import training

    params = {"seed": 1, "data": {"folder": str(demo_corpus)}, "features": {"n_frames": 60}}
    run = runs.create_run(params, tmp_path_factory.mktemp("runs") / "new")
    songs = catalog.kept(catalog.build_catalog(run))
    features.build_store(run)
    features.build_lyrics(run)
    sizes = {"resampling": splits.to_counts(20, 8), "min_songs": 2}
    split = splits.make_split(songs, "artist", 1, test_share=0.2, **sizes, allow_absent=True)
    run.make("split.parquet", split.to_parquet, inputs=["catalog.parquet"], code=[])
    scaled = {"scaling": "standard", "weighting": "tfidf", "tag": "scaled"}
    training.train(run, "baseline", epochs=2, batch_size=16, verbose=False, **scaled)
    training.train(run, "cnn", epochs=1, batch_size=16, sizes={"filters": (8, 8, 8)},
                   verbose=False)  # fmt: skip
    training.train(run, "joint", "ours", epochs=2, batch_size=16, verbose=False)
    return run


NAMES = ["baseline-as_written-scaled-artist-f0-s1", "cnn-as_written-artist-f0-s1",
         "joint-ours-artist-f0-s1"]


@pytest.fixture(scope="module")
def space(run):
    return index_module.open_space(run, NAMES[0])


@pytest.fixture(scope="module")
def opened(run):
    return predictor.open_predictor(run, NAMES[0])


@pytest.fixture(scope="module")
def taken(run, tmp_path_factory):
    return predictor.export(run, tmp_path_factory.mktemp("taken") / "model", NAMES[0])


def songs_of(run):
    return catalog.kept(run.read("catalog.parquet"))


# ---- the same numbers as in training


@pytest.mark.parametrize("name", NAMES)
def test_stored_songs_get_the_stored_answers(run, name):
    one = predictor.open_predictor(run, name)
    stored = run.read(f"models/{name}/predictions.parquet").drop_duplicates("track_id")
    stored = stored.sort_values("track_id")
    store = features.open_store(run.path("features"))
    rows = store.rows(stored.track_id.to_numpy(str))
    raw = predictor._stored_songs(store, run.read("lyrics/counts.npz"), rows, songs_of(run))
    np.testing.assert_allclose(one.predict(raw)[0], stored.filter(like="p_"), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_song_from_its_file_is_shown_as_training_showed_it(run, name, demo_corpus):
    from msd_genre.models import inputs

    one, plan = predictor.open_predictor(run, name), run.sidecars()[f"models/{name}"]["params"]
    plan = inputs.Plan(**{k: v for k, v in plan.items() if k != "backend"})
    loaded = inputs.load_songs(run, plan)
    store, counts = features.open_store(run.path("features")), run.read("lyrics/counts.npz")
    paths = songs_of(run).set_index("track_id")["path"]
    for row in (0, len(loaded.track_ids) // 2):
        track_id = loaded.track_ids[row]
        song = read_song(demo_corpus / paths[track_id])
        words = counts[store.rows(np.array([track_id]))]
        raw = predictor._one_song(song.segments, song.metadata, words, n_frames=60)
        for kind, array in one.inputs(raw).items():
            np.testing.assert_allclose(array[0], loaded.inputs[kind][row], atol=1e-6, err_msg=kind)


def test_a_variation_of_a_network_is_not_taken_for_it(monkeypatch, tmp_path):
    "Trainings of chapters 8 and 9 bear a tag; what was cut for one cannot be cut for a new song."
    plans = {"cnn-ours": {}, "cnn-ours-scaled": {"tag": "scaled"},
             "joint-ours-less": {"tag": "less"}, "lstm-ours": {"lyric_dims": 3},
             "cnn-ours-short": {"frames": [0, 9], "tag": "short"}}  # fmt: skip
    for name in plans:
        (tmp_path / "models" / f"{name}-artist-f0-s1").mkdir(parents=True)
        (tmp_path / "models" / f"{name}-artist-f0-s1" / "model.keras").touch()
    sidecars = {f"models/{name}-artist-f0-s1": {"params": plan} for name, plan in plans.items()}
    run = SimpleNamespace(dir=tmp_path, seed=1, sidecars=lambda: sidecars)
    monkeypatch.setattr(predictor, "_validation_score", lambda run, name: len(name))
    assert len(predictor._networks(run)) == 3
    assert predictor._choose_network(run) == "cnn-ours-artist-f0-s1"
    assert predictor._choose_network(run, "cnn-ours") == "cnn-ours-artist-f0-s1"
    assert predictor._choose_network(run, "cnn-ours-scaled") == "cnn-ours-scaled-artist-f0-s1"
    assert predictor._choose_network(run, "joint") == "joint-ours-less-artist-f0-s1"


def test_a_network_whose_training_was_killed_while_made_anew_is_passed_over(tmp_path):
    """Its old folder is still there, and nothing says any more what it was made of."""
    run = runs.create_run({"seed": 1}, tmp_path)

    def write_network(folder):
        folder.mkdir()
        (folder / "model.keras").touch()

    for name in ("cnn-ours-artist-f0-s1", "joint-ours-artist-f0-s1"):
        run.make(f"models/{name}", write_network, params={"tag": ""})
    (tmp_path / ".keys" / "models__joint-ours-artist-f0-s1.json").unlink()
    assert list(predictor._networks(run)) == ["cnn-ours-artist-f0-s1"]


def test_the_network_is_chosen_on_validation_and_named_by_its_beginning(run):
    assert list(predictor._networks(run)) == sorted(NAMES)
    assert predictor._choose_network(run, "cnn") == NAMES[1]
    assert predictor._choose_network(run) in NAMES
    with pytest.raises(PredictorError, match=r"no network 'lstm' .* there is baseline-as_written"):
        predictor.open_predictor(run, "lstm")


def test_an_input_that_is_not_known_is_named(opened):
    import dataclasses

    import keras

    odd = keras.Sequential([keras.Input((3,), name="smell"), keras.layers.Dense(2)])
    with pytest.raises(PredictorError, match="takes the input smell"):
        dataclasses.replace(opened, network=odd).inputs(
            predictor._one_song(None, {}, new_song._count_lyrics("", opened.stems), 60))


# ---- a model to take away


def test_a_model_taken_away_says_the_same(taken, opened, run, demo_corpus):
    assert {path.name for path in taken.iterdir()} == {
        "model.keras", "stems.parquet", "stem_vectors.npy", "idf.npy", "scale.json", "classes.json",
        "check.npz", "about.json", "README.md", "example.py"}
    path = demo_corpus / songs_of(run)["path"].iloc[0]
    here = new_song.predict(path, predictor=opened)
    there = new_song.predict(path, model=taken)
    pd.testing.assert_series_equal(here.genres, there.genres)
    assert there.nearest is None and there.place is None


def test_the_card_has_scores_with_intervals_limits_and_terms(taken):
    card = (taken / "README.md").read_text()
    for words in ("## Data", "fictional", "## Protocol", "Split `artist`, fold 0", "| macro-F1 |",
                  "## Limits", "first 60 segments", "## Terms", "non-commercial",
                  "labels: fictional labels in the layout of tagtraum CD2 (`msd_tagtraum_demo_cd2"):
        assert words in card
    about = json.loads((taken / "about.json").read_text())
    assert about["versions"]["keras"] and about["recipe"]["weighting"] == "tfidf"


def test_the_example_runs_by_itself(taken, run, demo_corpus, tmp_path):
    assert len((taken / "example.py").read_text().splitlines()) <= 10
    path = demo_corpus / songs_of(run)["path"].iloc[0]
    done = subprocess.run([sys.executable, taken / "example.py", path], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "%" in done.stdout and new_song._NO_WORDS in done.stdout


@pytest.mark.parametrize("spoil, message", [
    (lambda folder: (folder / "model.keras").write_bytes(b"PK"), "model.keras is missing or not"),
    (lambda folder: (folder / "idf.npy").unlink(), "idf.npy is missing or not"),
    (lambda folder: (folder / "about.json").unlink(), "no exported model in"),
    (lambda folder: (folder / "about.json").write_text("[]"), "no exported model in"),
])  # fmt: skip
def test_a_folder_that_is_not_intact_is_refused(taken, tmp_path, spoil, message):
    copy = shutil.copytree(taken, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(PredictorError, match=message):
        predictor.open_exported(copy)


def changed(taken, folder, **fields):
    copy = shutil.copytree(taken, folder)
    about = json.loads((copy / "about.json").read_text()) | fields
    (copy / "about.json").write_text(json.dumps(about))
    return copy


def test_another_version_is_named(taken, tmp_path):
    versions = json.loads((taken / "about.json").read_text())["versions"] | {"keras": "3.0.1"}
    copy = changed(taken, tmp_path / "older", versions=versions)
    with pytest.warns(UserWarning, match=r"keras 3\.0\.1 there, 3\."):
        predictor.open_exported(copy)
    with pytest.raises(PredictorError, match=r"has format 9, this version reads 1: .*msd_genre 0"):
        predictor.open_exported(changed(taken, tmp_path / "newer", format=9))


def test_a_network_that_says_something_else_is_refused(taken, tmp_path):
    copy = shutil.copytree(taken, tmp_path / "copy")
    with np.load(copy / "check.npz") as check:
        parts = dict(check)
    np.savez(copy / "check.npz", **parts | {"answer": parts["answer"][:, ::-1]})
    files = json.loads((copy / "about.json").read_text())["files"]
    files["check.npz"] = runs.file_digest(copy / "check.npz")
    about = json.loads((copy / "about.json").read_text()) | {"files": files}
    (copy / "about.json").write_text(json.dumps(about))
    with pytest.raises(PredictorError, match="does not say here what it said"):
        predictor.open_exported(copy)


def test_code_in_a_model_is_not_run(taken, tmp_path):
    import keras

    copy, mark = shutil.copytree(taken, tmp_path / "copy"), tmp_path / "ran"
    layer = keras.layers.Lambda(
        lambda x, mark=str(mark): (__import__("pathlib").Path(mark).touch(), x)[1],
        output_shape=(2,),
    )
    keras.Sequential([keras.Input((2,)), layer]).save(copy / "model.keras")
    mark.unlink(missing_ok=True)
    files = json.loads((copy / "about.json").read_text())["files"]
    files["model.keras"] = runs.file_digest(copy / "model.keras")
    about = json.loads((copy / "about.json").read_text()) | {"files": files}
    (copy / "about.json").write_text(json.dumps(about))
    with pytest.raises(PredictorError, match="cannot be loaded"):
        predictor.open_exported(copy)
    assert not mark.exists()


def test_a_folder_of_something_else_is_not_replaced(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PredictorError, match="holds something that is not an exported model"):
        predictor.export(run, tmp_path, NAMES[0])
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


# ---- neighbours


def test_the_index_is_exact_for_few_and_close_to_it_for_many():
    vectors = np.random.default_rng(0).normal(size=(3000, 5)).astype(np.float32)
    distances, rows = index_module.nearest(index_module.build_index(vectors), vectors[:50], 10)
    by_hand = np.linalg.norm(vectors[:50, None] - vectors[None], axis=2)
    assert (np.sort(rows) == np.sort(by_hand.argsort(axis=1)[:, :10])).all()
    np.testing.assert_allclose(distances, np.sort(by_hand, axis=1)[:, :10], atol=1e-3)
    index = index_module.build_index(vectors, exact=False)
    cells = index_module.nearest(index, vectors[:50], 10)[1]
    assert np.mean([len({*a} & {*b}) for a, b in zip(cells, rows, strict=True)]) > 9
    with pytest.raises(NeighbourError, match="1 of 2 vectors are not finite"):
        index_module.build_index(np.array([[0, np.nan], [0, 1]]))


def test_a_space_holds_every_song_of_the_store_and_its_part(run, space):
    stored = features.open_store(run.path("features")).track_ids
    assert list(space.songs["track_id"]) == list(stored)
    split = run.read("split.parquet")
    train = split.track_id[split.part == "train"]
    assert set(space.songs.loc[space.songs["part"] == "train", "track_id"]) == set(train)
    stored = run.read(f"models/{NAMES[0]}/embedding.parquet").set_index("track_id")
    rows = pd.Index(space.songs["track_id"]).get_indexer(stored.index)
    np.testing.assert_allclose(space.vectors[rows], stored.filter(like="e_"), atol=1e-4)


def test_similar_songs_are_the_nearest_others(space):
    song = space.songs.iloc[7]
    found = index_module.similar(space, song["track_id"], k=4)
    by_hand = np.linalg.norm(space.vectors - space.vectors[7], axis=1)
    by_hand[7] = np.inf
    np.testing.assert_allclose(found["distance"], np.sort(by_hand)[:4], atol=1e-4)
    assert song["track_id"] not in set(found["track_id"])
    assert set(found["why"]) <= {"sound", "lyrics", "both", "neither"}


def test_why_two_songs_are_near():
    """Songs 0 and 1 sound alike, 0 and 2 share their words, 0 and 3 nothing; 4 has no words."""
    rng = np.random.default_rng(0)
    sound = rng.normal(size=(40, 6))
    sound[1], words = sound[0] + 0.01, rng.poisson(0.3, (40, 30))
    sound[3], words[4] = -sound[0], 0
    words[0, :5] = words[2, :5] = 9
    counts = sparse.csr_array(words)
    known = index_module._usual(sound, counts)
    why = index_module._why_near(known, sound[0], counts[[0]], sound[1:5], counts[1:5])
    assert why["why"].tolist()[:3] == ["sound", "lyrics", "neither"]
    assert np.isnan(why["nearer_by_lyrics"][3])
    none = index_module._why_near(known, np.full(6, np.nan), counts[[0]], sound[[2]], counts[[2]])
    assert none["why"].tolist() == ["lyrics"]


def test_a_name_is_found_however_it_is_written_or_the_error_lists_names():
    songs = pd.DataFrame({"track_id": ["TR1", "TR2", "TR3"],
                          "artist_name": ["Beyoncé", "The Knife", "The Knife"],
                          "title": ["Halo", "Silent Shout", "Silent Shout"]})
    for name in ("Beyoncé - Halo", "beyonce - HALO", "TR1", " Beyonce – Halo! "):
        assert index_module._find_song(songs, name) == 0
    with pytest.raises(NeighbourError, match=r"(?s)2 tracks are called .*TR2 .*TR3 "):
        index_module._find_song(songs, "the knife - silent shout")
    with pytest.raises(NeighbourError, match=r"no song .*\n  TR1  Beyoncé - Halo"):
        index_module._find_song(songs, "Beyonse - Hallo")
    with pytest.raises(NeighbourError, match="no song"):
        index_module._find_song(songs, "???")


def test_a_playlist_walks_from_one_song_to_the_other(space):
    first, last = space.songs["track_id"].iloc[[0, -1]]
    walk = index_module.playlist(space, first, last, 8)
    assert walk["track_id"].iloc[[0, -1]].tolist() == [first, last]
    assert len(walk) == 8 and walk["track_id"].is_unique and walk["step"].tolist() == [*range(1, 9)]
    assert index_module.playlist(space, first, last, 2)["track_id"].tolist() == [first, last]
    for end, n in ((first, 8), (last, 1), (last, len(space.songs) + 1)):
        with pytest.raises(NeighbourError, match="a walk of"):
            index_module.playlist(space, first, end, n)


# ---- new songs


def test_words_are_counted_as_the_stems_are():
    stems = ["love", "i", "am", "not", "babi", "you"]
    text = "I'm LOVING it,\nbaby; baby! You don\u2019t love me... (Lovely?)"
    counts = new_song._count_lyrics(text, stems)
    assert counts.toarray().tolist() == [[3, 1, 1, 1, 2, 1]]
    assert new_song._count_lyrics("", stems).nnz == 0


def test_own_texts_are_read_as_the_published_lyrics_are(tmp_path):
    texts = {"TRB": "Love loves LOVING, love!", "TRA": "I don't love it", "TRC": "?"}
    assert new_song.write_lyrics(texts, tmp_path / "own", n_stems=3) == ["TRC"]
    paths = {role: tmp_path / "own" / f"mxm_{name}.txt" for role, name in
             [("train", "dataset_train"), ("reverse_mapping", "reverse_mapping")]}  # fmt: skip
    counts, aside = read_counts({"train": paths["train"]})
    assert aside.empty and counts.stems == ["love", "do", "i"]
    assert counts.track_ids.tolist() == ["TRA", "TRB"]
    assert counts.counts.toarray().tolist() == [[1, 1, 1], [4, 0, 0]]
    words, _ = read_reverse_mapping(paths["reverse_mapping"])
    assert words == {"love": "love", "do": "do", "i": "i"}
    with pytest.raises(NewSongError, match="2 texts without a word"):
        new_song.write_lyrics({"TRA": "", "TRB": "!"}, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_is_missing_is_named_and_the_other_part_used(run, opened, demo_corpus, tmp_path):
    path = demo_corpus / songs_of(run)["path"].iloc[0]
    text = tmp_path / "words.txt"
    text.write_text(" ".join(opened.stems[:200]))
    assert new_song.predict(path, text, predictor=opened).notes == []
    assert new_song.predict(path, predictor=opened).notes == [new_song._NO_WORDS]
    assert new_song.predict(lyrics=text, predictor=opened).notes == [new_song._NO_SOUND]
    text.write_text("qqq zzz")
    assert new_song.predict(path, text, predictor=opened).notes == [new_song._NO_KNOWN_WORDS]
    with pytest.raises(NewSongError, match="neither segments nor words"):
        new_song.predict(lyrics=text, predictor=opened)


def test_a_song_file_without_segments_is_judged_by_its_words(opened, demo_corpus, run, tmp_path):
    import h5py

    path = tmp_path / "TRAAAAA000000000000.h5"
    shutil.copy(demo_corpus / songs_of(run)["path"].iloc[0], path)
    with h5py.File(path, "a") as file:
        for name in ("segments_start", "segments_pitches", "segments_timbre"):
            shape = file[f"analysis/{name}"].shape
            del file[f"analysis/{name}"]
            file.create_dataset(f"analysis/{name}", data=np.zeros((0, *shape[1:])))
    text = tmp_path / "words.txt"
    text.write_text(" ".join(opened.stems[:50]))
    assert new_song.predict(path, text, predictor=opened).notes == [new_song._NO_SOUND]
    with pytest.raises(NewSongError, match="neither segments nor words"):
        new_song.predict(path, predictor=opened)


@pytest.mark.parametrize("content, message", [
    (b"\xff\xfewords", "not UTF-8"), (b"a\0b", "bytes that are no text"),
    (b"la " * 400_000, "expected the words of one song"), (None, "cannot read"),
])  # fmt: skip
def test_a_text_that_is_none_is_refused(opened, tmp_path, content, message):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NewSongError, match=message):
        new_song.predict(lyrics=path, predictor=opened)


def test_a_song_file_that_is_none_is_refused(opened, tmp_path):
    (tmp_path / "TRX.h5").write_text("<html>not found</html>")
    with pytest.raises(SongError, match="not an HDF5 file"):
        new_song.predict(tmp_path / "TRX.h5", predictor=opened)


def test_a_run_without_a_map_gets_the_command_that_makes_one(run, opened, space, demo_corpus):
    path = demo_corpus / songs_of(run)["path"].iloc[0]
    (note,) = new_song.predict(path, run=run, predictor=opened, space=space).notes[-1:]
    assert note.endswith("` makes maps/") and "`msd-genre report " in note
    assert str(run.dir) in note and "chapter" not in note


def test_nearest_songs_and_place_leave_the_song_itself_out(run, opened, space, demo_corpus):
    song_map._make_places(run, space, seed=1, perplexity=5)
    test = space.songs[space.songs["part"] == "test"].iloc[0]
    path = songs_of(run).set_index("track_id")["path"][test["track_id"]]
    answer = new_song.predict(demo_corpus / path, run=run, predictor=opened, space=space, k=3)
    assert len(answer.nearest) == 3 and test["track_id"] not in set(answer.nearest["track_id"])
    places = run.read(f"maps/{NAMES[0]}.parquet")
    assert places["x"].min() <= answer.place[0] <= places["x"].max()
    unseen = space.songs.loc[space.songs["part"] != "train", "track_id"]
    assert set(places["track_id"]) == set(unseen)
    assert "between the places" in str(answer) and "%" in str(answer)
    other = new_song.predict(demo_corpus / path, run=run, model=NAMES[2], k=1)
    assert other.place is None
    assert f"none of {NAMES[2]}, but of {NAMES[0]}" in str(other)


def test_the_package_has_predict_and_stays_instant():
    code = "import sys, msd_genre; print('numpy' in sys.modules, callable(msd_genre.predict))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "False True"
    import msd_genre

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = msd_genre.nothing


def test_real_songs_from_their_files(real_msd, opened):
    """A real file is read, cut and judged whatever it was trained on."""
    files = sorted((real_msd / "data").rglob("TR*.h5"))[:3]
    for path in files:
        answer = new_song.predict(path, predictor=opened)
        assert abs(answer.genres.sum() - 1) < 1e-5 and answer.notes == [new_song._NO_WORDS]
