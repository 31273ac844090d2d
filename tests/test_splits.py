"""Splits: no leak where none is declared, the write-up's own numbers where they can be, errors."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from msd_genre import published, splits
from msd_genre.splits import SplitError

SMALL = {"largest": 60, "others": 30}


def invented_catalog(counts, seed=0, songs_per_artist=4.0):
    "Invented songs: each genre's songs dealt to artists of that genre, some with one guest song."
    rng = np.random.default_rng(seed)
    rows = []
    for genre, n in counts.items():
        while n > 0:
            size = int(min(rng.geometric(1 / songs_per_artist), n))
            rows += [(genre, f"AR{len(rows):05d}")] * size
            n -= size
    table = pd.DataFrame(rows, columns=["genre", "artist_id"])
    guests = rng.permutation(len(table))[: len(table) // 20]
    table.loc[guests, "artist_id"] = rng.permutation(table.artist_id[guests])
    table["track_id"] = [f"TR{i:05d}" for i in rng.permutation(len(table))]
    table["song_id"] = "SO" + table.track_id.str[2:]
    return table


@pytest.fixture(scope="module")
def catalog():
    return invented_catalog({"Rock": 300, "Pop": 90, "Jazz": 45, "Folk": 30, "Polka": 4})


@pytest.fixture(scope="module")
def published_catalog():
    "As many invented songs of each genre as the write-up had real ones."
    return invented_catalog(published.genre_counts().to_dict())


def rows_of(split, part):
    return split[split.part == part].set_index("track_id").copies


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_a_split_is_the_same_whatever_the_order_of_rows(catalog, protocol):
    first = splits.make_split(catalog, protocol, 7, **SMALL)
    shuffled = catalog.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(first, splits.make_split(shuffled, protocol, 7, **SMALL))
    assert not first.equals(splits.make_split(catalog, protocol, 8, **SMALL))
    assert first.columns.tolist() == ["protocol", "fold", "part", "track_id", "copies"]


def test_a_split_is_the_same_in_another_process(catalog, tmp_path):
    "Another hash seed changes the order of sets: nothing may depend on it."
    catalog.to_parquet(tmp_path / "catalog.parquet")
    code = (
        "import pandas as pd\nfrom msd_genre.splits import *\n"
        "catalog = pd.read_parquet('catalog.parquet')\n"
        "for protocol in PROTOCOLS:\n"
        "    split = make_split(catalog, protocol, 7)\n"
        "    split.assign(row=expand(split, 'train')[0]).to_parquet(f'{protocol}.parquet')"
    )
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    for protocol in splits.PROTOCOLS:
        split = splits.make_split(catalog, protocol, 7)
        expected = split.assign(row=splits.expand(split, "train")[0])
        made = pd.read_parquet(tmp_path / f"{protocol}.parquet")
        pd.testing.assert_frame_equal(made, expected)


@pytest.mark.parametrize("fold", range(5))
def test_artist_has_no_artist_and_no_track_on_two_sides(catalog, fold):
    split = splits.make_split(catalog, "artist", 3, fold=fold, **SMALL)
    assert not split.track_id.duplicated().any()
    artists = split.merge(catalog).groupby("artist_id").part.nunique()
    assert (artists == 1).all()
    leaks = splits.leak_check(split, catalog)
    assert set(leaks.kind) == {"track", "song", "artist"} and (leaks["count"] == 0).all()


def test_artist_folds_test_every_song_once(catalog):
    kept = catalog[catalog.genre != "Polka"]
    tested = [
        splits.make_split(kept, "artist", 3, fold=fold, **SMALL).query("part == 'test'").track_id
        for fold in range(5)
    ]
    assert sorted(pd.concat(tested)) == sorted(kept.track_id)
    assert max(map(len, tested)) - min(map(len, tested)) < 15


@pytest.mark.parametrize("protocol", ["as_written", "artist"])
def test_genres_have_like_shares_in_each_part(published_catalog, protocol):
    table = splits.genre_parts(
        splits.make_split(published_catalog, protocol, 1, others=None, largest=None),
        published_catalog,
    )
    table = table[~table.dropped]
    assert len(table) == 16
    assert np.abs(table.test_rows / table.songs - 0.2).max() < 0.02
    in_train = table.train_rows + table.validation_rows
    assert np.abs(table.validation_rows / in_train - 0.3).max() < 0.03


def test_train_has_the_rows_asked_and_copies_only_where_a_genre_is_short(published_catalog):
    split = splits.make_split(published_catalog, "artist", 1)
    train = split[split.part == "train"].merge(published_catalog)
    by_genre = train.groupby("genre").copies.agg(["size", "sum", "max"])
    assert by_genre["sum"].pop("Rock") == 4000
    assert (by_genre["sum"].drop("Rock") == 1000).all()
    size = by_genre["size"].drop("Rock")
    assert (by_genre["max"].drop("Rock")[size >= 1000] == 1).all()
    assert (by_genre["max"].drop("Rock")[size < 1000] > 1).all()
    assert (split[split.part != "train"].copies == 1).all()


def test_sizes_of_none_leave_train_as_it_is(catalog):
    split = splits.make_split(catalog, "artist", 1, largest=None, others=None)
    assert (split.copies == 1).all()
    half = splits.make_split(catalog, "artist", 1, largest=50, others=None)
    rock = rows_of(half, "train").groupby(catalog.set_index("track_id").genre).sum()
    assert rock["Rock"] == 50
    assert rock["Pop"] == (split[split.part == "train"].merge(catalog).genre == "Pop").sum()


def test_as_coded_gives_the_write_ups_own_numbers(published_catalog):
    "26,118 and 6,530 songs, 13,300 and 5,700 rows, copies in about 43 %, Rock 21 % and 52 %."
    split = splits.make_split(published_catalog, "as_coded", 1)
    genre = published_catalog.set_index("track_id").genre
    validation = rows_of(split, "validation")
    assert len(rows_of(split, "test")) == 6_530
    assert rows_of(split, "train").sum() == 13_300 and validation.sum() == 5_700
    leaks = splits.leak_check(split, published_catalog).set_index(["kind", "part"])
    assert leaks.loc[("track", "validation"), "share"] == pytest.approx(0.43, abs=0.01)
    rock = validation[genre[validation.index] == "Rock"].sum() / validation.sum()
    assert rock == pytest.approx(0.21, abs=0.01)
    test = genre[rows_of(split, "test").index]
    assert (test == "Rock").mean() == pytest.approx(0.52, abs=0.01)
    # The code dropped small genres while it resampled train: their test songs stay.
    assert (test == "Vocal").any()
    trained = genre[split.track_id[split.part != "test"]]
    assert not trained.isin(["Vocal", "International"]).any()


def test_dropped_genres_are_in_no_part_and_are_named(catalog):
    for protocol in ("as_written", "artist"):
        split = splits.make_split(catalog, protocol, 1, **SMALL)
        assert "Polka" not in set(split.merge(catalog).genre)
        table = splits.genre_parts(split, catalog).set_index("genre")
        assert table.index[table.dropped].tolist() == ["Polka"]
        lost = set(catalog.track_id) - set(split.track_id)
        assert len(lost) == table.songs["Polka"]


def test_a_genre_whose_songs_all_fall_into_test_is_dropped_there_too():
    catalog = invented_catalog({"Rock": 200, "Pop": 100, "Opera": 1})
    for seed in range(5):
        for fold in range(5):
            split = splits.make_split(catalog, "artist", seed, fold=fold, **SMALL)
            assert set(split.merge(catalog).genre) == {"Rock", "Pop"}


def test_a_leak_of_each_kind_is_counted(catalog):
    split = splits.make_split(catalog, "artist", 1, **SMALL)
    train = split[(split.part == "train") & (split.copies > 0)].merge(catalog).iloc[0]
    unused = split[(split.part == "train") & (split.copies == 0)].iloc[[0]]
    n_test = (split.part == "test").sum()

    track = split[split.track_id == train.track_id].assign(part="test", copies=1)
    table = splits.leak_check(pd.concat([split, track]), catalog).set_index(["kind", "part"])
    assert (table.xs("test", level="part")["count"] == 1).all()
    assert table.loc[("track", "test"), "share"] == 1 / (n_test + 1)

    test = split[split.part == "test"].iloc[0].track_id
    for column, kind in {"song_id": "song", "artist_id": "artist"}.items():
        planted = catalog.copy()
        planted.loc[planted.track_id == test, column] = train[column]
        table = splits.leak_check(split, planted)
        assert table[table["count"] > 0][["kind", "part"]].to_numpy().tolist() == [[kind, "test"]]

    # A song of train that was not drawn is never shown, so it leaks nothing.
    table = splits.leak_check(pd.concat([split, unused.assign(part="test", copies=1)]), catalog)
    assert table[table.kind == "track"]["count"].sum() == 0


def test_expand_gives_each_song_as_often_as_it_has_copies(catalog):
    split = splits.make_split(catalog, "as_coded", 2, **SMALL)
    for part in splits.PARTS:
        rows = splits.expand(split, part, seed=4)
        counts = pd.Series(rows).value_counts().sort_index()
        expected = rows_of(split, part)
        assert counts.to_dict() == expected[expected > 0].to_dict()
        assert sorted(rows) == splits.expand(split, part, seed=None).tolist() != rows.tolist()
    assert (splits.expand(split, "train", 4) == splits.expand(split, "train", 4)).all()
    assert (splits.expand(split, "train", 4) != splits.expand(split, "train", 5)).any()


def test_expand_refuses_two_splits_and_unknown_parts(catalog):
    two = [splits.make_split(catalog, "artist", 1, fold=fold, **SMALL) for fold in (0, 1)]
    with pytest.raises(SplitError, match="holds 2 splits"):
        splits.expand(pd.concat(two), "train")
    with pytest.raises(SplitError, match="no part 'dev'"):
        splits.expand(two[0], "dev")


def test_too_few_artists_for_the_folds_is_an_error_that_can_be_acted_upon():
    "Five folds of a genre with three artists: fewer folds, no such genre, or allowed by name."
    catalog = invented_catalog({"Rock": 60, "Pop": 40})
    polka = pd.DataFrame({"genre": "Polka", "artist_id": [f"P{i % 3}" for i in range(12)]})
    polka = polka.assign(track_id=[f"TRP{i:02d}" for i in range(12)], song_id="")
    few = pd.concat([catalog, polka])
    choices = {"min_songs": 5, **SMALL}
    message = r"genre 'Polka' has no song in the test part of fold \d: it has 12 songs by 3 artists"
    for fold in range(5):  # whichever fold is asked for, before the first is trained
        with pytest.raises(SplitError, match=message):
            splits.make_split(few, "artist", 1, fold=fold, **choices)
    for change in ({"test_share": 1 / 3}, {"min_songs": 12}, {"allow_absent": True}):
        split = splits.make_split(few, "artist", 1, **{**choices, **change})
        assert ("Polka" in set(split.merge(few).genre)) == ("min_songs" not in change)


def test_small_corpora_can_be_split():
    catalog = invented_catalog({"Rock": 30, "Pop": 16, "Jazz": 14}, songs_per_artist=2.0)
    for protocol in splits.PROTOCOLS:
        for seed in range(5):
            split = splits.make_split(catalog, protocol, seed, min_songs=3, test_share=1 / 3)
            table = splits.genre_parts(split, catalog)
            assert (table.train_rows > 0).all() and not table.dropped.any()
            if protocol != "as_coded":
                assert (table[["validation_rows", "test_rows"]] > 0).all(axis=None)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"protocol": "random"}, "unknown protocol 'random': choose one of as_coded, as_written"),
        ({"seed": -1}, "seed is -1"),
        ({"fold": -1}, "fold is -1"),
        ({"fold": 5}, "fold 5 of 5: choose 0 to 4"),
        ({"test_share": 0.3}, "test_share is 0.3: artist folds are of equal size"),
        ({"test_share": 0.9}, "test_share is 0.9: artist folds are of equal size"),
        ({"test_share": 1.0}, "test_share is 1.0: it must lie between 0 and 1"),
        ({"validation_share": 0}, "validation_share is 0"),
        ({"others": 0}, "others is 0: it must be 1 or more"),
        ({"min_songs": 400}, "fewer than two genres have more than 400 train songs: {'Rock': "),
        ({"test_share": 0.001}, "for 1000 folds: add songs or raise test_share"),
    ],
)
def test_impossible_choices_are_refused(catalog, choice, message):
    with pytest.raises(SplitError) as error:
        splits.make_split(catalog, **{"protocol": "artist", "seed": 1, **choice})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="artist_id"), r"no column \['artist_id'\]"),
        (lambda t: t.head(0), "has no songs"),
        (lambda t: t.assign(genre=t.genre.where(t.genre != "Pop")), "90 of 469 songs have no g"),
        (lambda t: t.assign(artist_id=""), "469 of 469 songs have no artist_id"),
        (lambda t: pd.concat([t, t.head(1)]), "stands twice"),
    ],
)
def test_a_catalog_that_cannot_be_split_is_refused(catalog, change, message):
    with pytest.raises(SplitError, match=message):
        splits.make_split(change(catalog), "artist", 1)


def test_real_songs_split_by_artist(real_msd):
    "Most are of one genre, many genres have a handful of artists."
    from msd_genre import genres, songs, sources

    layout = sources.find_layout(real_msd)
    paths = songs.find_songs(layout.songs)
    rows = pd.DataFrame([songs.read_song(path).metadata for path in paths])
    labels = next(path for name, path in layout.labels.items() if "cd1" in name)
    rows = rows.merge(genres.read_labels(labels)[0][["track_id", "genre"]])
    for seed in range(3):
        for fold in range(5):
            split = splits.make_split(rows, "artist", seed, fold=fold, min_songs=8)
            assert (splits.leak_check(split, rows)["count"] == 0).all()
            table = splits.genre_parts(split, rows)
            assert (table.test_rows[~table.dropped] > 0).all()
            assert table.dropped.sum() < len(table) - 2
