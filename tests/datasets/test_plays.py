"""Triplets and lists as plain readers read them, rows set aside, and the counts."""

import numpy as np
import pytest

from msd_genre.datasets.plays import (
    _MAX_PLAYS,
    PlaysError,
    bin_edges,
    cumulative_plays,
    play_bins,
    play_counts,
    play_matrix,
    read_mismatches,
    read_triplets,
    read_unique_tracks,
)  # fmt: skip
from msd_genre.files.text import _SET_ASIDE
from msd_genre.workspace.paths import SourceError

ROWS = "ann\tSOA1\t5\nbob\tSOA1\t1\nbob\tSOB2\t12\n"


@pytest.fixture
def text(tmp_path):
    def write(content, name="lines.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8"))
        return path

    return write


def read_whole(read, *arguments):
    """What a reader gives where nothing may be set aside."""
    table, aside = read(*arguments)
    assert aside.empty and list(aside.columns) == _SET_ASIDE
    return table


def reasons(aside):
    return dict(zip(aside["line"], aside["reason"], strict=True))


# Triplets


def test_real_triplets_read_as_a_plain_reader_reads_them(real_msd):
    names = ["train_triplets.txt", "kaggle_visible_evaluation_triplets.txt"]
    paths = [real_msd / "taste_profile" / name for name in names]
    triplets = read_whole(read_triplets, paths)
    lines = [line for path in paths for line in path.read_text().split("\n") if line]
    users, songs, plays = zip(*(line.split("\t") for line in lines), strict=True)
    assert len(triplets) == 42_739 + 2_023
    assert triplets["user"].tolist() == list(users)
    assert triplets["song_id"].tolist() == list(songs)
    assert triplets["plays"].tolist() == [int(n) for n in plays]


def test_counts_of_real_songs_by_hand(real_msd):
    path = real_msd / "taste_profile" / "train_triplets.txt"
    triplets, counts = read_whole(read_triplets, [path]), read_whole(play_counts, [path])
    assert counts["plays"].sum() == triplets["plays"].sum()
    assert counts["listeners"].sum() == len(triplets)
    assert counts["song_id"].is_monotonic_increasing and counts["song_id"].is_unique
    most = counts.loc[counts["plays"].idxmax()]
    rows = triplets[triplets["song_id"] == most["song_id"]]
    assert most["plays"] == rows["plays"].sum() and most["listeners"] == rows["user"].nunique()


def test_types_line_ends_and_empty_lines(text):
    triplets = read_whole(read_triplets, [text(ROWS.replace("\n", "\r\n") + "\r\n")])
    assert triplets["plays"].dtype == np.int32
    assert triplets["user"].dtype == "category" and triplets["song_id"].dtype == "category"
    assert triplets["song_id"].tolist() == ["SOA1", "SOA1", "SOB2"]


def test_quotes_blanks_and_names_of_nothing_are_names(text):
    users = ['"ann', 'b"ob', "NA", "null", " cat ", "\\", "día"]
    triplets = read_whole(read_triplets, [text("".join(f"{u}\tSOA1\t1\n" for u in users))])
    assert triplets["user"].tolist() == users


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("cat\tSOA1", "too few fields"),
        ("cat\tSOA1\t", "too few fields"),
        ("\tSOA1\t3", "too few fields"),
        ("cat\tSOA1\t3\t4", "too many fields"),
        ("cat SOA1 3", "spaces for tabs"),
        ("cat\tSOA1\tfive", "not a number"),
        ("cat\tSOA1\t2.5", "not a number"),
        ("cat\tSOA1\t 2", "not a number"),
        ("cat\tSOA1\t+2", "not a number"),
        ("cat\tSOA1\t0x2", "not a number"),
        ("cat\tSOA1\t0", "count of 0"),
        ("cat\tSOA1\t000", "count of 0"),
        ("cat\tSOA1\t-3", "negative count"),
        (f"cat\tSOA1\t{_MAX_PLAYS + 1}", "implausible count"),
        (f"cat\tSOA1\t{10**12}", "implausible count"),
        ("cat\tTRA1\t3", "song id of the wrong form"),
        ("cat\tsoa1\t3", "song id of the wrong form"),
        ("c\rat\tSOA1\t3", "control byte"),
        ("c\0at\tSOA1\t3", "control byte"),
        ("c\xffat\tSOA1\t3", "not UTF-8"),
        ("bob\tSOA1\t9", "repeated"),
    ],
)
@pytest.mark.parametrize("before", [ROWS, "\n" + ROWS])
def test_a_row_with_a_fault_costs_no_other_row(tmp_path, before, row, reason):
    path = tmp_path / "lines.txt"
    path.write_bytes(f"{before}{row}\nzoe\tSOC3\t007\n".encode("latin-1"))
    triplets, aside = read_triplets([path])
    assert triplets["plays"].tolist() == [5, 1, 12, 7]
    assert aside.drop(columns="found").to_numpy().tolist() == [
        ["lines.txt", before.count("\n") + 1, reason]
    ]


def test_the_largest_count_is_one(text):
    assert read_whole(read_triplets, [text(f"a\tSOA1\t{_MAX_PLAYS}\n")])["plays"][0] == _MAX_PLAYS


def test_a_fault_of_the_second_file_names_that_file(text):
    good, bad = text(ROWS), text("cat\tSOA1\n", "second.txt")
    with pytest.raises(PlaysError, match=r"second\.txt: 1 of 1 rows .* line 1, too few fields"):
        read_triplets([good, bad])


def test_a_cut_download_loses_its_last_row_and_nothing_else(text):
    for length in range(ROWS.index("bob\tSOB2") + 1, len(ROWS)):
        triplets, aside = read_triplets([text(ROWS[:length])])
        assert triplets["plays"].tolist() == [5, 1] and reasons(aside) == {3: "cut off"}
    assert read_whole(read_triplets, [text(ROWS)])["plays"].tolist() == [5, 1, 12]


def test_a_file_appended_to_itself_counts_once(text):
    counts, aside = play_counts([text(ROWS + ROWS)])
    assert counts.equals(read_whole(play_counts, [text(ROWS)]))
    assert reasons(aside) == dict.fromkeys([4, 5, 6], "repeated")
    assert aside["found"][0] == r"ann\tSOA1\t5"


def test_no_file_and_no_rows(text, tmp_path):
    with pytest.raises(SourceError, match=r"no file .*missing\.txt; .*tasteprofile"):
        read_triplets([tmp_path / "missing.txt"])
    with pytest.raises(PlaysError, match="no triplet file"):
        read_triplets([])
    with pytest.raises(PlaysError, match="no row in 0 lines"):
        read_triplets([text("")])


def test_one_listener_in_two_files_is_one(text):
    paths = [text(ROWS), text("bob\tSOA1\t2\ncat\tSOA1\t1\n", "more.txt")]
    counts, aside = play_counts(paths)
    assert counts.to_dict("list") == {
        "song_id": ["SOA1", "SOB2"],
        "plays": [7, 12],
        "listeners": [3, 1],
    }
    assert counts["song_id"].dtype == "str"
    assert counts["plays"].dtype == counts["listeners"].dtype == np.int64
    assert aside.iloc[0].tolist() == ["more.txt", 1, "repeated", r"bob\tSOA1\t2"]


def test_counts_that_are_made_piece_by_piece(text, monkeypatch):
    rows = "".join(f"u{i}\tSO{i % 7}\t{i + 1}\n" for i in range(100))
    whole = read_whole(play_counts, [text(rows)])
    monkeypatch.setattr("msd_genre.datasets.plays._ROWS_AT_ONCE", 13)
    assert read_whole(play_counts, [text(rows)]).equals(whole)
    assert whole["plays"].sum() == sum(range(1, 101)) and whole["listeners"].sum() == 100


# Lists


def test_real_mismatches(real_msd):
    path = real_msd / "AdditionalFiles" / "sid_mismatches.txt"
    pairs = read_whole(read_mismatches, path)
    assert len(pairs) == 19_094
    ids = [line.split(b">")[0].split(b"<")[1] for line in path.read_bytes().split(b"\n") if line]
    assert [f"{song} {track}".encode() for song, track in pairs.to_numpy()] == ids


@pytest.mark.parametrize(
    ("name", "n_tracks"), [("unique_tracks.txt", 5_000), ("subset_unique_tracks.txt", 10_000)]
)
def test_real_unique_tracks(real_msd, name, n_tracks):
    path = real_msd / "AdditionalFiles" / name
    tracks = read_whole(read_unique_tracks, path)
    assert len(tracks) == n_tracks and tracks["track_id"].is_unique
    lines = path.read_bytes().decode("utf-8").split("\n")[:-1]
    assert ["<SEP>".join(row) for row in tracks.to_numpy()] == lines


def test_lines_end_at_newlines_alone(text):
    path = text("ERROR: <SOA1 TRC3> One\x1cTwo\x85  !=  \u2028Three\nERROR: <SOB2 TRD4> a  !=  b\n")
    pairs = read_whole(read_mismatches, path)
    assert pairs.to_numpy().tolist() == [["SOA1", "TRC3"], ["SOB2", "TRD4"]]


def test_names_may_be_empty_and_hold_anything(text):
    tracks = read_whole(read_unique_tracks, text("TRA1<SEP>SOA1<SEP><SEP>A <tab>\t,\x1d\r\n"))
    assert tracks.to_numpy().tolist() == [["TRA1", "SOA1", "", "A <tab>\t,\x1d"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ERROR: <TRC3 SOA1> a != b", "id of the wrong form"),
        ("<SOA1 TRC3>", "too few fields"),
        ("SOA1 TRC3", "too few fields"),
        ("ERROR: <SOA1 TRC3> a != \0", "control byte"),
        ("ERROR: <SOA1 TRC3> a != \xff", "not UTF-8"),
    ],
)
def test_a_line_that_is_no_mismatch(tmp_path, line, reason):
    path = tmp_path / "lines.txt"
    path.write_bytes(f"ERROR: <SOA1 TRC3> a != b\n{line}\n".encode("latin-1"))
    pairs, aside = read_mismatches(path)
    assert len(pairs) == 1 and reasons(aside) == {2: reason}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("TRA1<SEP>SOA1<SEP>Nobody", "too few fields"),
        ("SOA1<SEP>TRA1<SEP>a<SEP>b", "id of the wrong form"),
        ("TRA2<SEP>SOA1<SEP>a<SEP>b<SEP>c", "too many fields"),
        ("TRA1<SEP>SOA1<SEP>a<SEP>other", "repeated"),
        ("TRA2<SEP>SOA1<SEP>caf\xe9<SEP>b", "not UTF-8"),
    ],
)
def test_a_line_that_is_no_track(tmp_path, line, reason):
    path = tmp_path / "lines.txt"
    path.write_bytes(f"TRA1<SEP>SOA1<SEP>a<SEP>b\n{line}\n".encode("latin-1"))
    tracks, aside = read_unique_tracks(path)
    assert tracks["track_id"].tolist() == ["TRA1"] and reasons(aside) == {2: reason}


def test_a_track_of_two_songs_is_none(text):
    rows = ["TRA1<SEP>SOA1", "TRB2<SEP>SOB2", "TRA1<SEP>SOC3", "TRD4<SEP>SOD4"]
    tracks, aside = read_unique_tracks(text("".join(f"{row}<SEP>a<SEP>b\n" for row in rows)))
    assert tracks["track_id"].tolist() == ["TRB2", "TRD4"]
    assert reasons(aside) == {1: "conflicting", 3: "conflicting"}


def test_lists_that_were_cut_off_or_are_missing(text, tmp_path):
    pairs, aside = read_mismatches(text("ERROR: <SOA1 TRC3> a != b\nERROR: <SOA1 TRC3> a !="))
    assert len(pairs) == 1 and reasons(aside) == {2: "cut off"}
    for read in (read_mismatches, read_unique_tracks):
        with pytest.raises(SourceError, match=r"missing\.txt; http"):
            read(tmp_path / "missing.txt")


# Users by songs


def test_a_matrix_holds_the_triplets(text):
    triplets = read_whole(read_triplets, [text(ROWS)])
    matrix = play_matrix(triplets)
    assert matrix.users.tolist() == ["ann", "bob"] and matrix.songs.tolist() == ["SOA1", "SOB2"]
    assert matrix.counts.toarray().tolist() == [[5, 0], [1, 12]]
    assert matrix.plays.tolist() == [6, 12]
    assert matrix.dropped.to_numpy().tolist() == [["mismatched", 0, 0, 0, 0]]


def test_what_has_too_few_goes_until_nothing_has(text):
    """SOC3 goes for its one play, then cat for the one song that is left, then SOE5 without cat."""
    rows = "ann\tSOA1\t5\nann\tSOB2\t1\nbob\tSOA1\t1\nbob\tSOB2\t12\nbob\tSOE5\t1\n"
    rows += "cat\tSOC3\t1\ncat\tSOE5\t3\ndan\tSOD4\t50\n"
    triplets = read_whole(read_triplets, [text(rows)])
    matrix = play_matrix(triplets, mismatched=["SOD4", "SONONE"], min_plays=2, min_songs=2)
    assert matrix.users.tolist() == ["ann", "bob"] and matrix.songs.tolist() == ["SOA1", "SOB2"]
    assert matrix.counts.toarray().tolist() == [[5, 1], [1, 12]]
    assert matrix.dropped.to_numpy().tolist() == [
        ["mismatched", 1, 0, 1, 50], ["few plays", 2, 0, 2, 2], ["few songs", 0, 2, 1, 3]
    ]  # fmt: skip


def test_a_matrix_without_anything_is_an_error(text):
    triplets = read_whole(read_triplets, [text(ROWS)])
    with pytest.raises(PlaysError, match="none of 3 triplets is left with min_plays 99"):
        play_matrix(triplets, min_plays=99)
    with pytest.raises(PlaysError, match="none of 3 triplets"):
        play_matrix(triplets, mismatched=["SOA1", "SOB2"])
    with pytest.raises(PlaysError, match="1 or more"):
        play_matrix(triplets, min_songs=0)


def test_mismatched_real_songs_are_taken_out_and_counted(real_msd):
    triplets = read_whole(read_triplets, [real_msd / "taste_profile" / "train_triplets.txt"])
    listed = read_whole(read_mismatches, real_msd / "AdditionalFiles" / "sid_mismatches.txt")
    wrong = triplets["song_id"].isin(set(listed["song_id"]))
    matrix = play_matrix(triplets, listed["song_id"])
    gone = matrix.dropped.set_index("step").loc["mismatched"]
    assert wrong.sum() == gone["triplets"] > 1000
    assert triplets["song_id"][wrong].nunique() == gone["songs"]
    assert not set(matrix.songs) & set(listed["song_id"])
    counts = triplets[~wrong].astype({"song_id": "str"}).groupby("song_id")["plays"].sum()
    assert matrix.plays.tolist() == counts.sort_index().tolist()


def test_bins_begin_where_a_tenth_of_the_songs_does():
    plays = np.random.default_rng(0).permutation(np.arange(1, 1001)) ** 2
    edges = bin_edges(plays)
    assert edges.tolist() == [(100 * i + 1) ** 2 for i in range(10)]
    assert np.bincount(play_bins(plays, edges)).tolist() == [100] * 10
    assert play_bins(np.array([0, 1, 10**9]), edges).tolist() == [0, 0, 9]
    with pytest.raises(PlaysError, match="9 songs for 10 bins"):
        bin_edges(plays[:9])


def test_cumulative_plays_by_hand():
    table = cumulative_plays(np.array([1, 6, 3]), n_points=4)
    assert table["songs"].tolist() == [0, 1, 2, 3]
    assert table["plays_share"].tolist() == pytest.approx([0, 0.6, 0.9, 1])
