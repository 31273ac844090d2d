"""Triplets and lists as plain readers read them, malformed and cut lines, and the counts."""

import warnings

import numpy as np
import pandas as pd
import pytest

from msd_genre.plays import (
    PlaysError,
    play_counts,
    read_mismatches,
    read_triplets,
    read_unique_tracks,
)
from msd_genre.sources import SourceError

ROWS = "ann\tSOA1\t5\nbob\tSOA1\t1\nbob\tSOB2\t12\n"


@pytest.fixture
def text(tmp_path):
    def write(content, name="lines.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8"))
        return path

    return write


# Triplets


def test_real_triplets_read_as_a_plain_reader_reads_them(real_msd):
    names = ["train_triplets.txt", "kaggle_visible_evaluation_triplets.txt"]
    paths = [real_msd / "taste_profile" / name for name in names]
    triplets = read_triplets(paths)
    lines = [line for path in paths for line in path.read_text().split("\n") if line]
    users, songs, plays = zip(*(line.split("\t") for line in lines), strict=True)
    assert len(triplets) == 42_739 + 2_023
    assert triplets["user"].tolist() == list(users)
    assert triplets["song_id"].tolist() == list(songs)
    assert triplets["plays"].tolist() == [int(n) for n in plays]


def test_counts_of_real_songs_by_hand(real_msd):
    triplets = read_triplets([real_msd / "taste_profile" / "train_triplets.txt"])
    counts = play_counts(triplets)
    assert counts["plays"].sum() == triplets["plays"].sum()
    assert counts["listeners"].sum() == len(triplets)
    assert counts["song_id"].is_monotonic_increasing and counts["song_id"].is_unique
    most = counts.loc[counts["plays"].idxmax()]
    rows = triplets[triplets["song_id"] == most["song_id"]]
    assert most["plays"] == rows["plays"].sum() and most["listeners"] == rows["user"].nunique()


def test_types_line_ends_and_empty_lines(text):
    triplets = read_triplets([text(ROWS.replace("\n", "\r\n") + "\r\n")])
    assert triplets["plays"].dtype == np.int64
    assert triplets["user"].dtype == "category" and triplets["song_id"].dtype == "category"
    assert triplets["song_id"].tolist() == ["SOA1", "SOA1", "SOB2"]


def test_quotes_are_no_quotes(text):
    triplets = read_triplets([text('"ann\tSOA1\t5\nb"ob\tSOA1\t1\n')])
    assert triplets["user"].tolist() == ['"ann', 'b"ob']


@pytest.mark.parametrize(
    "row",
    [
        "cat\tSOA1",
        "cat\tSOA1\t",
        "cat\tSOA1\tfive",
        "cat\tSOA1\t2.5",
        "cat\tSOA1\t0",
        "cat\tSOA1\t-3",
        "cat\tTRA1\t3",
        "\tSOA1\t3",
        "cat SOA1 3",
        "cat\tSOA1\t3\t4",
    ],
)
@pytest.mark.parametrize("before", [ROWS, "\n" + ROWS])
def test_a_malformed_row_is_named_with_its_line(text, row, before):
    path = text(f"{before}{row}\n{ROWS}")
    number = before.count("\n") + 1
    with pytest.raises(PlaysError, match=f"line {number}: expected `user<TAB>song id") as caught:
        read_triplets([path])
    assert str(path) in str(caught.value) and repr(row) in str(caught.value)


def test_a_fault_of_the_second_file_names_that_file(text):
    good, bad = text(ROWS), text("cat\tSOA1\n", "second.txt")
    with pytest.raises(PlaysError, match=r"second\.txt, line 1"):
        read_triplets([good, bad])


def test_a_cut_download_loses_its_last_row_and_nothing_else(text):
    for length in range(ROWS.index("bob\tSOB2") + 1, len(ROWS)):
        path = text(ROWS[:length])
        with pytest.warns(UserWarning, match="ends within its last line"):
            triplets = read_triplets([path])
        assert triplets["plays"].tolist() == [5, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_triplets([text(ROWS)])["plays"].tolist() == [5, 1, 12]


def test_no_file_no_rows_no_text(text, tmp_path):
    with pytest.raises(SourceError, match=r"no file .*missing\.txt; .*tasteprofile"):
        read_triplets([tmp_path / "missing.txt"])
    with pytest.raises(PlaysError, match="no triplet file"):
        read_triplets([])
    with pytest.raises(PlaysError, match="expected lines"):
        read_triplets([text("")])
    path = tmp_path / "latin.txt"
    path.write_bytes(b"\xff\tSOA1\t3\n")
    with pytest.raises(PlaysError, match="UTF8"):
        read_triplets([path])


def test_one_listener_in_two_files_is_one(text):
    triplets = read_triplets([text(ROWS), text("bob\tSOA1\t2\ncat\tSOA1\t1\n", "more.txt")])
    counts = play_counts(triplets)
    assert counts.to_dict("list") == {
        "song_id": ["SOA1", "SOB2"],
        "plays": [9, 12],
        "listeners": [3, 1],
    }
    assert counts["song_id"].dtype == "str"
    assert play_counts(triplets[triplets["song_id"] == "SOB2"])["song_id"].tolist() == ["SOB2"]


def test_counts_of_a_table_made_elsewhere():
    table = pd.DataFrame({"user": ["a", "b"], "song_id": ["SOA", "SOA"], "plays": [1, 2]})
    assert play_counts(table).values.tolist() == [["SOA", 3, 2]]


# Lists


def test_real_mismatches(real_msd):
    path = real_msd / "AdditionalFiles" / "sid_mismatches.txt"
    pairs = read_mismatches(path)
    assert len(pairs) == 19_094
    ids = [line.split(b">")[0].split(b"<")[1] for line in path.read_bytes().split(b"\n") if line]
    assert [f"{song} {track}".encode() for song, track in pairs.to_numpy()] == ids


@pytest.mark.parametrize(
    ("name", "n_tracks"), [("unique_tracks.txt", 5_000), ("subset_unique_tracks.txt", 10_000)]
)
def test_real_unique_tracks(real_msd, name, n_tracks):
    path = real_msd / "AdditionalFiles" / name
    tracks = read_unique_tracks(path)
    assert len(tracks) == n_tracks and tracks["track_id"].is_unique
    lines = path.read_bytes().decode("utf-8").split("\n")[:-1]
    assert ["<SEP>".join(row) for row in tracks.to_numpy()] == lines


def test_lines_end_at_newlines_alone(text):
    path = text("ERROR: <SOA1 TRC3> One\x1cTwo\x85  !=  \u2028Three\nERROR: <SOB2 TRD4> a  !=  b\n")
    assert read_mismatches(path).to_numpy().tolist() == [["SOA1", "TRC3"], ["SOB2", "TRD4"]]


def test_names_may_be_empty_and_hold_anything(text):
    tracks = read_unique_tracks(text("TRA1<SEP>SOA1<SEP><SEP>A <tab>\t,\x1d\r\n"))
    assert tracks.to_numpy().tolist() == [["TRA1", "SOA1", "", "A <tab>\t,\x1d"]]


@pytest.mark.parametrize("line", ["ERROR: <TRC3 SOA1> a != b", "<SOA1 TRC3>", "SOA1 TRC3"])
def test_a_malformed_mismatch(text, line):
    with pytest.raises(PlaysError, match=r"line 2: expected `ERROR: <SO\.\.\. TR\.\.\.>"):
        read_mismatches(text(f"ERROR: <SOA1 TRC3> a != b\n{line}\n"))


@pytest.mark.parametrize(
    "line",
    ["TRA1<SEP>SOA1<SEP>Nobody", "SOA1<SEP>TRA1<SEP>a<SEP>b", "TRA1<SEP>SOA1<SEP>a<SEP>b<SEP>c"],
)
def test_a_malformed_track(text, line):
    with pytest.raises(PlaysError, match="line 2: expected `track id"):
        read_unique_tracks(text(f"TRA1<SEP>SOA1<SEP>a<SEP>b\n{line}\n"))


def test_lists_that_were_cut_off_or_are_missing(text, tmp_path):
    with pytest.warns(UserWarning, match="ends within its last line"):
        pairs = read_mismatches(text("ERROR: <SOA1 TRC3> a != b\nERROR: <SOA1 TRC3> a !="))
    assert len(pairs) == 1
    for read in (read_mismatches, read_unique_tracks):
        with pytest.raises(SourceError, match=r"missing\.txt; http"):
            read(tmp_path / "missing.txt")
    path = tmp_path / "latin.txt"
    path.write_bytes(b"TRA1<SEP>SOA1<SEP>a<SEP>b\nTRA2<SEP>SOA1<SEP>caf\xe9<SEP>b\n")
    with pytest.raises(PlaysError, match="line 2: expected text in UTF-8"):
        read_unique_tracks(path)
