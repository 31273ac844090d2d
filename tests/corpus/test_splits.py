"""Splits: no leak where none is declared, the write-up's own numbers where they can be, errors."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest

from msd_genre.corpus import leaks as leaks_module
from msd_genre.corpus import splits
from msd_genre.corpus.leaks import LeakError
from msd_genre.corpus.splits import SplitError
from msd_genre.evaluation import published
from msd_genre.workspace import runs

SMALL = {"resampling": splits.to_counts(60, 30)}
DRAWN = ["as_coded", "as_written", "artist"]  # the protocols that need no lists


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
    number = table.track_id.str[2:]
    table["song_id"], table["title"] = "SO" + number, "Song " + number
    table["artist_name"] = "The Artist " + table.artist_id.str[2:]
    table["recording"] = "digest " + number
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


def tracks_of(split, part):
    return set(split.track_id[split.part == part])


def lists_of(catalog):
    "Every fifth artist for test, as `read_lists` gives it."
    ids = sorted(set(catalog.artist_id))
    part = np.where(np.arange(len(ids)) % 5 == 0, "test", "train")
    return pd.DataFrame({"id": ids, "part": part})


def split_by(protocol, catalog, seed, **choices):
    "`make_split`, with lists where the protocol needs them."
    listed = lists_of(catalog) if protocol == "official" else None
    return splits.make_split(catalog, protocol, seed, listed=listed, **{**SMALL, **choices})


@pytest.mark.parametrize("protocol", splits._PROTOCOLS)
def test_a_split_is_the_same_whatever_the_order_of_rows(catalog, protocol):
    first = split_by(protocol, catalog, 7)
    shuffled = catalog.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(first, split_by(protocol, shuffled, 7))
    assert not first.equals(split_by(protocol, catalog, 8))
    assert first.columns.tolist() == ["protocol", "fold", "part", "track_id", "copies"]


def test_a_split_is_the_same_in_another_process(catalog, tmp_path):
    "Another hash seed changes the order of sets: nothing may depend on it."
    catalog.to_parquet(tmp_path / "catalog.parquet")
    code = (
        "import pandas as pd\nfrom msd_genre.corpus.splits import *\n"
        "catalog = pd.read_parquet('catalog.parquet')\n"
        "for protocol in ('as_coded', 'as_written', 'artist'):\n"
        "    split = make_split(catalog, protocol, 7)\n"
        "    split.assign(row=expand(split, 'train')[0]).to_parquet(f'{protocol}.parquet')"
    )
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    for protocol in DRAWN:
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
    leaks = leaks_module.refuse_leaks(split, catalog)
    assert len(leaks) == 8 and set(leaks.kind) == set(splits.KINDS)
    assert (leaks["count"] == 0).all() and not leaks.declared.any()


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
    table = leaks_module.genre_parts(
        splits.make_split(published_catalog, protocol, 1),
        published_catalog,
    )
    table = table[~table.dropped]
    assert len(table) == 16
    assert np.abs(table.test_rows / table.songs - 0.2).max() < 0.02
    in_train = table.train_rows + table.validation_rows
    assert np.abs(table.validation_rows / in_train - 0.3).max() < 0.03


def test_artists_are_as_large_in_each_part():
    """Validation is to be like test: not few artists with many songs each.

    In the mean of ten splits, since one small part may have the one artist with a dozen songs.
    """
    catalog = invented_catalog({"Rock": 400, "Pop": 150, "Jazz": 90, "Folk": 60})
    artist_of = catalog.set_index("track_id").artist_id
    size_of = artist_of.value_counts()
    largest = size_of.index[: len(size_of) // 10]
    found = []
    for seed, fold in [(seed, fold) for seed in range(2) for fold in range(5)]:
        split = splits.make_split(catalog, "artist", seed, fold=fold)
        artists = split.assign(artist=split.track_id.map(artist_of)).drop_duplicates("artist")
        sizes = artists.artist.map(size_of).groupby(artists.part).mean()
        learnt = artists[artists.artist.isin(largest) & (artists.part != "test")]
        found.append({**sizes, "largest": (learnt.part == "validation").mean()})
    mean = pd.DataFrame(found).mean()
    assert mean.validation == pytest.approx(mean.test, rel=0.1)
    assert mean.validation == pytest.approx(mean.train, rel=0.1)
    assert mean.largest == pytest.approx(0.3, abs=0.05)  # the validation share


def test_train_has_the_rows_asked_and_copies_only_where_a_genre_is_short(published_catalog):
    sizes = splits.to_counts(4000, 1000)
    split = splits.make_split(published_catalog, "artist", 1, resampling=sizes)
    train = split[split.part == "train"].merge(published_catalog)
    by_genre = train.groupby("genre").copies.agg(["size", "sum", "max"])
    assert by_genre["sum"].pop("Rock") == 4000
    assert (by_genre["sum"].drop("Rock") == 1000).all()
    size = by_genre["size"].drop("Rock")
    assert (by_genre["max"].drop("Rock")[size >= 1000] == 1).all()
    assert (by_genre["max"].drop("Rock")[size < 1000] > 1).all()
    assert (split[split.part != "train"].copies == 1).all()


@pytest.mark.parametrize("protocol", ["as_written", "artist", "official"])
def test_nothing_is_resampled_unless_asked(catalog, protocol):
    listed = lists_of(catalog) if protocol == "official" else None
    split = splits.make_split(catalog, protocol, 1, listed=listed, min_songs=4)
    assert (split.copies == 1).all() and len(split) <= len(catalog)


def test_as_coded_is_resampled_as_the_write_up_did(catalog):
    split = splits.make_split(catalog, "as_coded", 1)
    same = splits.make_split(catalog, "as_coded", 1, resampling=splits.to_counts(4000, 1000))
    pd.testing.assert_frame_equal(split, same)
    assert split[split.part != "test"].copies.sum() == 4000 + 3 * 1000


@pytest.mark.parametrize("largest", [None, 90])
@pytest.mark.parametrize("others", [None, 30])
def test_a_count_of_none_is_the_write_ups_in_as_coded(catalog, largest, others):
    sizes = splits.to_counts(largest, others, protocol="as_coded")
    rows = splits.make_split(catalog, "as_coded", 1, resampling=sizes)
    assert rows[rows.part != "test"].copies.sum() == (largest or 4000) + 3 * (others or 1000)


def test_sizes_of_none_leave_train_as_it_is(catalog):
    split = splits.make_split(catalog, "artist", 1)
    assert (split.copies == 1).all()
    half = splits.make_split(catalog, "artist", 1, resampling=splits.to_counts(50, None))
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
    leaks = leaks_module.leak_check(split, published_catalog).set_index(["kind", "part"])
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
        table = leaks_module.genre_parts(split, catalog).set_index("genre")
        assert table.index[table.dropped].tolist() == ["Polka"]
        lost = set(catalog.track_id) - set(split.track_id)
        assert len(lost) == table.songs["Polka"]


def test_a_genre_whose_songs_all_fall_into_test_is_dropped_there_too():
    catalog = invented_catalog({"Rock": 200, "Pop": 100, "Opera": 1})
    for seed in range(5):
        for fold in range(5):
            split = splits.make_split(catalog, "artist", seed, fold=fold, **SMALL)
            assert set(split.merge(catalog).genre) == {"Rock", "Pop"}


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (["artist_id"], {"artist"}),  # two names, one id
        (["artist_name"], {"artist"}),  # two ids, one name
        (["song_id"], {"song", "artist"}),
        (["recording"], {"recording", "artist"}),  # the same segments, all else different
        (["artist_name", "title"], {"recording", "artist"}),
    ],
    ids=["id", "name", "song", "segments", "title"],
)
def test_a_planted_leak_is_refused_and_a_new_split_has_none(catalog, part, given, kinds):
    "A song of the part is given what a train song has; its artist's other songs leak with it."
    split = splits.make_split(catalog, "artist", 1, **SMALL)
    known = catalog.set_index("track_id")
    seen = rows_of(split, "train").pipe(lambda copies: copies[copies > 0]).index[0]
    here = rows_of(split, part).index
    leaked = here[known.artist_id[here] == known.artist_id[here[0]]]

    planted = known.copy()
    planted.loc[leaked[0], given] = known.loc[seen, given].to_numpy()
    if "artist_name" in given:  # as another source would write it
        name = known.artist_name[seen].removeprefix("The ").upper()
        planted.loc[leaked[0], "artist_name"] = f"{name} feat. Somebody"
    if "title" in given:
        planted.loc[leaked[0], "title"] += " (Album Version)"
    planted = planted.reset_index()

    with pytest.raises(LeakError, match="the split 'artist', fold 0, leaks: ") as error:
        leaks_module.refuse_leaks(split, planted)
    for kind in kinds:
        count = len(leaked) if kind == "artist" else 1
        said = f"{count} rows of {part} have their {kind} in train"
        assert said in str(error.value) and leaked[0] in str(error.value)
    found = leaks_module.leak_check(split, planted)
    assert set(found[found["count"] > 0].kind) == kinds
    assert set(found[found["count"] > 0].part) == {part}

    again = splits.make_split(planted, "artist", 1, **SMALL)
    assert (leaks_module.refuse_leaks(again, planted)["count"] == 0).all()
    assert again.set_index("track_id").part[[seen, leaked[0]]].nunique() == 1


@pytest.mark.parametrize("protocol", ["as_written", "artist", "official"])
@pytest.mark.parametrize("copies", [0, 1, 5])
def test_a_copy_of_a_validation_row_in_train_is_refused(catalog, protocol, copies):
    "Also where it was not drawn: baselines learn from each song of train."
    split = split_by(protocol, catalog, 1)
    track = rows_of(split, "validation").index[0]
    copy = split[split.track_id == track].assign(part="train", copies=copies)
    table = leaks_module.leak_check(pd.concat([split, copy]), catalog).set_index(["kind", "part"])
    n_validation = len(rows_of(split, "validation"))
    assert table.loc[("track", "validation"), "count"] == 1
    assert table.loc[("track", "validation"), "share"] == 1 / n_validation
    with pytest.raises(LeakError, match=f"1 rows of validation have their track in .*{track}"):
        leaks_module.refuse_leaks(pd.concat([split, copy]), catalog)


@pytest.mark.parametrize("protocol", splits._PROTOCOLS)
@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_test_song_that_was_seen_before_is_refused_by_every_protocol(catalog, protocol, side):
    split = split_by(protocol, catalog, 1)
    track = rows_of(split, "test").index[0]
    copy = split[(split.track_id == track) & (split.part == "test")].assign(part=side)
    with pytest.raises(LeakError, match=f"1 rows of test have their track in .*{track}"):
        leaks_module.refuse_leaks(pd.concat([split, copy]), catalog)


def test_declared_leaks_are_counted_and_not_refused(catalog):
    artist_of = catalog.set_index("track_id").artist_id
    for protocol in ("as_coded", "as_written"):
        split = splits.make_split(catalog, protocol, 1, **SMALL)
        table = leaks_module.refuse_leaks(split, catalog).set_index(["kind", "part"])
        train = artist_of[sorted(tracks_of(split, "train"))]
        rows = rows_of(split, "validation")
        known = rows[artist_of[rows.index].isin(train).to_numpy()].sum()
        assert table.loc[("artist", "validation"), "count"] == known > 0
        assert table.declared[[("artist", "validation"), ("artist", "test")]].all()
        assert not table.declared["track", "test"]
        copied = rows[rows.index.isin(rows_of(split, "train").index)].sum()
        assert table["count"]["track", "validation"] == copied
        assert (copied > 0) == table.declared["track", "validation"] == (protocol == "as_coded")


@pytest.mark.parametrize("name", ["artist", "artist-natural", "my_own"])
def test_what_is_declared_goes_by_the_protocol_and_nothing_by_default(catalog, name):
    split = splits.make_split(catalog, "as_written", 1, **SMALL)
    leaks_module.refuse_leaks(split.assign(protocol="as_written-natural"), catalog)
    with pytest.raises(LeakError, match=f"the split '{name}', fold 0, leaks: .* their artist in"):
        leaks_module.refuse_leaks(split.assign(protocol=name), catalog)


def test_a_missing_or_empty_name_joins_nothing(catalog):
    "Nor does a name of signs alone, a title, or a song without segments in its cut."
    songs = catalog.drop_duplicates("artist_id").head(6)
    for name in ("artist_name", "song_id", "recording", "title"):
        for empty in ("", None, np.nan):
            assert splits.artist_groups(songs.assign(**{name: empty})).nunique() == 6
            assert splits.recording_groups(songs.assign(**{name: empty})).nunique() == 6
    for name in ("!!!", "???"):
        assert splits.artist_groups(songs.assign(artist_name=name)).nunique() == 6
    split = splits.make_split(catalog, "artist", 1, **SMALL)
    empty = catalog.assign(artist_name="", title="", song_id=None, recording="")
    assert (leaks_module.refuse_leaks(split, empty)["count"] == 0).all()


def test_columns_that_are_not_there_are_not_compared(catalog):
    bare = catalog[["track_id", "artist_id", "genre"]]
    split = splits.make_split(bare, "artist", 1, **SMALL)
    assert set(leaks_module.leak_check(split, bare).kind) == {"track", "artist"}
    ids = splits.artist_groups(bare)
    assert (ids == catalog.set_index("track_id").artist_id).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Beatles", "BEATLES"),
        ("Björk", "Bjork"),
        ("Jay-Z", "Jay Z"),
        ("AC/DC", "ACDC"),
        ("Simon & Garfunkel", "Simon And Garfunkel"),
        ("Eve", "Eve (feat. Gwen)"),
        ("Eve", "Eve ft. Gwen"),
        ("Eve", "Eve Featuring Gwen & Others"),
        ("Ｅｖｅ", "Eve"),
    ],
)
def test_names_that_are_the_same(one, other):
    assert splits._plain_name(one) == splits._plain_name(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [("Little Feat", "Little"), ("The The", "The Theremin"), ("Ft. Worth", ""), ("玉置", "玉木")],
)
def test_names_that_are_not_the_same(one, other):
    assert splits._plain_name(one) != splits._plain_name(other)


def test_an_edition_is_the_same_recording_and_a_live_one_is_not():
    same = ["Hey", "hey (Album Version)", "Hey [2009 Digital Remaster]", "Hey (ft. Eve) (Explicit)"]
    assert len({splits._plain_title(title) for title in same}) == 1
    others = ["Hey (Live)", "Hey (Remix)", "Hey [feat. Eve] [Remix A]", "Hey You", "Hey (Version)"]
    assert len({splits._plain_title(title) for title in ["Hey", *others]}) == 1 + len(others)


def test_groups_do_not_depend_on_the_order_of_rows(catalog):
    songs = catalog.assign(song_id=catalog.song_id.where(catalog.index % 7 > 0, "SO1"))
    shuffled = songs.sample(frac=1, random_state=3)
    for groups in (splits.artist_groups, splits.recording_groups):
        expected = groups(songs)
        assert (groups(shuffled)[expected.index] == expected).all()
    assert expected.nunique() == len(songs)  # one song, yet no track is the same recording
    assert splits.artist_groups(songs).nunique() < songs.artist_id.nunique()


def test_nothing_may_be_fitted_on_more_than_train(catalog):
    for protocol in splits._PROTOCOLS:
        split = split_by(protocol, catalog, 1)
        train = split.track_id[split.part == "train"]
        leaks_module._check_fitted(split, train, "the scaler")
        leaks_module._check_fitted(
            split, train[rows_of(split, "train").to_numpy() > 0], "the scaler"
        )
        for part in ("validation", "test"):
            other = sorted(tracks_of(split, part) - set(train))[0]
            message = f"the weighting was fitted on 1 songs that are not in train.* such as {other}"
            with pytest.raises(LeakError, match=message):
                leaks_module._check_fitted(split, [*train, other], "the weighting")
    everything = np.array(catalog.track_id, dtype=str)
    with pytest.raises(LeakError, match="the vocabulary was fitted on"):
        leaks_module._check_fitted(split, everything, "the vocabulary")


@pytest.mark.parametrize("fold", range(5))
def test_another_resampling_has_the_same_test_and_validation_parts(catalog, fold):
    sizes = {"natural": {"resampling": "none"}, "equal": {"resampling": splits.to_counts(30, 30)}}
    artist = splits.make_split(catalog, "artist", 2, fold=fold, **SMALL)
    for suffix, chosen in sizes.items():
        name = f"artist-{suffix}"
        other = splits.make_split(catalog, "artist", 2, fold=fold, name=name, **chosen)
        assert set(other.protocol) == {name} and splits.protocol_of(name) == "artist"
        same = ["fold", "part", "track_id"]
        pd.testing.assert_frame_equal(other[same], artist[same])
        held = artist.part != "train"
        assert (other.copies[held] == artist.copies[held]).all()
        assert not other.copies.equals(artist.copies)
        assert (leaks_module.refuse_leaks(other, catalog)["count"] == 0).all()


def write_lists(folder, **parts):
    for part, text in parts.items():
        (folder / f"{part}.txt").write_text(text)
    return {part: folder / f"{part}.txt" for part in parts}


def test_official_takes_the_lists_and_cuts_validation_by_artist(catalog, tmp_path):
    ids = sorted(set(catalog.artist_id))
    train, test = ids[::4] + ids[1::4], ids[2::4]
    files = write_lists(
        tmp_path, train="# for learning\n\n" + "\n".join(train),
        test="".join(f"{one}<SEP>a name, and more\r\n" for one in test),
    )  # fmt: skip
    listed = splits.read_lists(files)
    split = splits.make_split(catalog, "official", 1, listed=listed, min_songs=4, **SMALL)
    artist = split.track_id.map(catalog.set_index("track_id").artist_id)
    assert set(artist[split.part == "test"]) <= set(test)
    assert set(artist[split.part != "test"]) <= set(train)
    unlisted = catalog[~catalog.artist_id.isin(train + test)]
    assert len(unlisted) and not unlisted.track_id.isin(split.track_id).any()
    assert (leaks_module.refuse_leaks(split, catalog)["count"] == 0).all()


def test_official_lists_of_tracks_leak_by_artist_and_say_so(catalog, tmp_path):
    tracks = catalog.track_id[catalog.genre != "Polka"].tolist()
    files = write_lists(tmp_path, train="\n".join(tracks[::2]), test="\n".join(tracks[1::2]))
    listed = splits.read_lists(files)
    split = splits.make_split(catalog, "official", 1, listed=listed, **SMALL)
    assert tracks_of(split, "test") == set(tracks[1::2])
    table = leaks_module.refuse_leaks(split, catalog).set_index(["kind", "part"])
    assert table["count"]["artist", "test"] > 0 and table.declared["artist", "test"]
    assert table["count"]["artist", "validation"] == 0  # cut by artist


def test_an_official_validation_list_is_taken_and_its_leaks_are_refused(catalog, tmp_path):
    ids = sorted(set(catalog.artist_id))
    files = write_lists(tmp_path, train="\n".join(ids[::2]), validation="\n".join(ids[1::4]),
                        test="\n".join(ids[3::4]))  # fmt: skip
    listed = splits.read_lists(files)
    split = splits.make_split(catalog, "official", 1, listed=listed, min_songs=8, **SMALL)
    genre = catalog.set_index("track_id").genre
    expected = catalog[catalog.artist_id.isin(ids[1::4]) & catalog.genre.isin(
        genre[sorted(tracks_of(split, "train"))])]  # fmt: skip
    assert tracks_of(split, "validation") == set(expected.track_id)
    leaks_module.refuse_leaks(split, catalog)

    renamed = catalog.assign(artist_name="One Name")
    split = splits.make_split(renamed, "official", 1, listed=listed, min_songs=8, **SMALL)
    with pytest.raises(LeakError, match="rows of validation have their artist in train"):
        leaks_module.refuse_leaks(split, renamed)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": "AR1"}, r"lists for \['train'\]: a split needs one for train and one for test"),
        ({"train": "AR1", "test": "AR2", "dev": "AR3"}, "lists for .*'dev'"),
        ({"train": "AR1", "test": "TR2"}, "mix artists and tracks, such as AR1 and TR2"),
        ({"train": "AR1\nAR2", "test": "AR3\nAR2"}, "1 ids stand in two lists, such as AR2 in tra"),
        ({"train": "AR1", "test": "# nothing\n\n"}, "test.txt holds no id"),
        ({"train": "AR1", "test": "AR2\nThe Beatles"}, r"test.txt, line 2: 'The' is no id"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, parts, message):
    with pytest.raises(SplitError, match=message):
        splits.read_lists(write_lists(tmp_path, **parts))


def test_lists_that_cannot_be_read_or_name_other_songs_are_refused(catalog, tmp_path):
    files = write_lists(tmp_path, train="AR1", test="AR2")
    with pytest.raises(SplitError, match=r"none\.txt cannot be read"):
        splits.read_lists(files | {"test": tmp_path / "none.txt"})
    (tmp_path / "binary.txt").write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(SplitError, match=r"binary\.txt cannot be read"):
        splits.read_lists(files | {"test": tmp_path / "binary.txt"})
    message = "the list for test has 1 ids, such as AR2, and no song of the catalog has one"
    with pytest.raises(SplitError, match=message):
        splits.make_split(catalog, "official", 1, listed=splits.read_lists(files))
    listed = lists_of(catalog[catalog.genre == "Rock"])
    listed = pd.concat([listed, pd.DataFrame({"id": catalog.artist_id, "part": "train"})])
    listed = listed.drop_duplicates("id")
    with pytest.raises(SplitError, match=r"no song in the test list: it has .* Set min_songs"):
        splits.make_split(catalog, "official", 1, listed=listed, **SMALL)


@pytest.fixture
def demo_songs(demo_corpus, tmp_path):
    "A run on its own copy of the fictional songs, with a split of each drawn protocol."
    from msd_genre.corpus import catalog as catalog_module
    from msd_genre.corpus import features

    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    params = {"params_file": "mine.yaml", "seed": 1, "data": {"folder": str(corpus)},
              "set": ["03_splits.folds=[0, 1]"]}
    run = runs.create_run(params, tmp_path / "run")
    catalog_module.build_catalog(run)
    features.build_store(run)
    write_splits(run)
    return run


def write_splits(run):
    choices = {"min_songs": 3, "allow_absent": True, **SMALL}
    made = [
        splits.make_split(leaks_module.kept_songs(run), protocol, 1, **choices)
        for protocol in DRAWN
    ]
    pd.concat(made).to_parquet(run.dir / "split.parquet")


def test_a_run_opens_its_splits_with_all_rows(demo_songs):
    for protocol in DRAWN:
        split = leaks_module.open_split(demo_songs, protocol, 0)
        assert set(split.protocol) == {protocol} and (split.copies == 0).any()
        assert set(split.part) == set(splits.PARTS)
    message = "no split 'official', fold 0, in the run; there is as_coded fold 0, as_written fold 0"
    with pytest.raises(SplitError, match=message):
        leaks_module.open_split(demo_songs, "official", 0)
    with pytest.raises(SplitError, match="no split 'artist', fold 1"):
        leaks_module.open_split(demo_songs, "artist", 1)


def test_the_advice_on_a_split_is_the_command_that_makes_this_run(demo_songs):
    "Its own parameter file, folder of songs, run folder and settings: not those of the demo."
    from msd_genre.corpus.features import FeatureError

    command = f"`{shlex.join(runs._report_command(demo_songs.dir))}`"
    for option in ("report mine.yaml", "--run-dir", f"--data {demo_songs.dir.parent}", "--set"):
        assert option in command
    split = demo_songs.dir / "split.parquet"
    with pytest.raises(SplitError) as missing:
        leaks_module.open_split(demo_songs, "artist", 1)
    assert f"in mine.yaml, then run {command}" in str(missing.value)

    table, songs = pd.read_parquet(split), pd.read_parquet(demo_songs.dir / "catalog.parquet")
    songs["artist_name"] = "One Name"
    songs.to_parquet(demo_songs.dir / "catalog.parquet")
    with pytest.raises(LeakError) as leak:
        leaks_module.open_split(demo_songs, "artist", 0)
    songs[songs.track_id != table.track_id.iloc[0]].to_parquet(demo_songs.dir / "catalog.parquet")
    with pytest.raises(SplitError) as older:
        leaks_module.open_split(demo_songs, "as_coded", 0)
    for error in (leak, older):
        assert f"To rebuild it, remove {split} and run {command}" in str(error.value)

    stored = demo_songs.dir / "features" / "store.h5"
    with h5py.File(stored, "r+") as file:
        del file["recording"]
    with pytest.raises(FeatureError) as old_store:
        leaks_module.open_split(demo_songs, "as_coded", 0)
    stored.unlink()
    with pytest.raises(FeatureError) as no_store:
        leaks_module.open_split(demo_songs, "as_coded", 0)
    for error in (old_store, no_store):
        assert command in str(error.value)


@pytest.mark.parametrize("module", ["catalog", "features", "leaks", "scan", "splits"])
def test_no_chapter_is_named_by_its_number(module):
    text = (runs.project_root() / "msd_genre" / "corpus" / f"{module}.py").read_text()
    assert not re.findall(r"chapter\W*\d", text, re.IGNORECASE)


def test_a_run_refuses_a_split_that_was_changed_behind_its_back(demo_songs):
    path = demo_songs.dir / "split.parquet"
    split = pd.read_parquet(path)
    mine = split.protocol == "artist"
    track = split.track_id[mine & (split.part == "test")].iloc[0]
    split[mine & (split.track_id == track)].assign(part="train").pipe(
        lambda row: pd.concat([split, row])).to_parquet(path)  # fmt: skip
    with pytest.raises(LeakError, match=f"their track in train or validation too, such as {track}"):
        leaks_module.open_split(demo_songs, "artist", 0)
    leaks_module.open_split(demo_songs, "as_written", 0)  # the others are as they were


def test_a_run_refuses_a_split_that_is_older_than_its_songs(demo_songs):
    path = demo_songs.dir / "catalog.parquet"
    songs = pd.read_parquet(path)
    gone = leaks_module.open_split(demo_songs, "artist", 0).track_id.iloc[0]
    songs[songs.track_id != gone].to_parquet(path)
    with pytest.raises(SplitError, match=f"1 of the split's .* such as {gone}: the split is older"):
        leaks_module.open_split(demo_songs, "artist", 0)


def test_a_run_refuses_one_recording_on_two_sides(demo_songs):
    "The same segments in two song files, by other artists and with other titles."
    from msd_genre.corpus import catalog as catalog_module
    from msd_genre.corpus import features

    songs = leaks_module.kept_songs(demo_songs).set_index("track_id")
    before = leaks_module.open_split(demo_songs, "artist", 0)
    one, other = (rows_of(before, part).index[0] for part in ("train", "test"))
    corpus = demo_songs.dir.parent / "corpus"
    with (
        h5py.File(corpus / songs.path[one]) as source,
        h5py.File(corpus / songs.path[other], "r+") as target,
    ):
        for name in [name for name in source["analysis"] if name.startswith("segments")]:
            del target["analysis"][name]
            source.copy(f"analysis/{name}", target["analysis"])
    catalog_module.build_catalog(demo_songs)
    features.build_store(demo_songs)
    assert leaks_module.kept_songs(demo_songs).recording.duplicated().sum() == 1
    with pytest.raises(LeakError, match=f"1 rows of test have their recording in .* as {other}"):
        leaks_module.open_split(demo_songs, "artist", 0)

    write_splits(demo_songs)
    part = leaks_module.open_split(demo_songs, "artist", 0).set_index("track_id").part
    assert part[one] == part[other]


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
    for protocol in DRAWN:
        for seed in range(5):
            split = splits.make_split(catalog, protocol, seed, min_songs=3, test_share=1 / 3)
            table = leaks_module.genre_parts(split, catalog)
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
        ({"min_songs": 400}, "fewer than two genres have more than 400 train songs: {'Rock': "),
        ({"test_share": 0.001}, "for 1000 folds: add songs or raise test_share"),
        ({"protocol": "official"}, "`official` needs lists of train and test"),
        ({"listed": pd.DataFrame()}, "no other protocol takes any: 'artist' was given some"),
        ({"name": "by_artist"}, "a split by 'artist' cannot be named 'by_artist': choose artist-"),
        ({"name": "artist-a/b"}, "cannot be named 'artist-a/b'"),
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


@pytest.fixture(scope="module")
def real_songs(real_msd):
    "All real songs that have a genre, whatever their length."
    from msd_genre.datasets import labels as labels_module
    from msd_genre.files import layout as layout_module
    from msd_genre.files import song_file, song_sources

    layout = layout_module.find_layout(real_msd)
    paths = song_sources._find_songs(layout.songs)
    rows = pd.DataFrame([song_file.read_song(path).metadata for path in paths])
    labels = next(path for name, path in layout.labels.items() if "cd1" in name)
    return rows, rows.merge(labels_module.read_labels(labels)[0][["track_id", "genre"]])


def test_real_songs_split_by_artist(real_songs):
    "Most are of one genre, many genres have a handful of artists."
    rows = real_songs[1]
    for seed in range(3):
        for fold in range(5):
            split = splits.make_split(rows, "artist", seed, fold=fold, min_songs=8)
            assert (leaks_module.refuse_leaks(split, rows)["count"] == 0).all()
            table = leaks_module.genre_parts(split, rows)
            assert (table.test_rows[~table.dropped] > 0).all()
            assert table.dropped.sum() < len(table) - 2


def test_artists_of_real_songs_are_joined_where_only_their_ids_differ(real_songs):
    "A handful among hundreds: the names of one group read alike, and none takes in strangers."
    rows = real_songs[0]
    table = rows.assign(artist=splits.artist_groups(rows).to_numpy())
    ids = table.groupby("artist").artist_id.nunique()
    assert 1 <= (ids > 1).sum() < 0.02 * len(ids)
    for _, group in table[table.artist.isin(ids.index[ids > 1])].groupby("artist"):
        assert group.artist_name.map(splits._plain_name).nunique() == 1
    assert table.groupby("artist").size().max() < 0.05 * len(table)


def test_a_resampling_is_declared_by_one_entry(catalog):
    one = splits.Resampling("half", "half of the songs", lambda train, rng: pd.Series(
        np.arange(len(train)) % 2, train.index))  # fmt: skip
    mine = splits.make_split(catalog, "artist", 1, resampling=one)
    assert rows_of(mine, "train").mean() == pytest.approx(0.5, abs=0.01)
    assert splits.RESAMPLINGS["none"].title == "each song once"
    with pytest.raises(ValueError, match="no resampling 'twice'; there is none, as_coded"):
        splits.make_split(catalog, "artist", 1, resampling="twice")
    with pytest.raises(splits.SplitError, match="others is 0: it must be 1 or more, or None"):
        splits.to_counts(None, 0)
