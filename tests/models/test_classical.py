"Baselines: answers worked out by hand, leaks refused, tables as the networks leave them."

import json

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from msd_genre.corpus.catalog import build_catalog
from msd_genre.corpus.features import _statistic_names, build_lyrics, build_store
from msd_genre.corpus.leaks import LeakError, kept_songs, open_split, thin
from msd_genre.corpus.splits import SplitError, artist_groups, expand, make_split, to_counts
from msd_genre.evaluation.metrics import _majority_predictions, scores, validate_predictions
from msd_genre.models import classical
from msd_genre.models.classical import (
    BASELINES,
    ClassicalError,
    _answer_by_artist,
    _Songs,
    register_estimator,
    train_classical,
)  # fmt: skip
from msd_genre.workspace import runs
from msd_genre.workspace.registry import RegistryError

FITTED = ("year_language", "logistic", "trees", "fusion")


def write_split(run, change=lambda split: split):
    "Both kinds of split, as chapter 03 writes them."
    songs = kept_songs(run)
    sizes = {"resampling": to_counts(20, 8), "min_songs": 2, "allow_absent": True}
    parts = [make_split(songs, name, run.seed, **sizes) for name in ("artist", "as_coded")]
    change(pd.concat(parts, ignore_index=True)).to_parquet(run.dir / "split.parquet")


@pytest.fixture(scope="module")
def run(demo_corpus, tmp_path_factory):
    params = {"seed": 1, "data": {"folder": str(demo_corpus)}, "features": {"n_frames": 60}}
    run = runs.create_run(params, tmp_path_factory.mktemp("classical") / "run")
    build_catalog(run)
    build_store(run)
    build_lyrics(run)
    write_split(run)
    return run


def part_of(run, part, protocol="artist"):
    "Track ids of a part, as often as they have copies."
    split = run.read("split.parquet")
    return expand(split[split.protocol == protocol], part, seed=None)


def train_genres(run, protocol="artist"):
    "Genre of each song of train, once."
    split = run.read("split.parquet")
    chosen = split[(split.protocol == protocol) & (split.part == "train")]
    return kept_songs(run).set_index("track_id").genre.loc[chosen.track_id]


@pytest.mark.parametrize("protocol", ["artist", "as_coded"])
@pytest.mark.parametrize("name", BASELINES)
def test_what_is_left_in_the_run(run, name, protocol):
    folder = train_classical(run, name, protocol)
    assert folder == run.dir / "models" / f"{name}-{protocol}-f0-s1"
    table = pd.read_parquet(folder / "predictions.parquet")
    learnt = train_genres(run, protocol)
    assert table.columns[:7].tolist() == [
        "model", "protocol", "fold", "seed", "part", "track_id", "genre"]  # fmt: skip
    assert table.columns[7:].tolist() == [f"p_{genre}" for genre in sorted(set(learnt))]
    assert json.loads((folder / "classes.json").read_text()) == sorted(set(learnt))
    genre_of = kept_songs(run).set_index("track_id").genre
    for part in ("validation", "test"):
        rows = table[table.part == part]
        assert sorted(rows.track_id) == sorted(part_of(run, part, protocol))
        assert rows.genre.tolist() == genre_of.loc[rows.track_id].tolist()
        validate_predictions(rows, sorted(set(genre_of)))
    assert set(table.part) == {"validation", "test"}
    assert (table.model + table.protocol).unique().tolist() == [name + protocol]
    cost = json.loads((folder / "cost.json").read_text())
    assert set(cost) == {"seconds", "parameters", "train_songs"}
    assert cost["train_songs"] == len(learnt) and cost["seconds"] >= 0
    assert (folder / "model.joblib").is_file() == (name in FITTED)


def test_the_majority_is_that_of_the_metrics(run):
    table = pd.read_parquet(train_classical(run, "majority") / "predictions.parquet")
    chances = [name for name in table if name.startswith("p_")]
    same = _majority_predictions(train_genres(run), table)
    np.testing.assert_allclose(table[chances], same[chances], rtol=1e-12)


def test_random_answers_are_one_genre_each_drawn_by_the_shares_in_train(run):
    shares = train_genres(run).value_counts(normalize=True).sort_index()
    drawn = []
    for seed in range(12):
        path = train_classical(run, "random", seed=seed) / "predictions.parquet"
        chances = pd.read_parquet(path).filter(like="p_").to_numpy()
        assert ((chances == 0) | (chances == 1)).all() and (chances.sum(axis=1) == 1).all()
        drawn.append(chances)
    assert not np.array_equal(drawn[0], drawn[1])
    answers = np.concatenate(drawn)
    noise = np.sqrt(shares * (1 - shares) / len(answers)).to_numpy()
    assert (np.abs(answers.mean(axis=0) - shares.to_numpy()) < 5 * noise).all()


def songs_of(artists, genres):
    n = len(artists)
    ids = np.array([f"TR{i}" for i in range(n)])
    return _Songs(ids, np.array(genres), np.array(artists), np.full(n, np.nan),
                  np.zeros((n, 2), np.float32), sparse.csr_array((n, 3)))  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_words_that_no_song_has_are_zeros_without_a_warning():
    silent = songs_of(list("ABCD"), ["Rock"] * 4)
    assert not classical._Features(("words",), 2).fit(silent).matrix(silent).any()


def test_the_look_up_of_an_artist_by_hand():
    train = songs_of(["A", "A", "A", "B"], ["Jazz", "Jazz", "Rock", "Rock"])
    asked = songs_of(["A", "B", "C"], ["Rock", "Rock", "Rock"])
    chances = _answer_by_artist(train, asked, np.array(["Jazz", "Rock"]))
    # One song's worth of the shares, half and half, stands beside what is known.
    np.testing.assert_allclose(chances, [[2.5 / 4, 1.5 / 4], [0.5 / 2, 1.5 / 2], [0.5, 0.5]])


def test_an_artist_with_two_ids_is_one(run, monkeypatch):
    songs = kept_songs(run)
    one = songs.artist_id.value_counts().index[0]
    theirs = songs.index[songs.artist_id == one]
    names = songs.assign(artist_id=songs.artist_id.where(songs.index != theirs[0], "ARother"))
    monkeypatch.setattr(classical, "kept_songs", lambda run: names)
    loaded = classical.load_songs(run, songs.track_id[theirs].to_numpy(str))
    assert len(theirs) > 1 and len(set(loaded.artists)) == 1


def test_without_a_leak_the_look_up_of_an_artist_knows_no_more_than_the_shares(run):
    looked_up = pd.read_parquet(train_classical(run, "artist") / "predictions.parquet")
    constant = pd.read_parquet(train_classical(run, "majority") / "predictions.parquet")
    np.testing.assert_allclose(looked_up.filter(like="p_"), constant.filter(like="p_"))
    classes = sorted(set(kept_songs(run).genre))
    leaky = {}
    for name in ("artist", "majority"):
        table = pd.read_parquet(train_classical(run, name, "as_coded") / "predictions.parquet")
        leaky[name] = scores(table[table.part == "test"], classes)
    assert leaky["artist"]["macro_f1"] > leaky["majority"]["macro_f1"]


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_seed_gives_the_same_bits_and_nothing_is_made_twice(run, name, monkeypatch):
    path = train_classical(run, name) / "predictions.parquet"
    before, made = pd.read_parquet(path), path.stat().st_mtime_ns
    train_classical(run, name)
    assert path.stat().st_mtime_ns == made
    monkeypatch.setattr(runs, "_make_stamp", lambda seed: {})
    (run.dir / ".keys" / f"models__{path.parent.name}.json").unlink()
    with threadpool_limits(1):  # however many threads there are
        again = pd.read_parquet(train_classical(run, name) / "predictions.parquet")
    pd.testing.assert_frame_equal(before, again, check_exact=True)
    assert path.stat().st_mtime_ns != made


@pytest.mark.parametrize("name", ["logistic", "trees", "fusion"])
def test_the_model_that_is_kept_says_what_is_in_the_table(run, name):
    folder = train_classical(run, name)
    table = pd.read_parquet(folder / "predictions.parquet").query("part == 'test'")
    model = joblib.load(folder / "model.joblib")
    songs = classical.load_songs(run, table.track_id.to_numpy(str))
    np.testing.assert_allclose(model.predict_proba(songs), table.filter(like="p_"), rtol=1e-9)


def test_nothing_is_fitted_on_validation_or_test(run):
    "The scale and the rarity of words, worked out again from the songs of train alone."
    [(features, _)] = joblib.load(train_classical(run, "logistic") / "model.joblib").members
    train = classical.load_songs(run, np.unique(train_genres(run).index.to_numpy(str)))
    mean = np.nanmean(train.statistics, axis=0, dtype=float)
    np.testing.assert_allclose(features.scale.mean_, mean, rtol=1e-6, atol=1e-9)
    n, n_with = len(train.genres), np.asarray((train.counts > 0).sum(axis=0)).ravel()
    np.testing.assert_allclose(features.words.idf_, np.log((1 + n) / (1 + n_with)) + 1)


@pytest.mark.parametrize("name", BASELINES)
def test_a_split_that_leaks_is_refused(run, name):
    split = run.read("split.parquet")

    def plant(split):
        "One test song stands in train as well."
        one = split[(split.protocol == "artist") & (split.part == "test")].head(1)
        return pd.concat([split, one.assign(part="train")], ignore_index=True)

    write_split(run, plant)
    try:
        with pytest.raises(LeakError, match="track in train"):
            train_classical(run, name, seed=99)
    finally:
        split.to_parquet(run.dir / "split.parquet")
    assert not (run.dir / "models" / f"{name}-artist-f0-s99").exists()


def test_what_does_not_exist_is_named(run):
    with pytest.raises(RegistryError, match=r"'forest'.*majority, random, artist"):
        train_classical(run, "forest")
    with pytest.raises(SplitError, match=r"'official', fold 0.*artist fold 0"):
        train_classical(run, "majority", "official")


def test_a_fusion_is_the_mean_of_its_members_logarithms(run):
    table = pd.read_parquet(train_classical(run, "fusion") / "predictions.parquet")
    model = joblib.load(run.dir / "models/fusion-artist-f0-s1/model.joblib")
    songs = classical.load_songs(run, table.track_id.to_numpy(str))
    sound, words, trees = (
        one.predict_proba(features.matrix(songs)) for features, one in model.members)
    product = np.cbrt((sound + 1e-3) * (words + 1e-3) * (trees + 1e-3))
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(table.filter(like="p_"), expected, rtol=1e-6)


@pytest.mark.parametrize("parts", [("words",), ("timbre",), ("chroma", "song")])
def test_a_model_sees_nothing_but_its_parts(run, parts):
    "Other statistics and other words change nothing."
    folder = train_classical(run, "logistic", parts=parts)
    assert folder.name == f"logistic-{'_'.join(parts)}-artist-f0-s1"
    table = pd.read_parquet(folder / "predictions.parquet").query("part == 'test'")
    songs = classical.load_songs(run, table.track_id.to_numpy(str))
    hidden = [name.split()[0] not in parts for name in _statistic_names()]
    songs.statistics[:, hidden] = 7
    if "words" not in parts:
        songs.counts = sparse.csr_array(songs.counts.shape)
    model = joblib.load(folder / "model.joblib")
    np.testing.assert_allclose(model.predict_proba(songs), table.filter(like="p_"), rtol=1e-9)


def test_an_unknown_tempo_counts_as_the_usual_one(run):
    songs = classical.load_songs(run, np.unique(part_of(run, "test").astype(str)))
    [(features, _)] = joblib.load(train_classical(run, "logistic") / "model.joblib").members
    column = _statistic_names().index("song log tempo in bpm")
    songs.statistics[:, column] = np.nan
    place = features.columns.index(column)
    assert (features.matrix(songs)[:, [place]].toarray() == 0).all()


@pytest.mark.parametrize("parts", [(), ("lyrics",)])
def test_a_part_that_does_not_exist_is_named(run, parts):
    with pytest.raises(ClassicalError, match="timbre, chroma, song, words"):
        train_classical(run, "logistic", parts=parts)
    with pytest.raises(ClassicalError, match="besides words"):
        train_classical(run, "fusion", parts=("words",))


def test_a_smaller_share_of_train_is_part_of_a_larger_one_and_keeps_every_genre(run):
    split = open_split(run, "artist", 0)
    groups = artist_groups(kept_songs(run))
    train = [set(part.track_id[part.part == "train"]) for part in
             (thin(run, split, share, 1) for share in (0.2, 0.5, 1.0))]
    assert train[0] < train[1] < train[2]
    assert len(train[1]) <= 0.5 * len(train[2]) + groups[list(train[2])].value_counts().max()
    assert not set(groups[list(train[0])]) & set(groups[list(train[2] - train[0])])
    genre_of = kept_songs(run).set_index("track_id").genre
    assert set(genre_of[list(train[0])]) == set(genre_of[list(train[2])])
    others = thin(run, split, 0.5, 1).query("part != 'train'")
    assert others.track_id.tolist() == split.track_id[split.part != "train"].tolist()
    with pytest.raises(SplitError, match="above 0"):
        thin(run, split, 0.0)


def test_a_registered_estimator_is_trained_and_leaves_the_others_current(run, monkeypatch):
    before = BASELINES.digest("trees"), runs.stale(run)
    monkeypatch.setattr(BASELINES, "_entries", {**BASELINES._entries})
    register_estimator("knn", "k nearest neighbors", KNeighborsClassifier(5))
    folder = train_classical(run, "knn")
    table = pd.read_parquet(folder / "predictions.parquet")
    assert set(table.model) == {"knn"} and json.loads((folder / "cost.json").read_text())
    tested = scores(table[table.part == "test"], sorted(set(kept_songs(run).genre)))
    assert 0 <= tested["accuracy"] <= 1
    assert (BASELINES.digest("trees"), runs.stale(run)) == before
    made = (folder / "classes.json").stat().st_mtime_ns
    register_estimator("knn", "k nearest neighbors", KNeighborsClassifier(3))
    train_classical(run, "knn")
    assert (folder / "classes.json").stat().st_mtime_ns > made, "another k is another model"
    train_classical(run, "fusion")
    code = run.sidecars()["models/fusion-artist-f0-s1"]["code"]["names"]
    assert [name.partition(":")[2] for name in code] == ["_fusion", "_logistic", "_trees",
                                                         "train_classical"]  # fmt: skip


def test_a_registered_estimator_gets_the_seed_of_the_training(run, monkeypatch):
    monkeypatch.setattr(BASELINES, "_entries", {**BASELINES._entries})
    register_estimator("tree", "a decision tree", DecisionTreeClassifier(max_features=2))
    register_estimator("own", "one with its own seed", DecisionTreeClassifier(random_state=7))
    for name, seed in (("tree", 3), ("own", 7)):
        [(_, model)] = joblib.load(train_classical(run, name, seed=3) / "model.joblib").members
        assert model.random_state == seed


@pytest.mark.parametrize(
    ("name", "estimator", "message"),
    [
        ("trees", KNeighborsClassifier(5), "named 'trees'; expected letters, digits, and _, and n"),
        ("k-nn", KNeighborsClassifier(5), "named 'k-nn'; expected letters"),
        ("ridge", RidgeClassifier(), r"RidgeClassifier\(\) has no predict_proba: choose"),
    ],
)
def test_an_estimator_that_cannot_be_a_baseline_is_named(name, estimator, message):
    with pytest.raises(ClassicalError, match=message):
        register_estimator(name, "a title", estimator)
