"""Label files and weak labels: exact values of a real file, rows set aside, cut files, the vote."""

import numpy as np
import pandas as pd
import pytest

from msd_genre.datasets.labels import (
    _GENRE_TERMS,
    _TERM_COLUMNS,
    _TERM_GENRES,
    LABELS,
    WRITEUP_GENRES,
    LabelError,
    _term_genre,
    known_genres,
    read_labels,
    weak_labels,
)  # fmt: skip
from msd_genre.files.song_file import read_song
from msd_genre.files.song_sources import _find_songs
from msd_genre.files.text import _SET_ASIDE
from msd_genre.workspace.paths import SourceError


@pytest.fixture
def cls(tmp_path):
    def write(text):
        path = tmp_path / "labels.cls"
        path.write_bytes(text.encode("utf-8"))
        return path

    return write


def read_whole(path, **options):
    """Read a file of which nothing may be set aside."""
    labels, aside = read_labels(path, **options)
    assert aside.empty and list(aside.columns) == _SET_ASIDE
    return labels


def reasons(path, **options):
    """Number and reason of the lines that are set aside, and the tracks that are read."""
    labels, aside = read_labels(path, **options)
    assert (aside["file"] == path.name).all()
    return dict(zip(aside["line"], aside["reason"], strict=True)), labels["track_id"].tolist()


# Label files


def test_real_labels_read_as_another_reader_reads_them(real_msd):
    path = real_msd / "tagtraum" / "msd_tagtraum_cd1.cls"
    labels = read_whole(path)
    other = pd.read_csv(path, sep="\t", comment="#", names=["track_id", "genre", "genre_minority"])
    other = other.sort_values("track_id", ignore_index=True)
    assert len(labels) == 133_676
    for name in labels.columns:
        assert labels[name].fillna("-").tolist() == other[name].fillna("-").tolist()
    counts = labels["genre"].value_counts()
    assert len(counts) == 13 and counts["Pop_Rock"] == 79_937 and counts["New Age"] == 1_393
    assert labels["genre_minority"].notna().sum() == 35_527
    assert set(counts.index) == set(LABELS["cd1"].genres)


def test_a_file_without_comments_sorted_with_names_that_hold_a_space(cls):
    labels = read_whole(cls("TRB\tNew Age\tRnB\nTRA\tRock\n"))
    assert labels["track_id"].tolist() == ["TRA", "TRB"]
    assert labels["genre"].tolist() == ["Rock", "New Age"]
    assert labels["genre_minority"].isna().tolist() == [True, False]


def test_stray_blanks_do_not_count(cls):
    labels = read_whole(cls("TRA\tStage \n\nTRB\t New Age \tPop \nTRC\tRock\t\n"))
    assert labels["genre"].tolist() == ["Stage", "New Age", "Rock"]
    assert labels["genre_minority"].fillna("-").tolist() == ["-", "Pop", "-"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("TRB Rock", "spaces for tabs"),
        ("TRB New Age\tRock", "spaces for tabs"),
        ("TRB\t", "no genre"),
        ("TRB\t\tRock", "no genre"),
        ("TRB", "too few fields"),
        ("Rock\tTRB", "track id of the wrong form"),
        ("trb\tRock", "track id of the wrong form"),
        ("TRB\tRock\tPop\tFolk", "too many fields"),
        ("TRB\tRo\x1eck", "control byte"),
        ("TRB\tRo\0ck", "control byte"),
        ("TRB\tElektronic", "unknown genre"),
        ("TRB\trock", "unknown genre"),
        ("TRA\tRock", "repeated"),
        ("TRB\tR\xff", "not UTF-8"),
    ],
)
def test_a_row_that_is_none_costs_no_other_row(tmp_path, row, reason):
    path = tmp_path / "labels.cls"
    text = f"# comment\nTRA\tRock\n{row}\nTRC\tRock\n"
    path.write_bytes(text.encode("latin-1"))
    assert reasons(path) == ({3: reason}, ["TRA", "TRC"])


def test_a_track_with_two_genres_has_none(cls):
    path = cls("TRA\tRock\nTRB\tRock\nTRA\tPop\nTRC\tPop\nTRD\tPop\n")
    assert reasons(path) == ({1: "conflicting", 3: "conflicting"}, ["TRB", "TRC", "TRD"])
    path = cls("TRA\tRock\nTRB\tRock\nTRA\tRokk\n")  # no genre, so it contradicts none
    assert reasons(path) == ({3: "unknown genre"}, ["TRA", "TRB"])


def test_an_unknown_minority_genre_is_noted_and_left_out(cls):
    path = cls("TRA\tRock\tShuffle\nTRB\tRock\tPop\n")
    labels, aside = read_labels(path)
    assert labels["genre_minority"].fillna("-").tolist() == ["-", "Pop"]
    assert aside["reason"].tolist() == ["unknown minority genre"]
    assert read_whole(path, genres=None)["genre_minority"].tolist() == ["Shuffle", "Pop"]
    assert len(read_labels(cls("TRA\tRock\tShuffle\n"))[0]) == 1  # it is not lost


def test_genres_that_are_unknown_can_be_accepted(cls):
    path = cls("TRA\tSchlager\nTRB\tRock\nTRC\tSchlager\n")
    expected = r"labels\.cls: 2 of 3 .* line 1, unknown genre: 'TRA.*Schlager'.*genres: any"
    with pytest.raises(LabelError, match=expected):
        read_labels(path)
    assert len(read_whole(path, genres=None)) == len(read_whole(path, genres=["Schlager", "Rock"]))
    assert set(WRITEUP_GENRES) < set(known_genres()) and len(known_genres()) == 27


@pytest.mark.parametrize("last", ["TRC", "TRC\t", "TR", "TRC\tRo", "TRC\tPop", "Rock"])
def test_a_last_line_that_was_cut_off_is_set_aside(cls, last):
    path = cls(f"TRA\tPop_Rock\nTRB\tRock\n{last}")
    assert reasons(path, genres=None) == ({3: "cut off"}, ["TRA", "TRB"])


def test_a_whole_last_line_needs_no_newline(cls):
    assert len(read_whole(cls("TRA\tRock\nTRB\tRock"))) == 2


def test_files_without_a_row(cls, tmp_path):
    for content in ("# nothing\n", "", "\n\n"):
        with pytest.raises(LabelError, match=r"labels\.cls: no row in"):
            read_labels(cls(content))
    with pytest.raises(SourceError, match=r"no file .*tagtraum\.com"):
        read_labels(tmp_path / "missing.cls")


# Weak labels


def test_the_mapping_gives_genres_of_the_writeup():
    assert len(WRITEUP_GENRES) == len(set(WRITEUP_GENRES)) == 18
    allowed = set(WRITEUP_GENRES) - {"New", "Pop_Rock", "Vocal", "International"} | {"New Age"}
    assert set(_TERM_GENRES.values()) == set(_GENRE_TERMS) == allowed
    listed = [term for terms in _GENRE_TERMS.values() for term in terms.split(", ")]
    assert len(listed) == len(set(listed)), "a term stands under two genres"
    # The look-up changes a term's spelling, so the mapping must be spelled that way already.
    assert all(_term_genre(term) == genre for term, genre in _TERM_GENRES.items())


@pytest.mark.parametrize(
    ("term", "genre"),
    [
        ("Doo-Wop", "RnB"),
        ("rock 'n roll", "Rock"),
        ("r&b", "RnB"),
        ("rhythm and blues", "RnB"),
        ("country music", "Country"),
        ("soul jazz", "Jazz"),
        ("lovers rock", "Reggae"),
        ("melodic death metal", "Metal"),
        ("post-hardcore", "Punk"),
        ("happy hardcore", "Electronic"),
        ("gospel", None),
        ("music", None),
        ("", None),
    ],
)
def test_the_genre_of_a_term(term, genre):
    assert _term_genre(term) == genre


def terms(*rows):
    return pd.DataFrame(
        [(track, "AR", term, freq, weight) for track, term, freq, weight in rows],
        columns=_TERM_COLUMNS,
    )


def test_the_vote_is_the_sum_of_weight_times_frequency():
    table = terms(
        ("TRB", "rock", 1.0, 0.5),
        ("TRB", "acid jazz", 0.5, 0.6),
        ("TRB", "bebop", 0.5, 0.5),
        ("TRA", "rock", 1.0, 0.5),
        ("TRA", "acid jazz", 0.5, 0.6),
    )
    labels = weak_labels(table)
    assert labels.to_dict("list") == {
        "track_id": ["TRA", "TRB"],
        "genre": ["Rock", "Jazz"],
        "genre_source": ["artist_terms", "artist_terms"],
    }
    shuffled = table.sample(frac=1, random_state=3)
    assert weak_labels(shuffled).equals(labels)


def test_ties_and_tracks_without_a_genre():
    table = terms(
        ("TRA", "rock", 0.5, 1.0),
        ("TRA", "jazz", 1.0, 0.5),
        ("TRB", "california", 1.0, 1.0),
        ("TRC", "jazz", 1.0, 0.0),
        ("TRD", "jazz", np.nan, 1.0),
    )
    assert weak_labels(table)["genre"].tolist() == ["Jazz"]
    assert weak_labels(terms()).empty
    with pytest.raises(LabelError, match="terms without freq"):
        weak_labels(table.drop(columns="freq"))


def test_weak_labels_of_real_songs(real_msd):
    songs = [read_song(path, terms=True).metadata for path in _find_songs(real_msd / "data")]
    table = pd.DataFrame(
        [
            (song["track_id"], song["artist_id"], *term)
            for song in songs
            for term in song["artist_terms"]
        ],
        columns=_TERM_COLUMNS,
    )
    known = table["term"].map(_term_genre).notna()
    assert known.mean() > 0.6
    weak = weak_labels(table).set_index("track_id")["genre"]
    assert len(weak) == len(songs)
    labels, _ = read_labels(real_msd / "tagtraum" / "msd_tagtraum_cd1.cls")
    cd1 = labels.set_index("track_id")["genre"]
    one_class = dict.fromkeys(["Rock", "Pop", "Metal", "Punk"], "Pop_Rock")
    both = pd.DataFrame({"weak": weak.replace(one_class), "cd1": cd1.reindex(weak.index)}).dropna()
    assert len(both) == 460
    # Always answering Pop_Rock is right for 63 % of them.
    assert (both["weak"] == both["cd1"]).mean() > 0.8
