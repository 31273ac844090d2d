"""Song files: values as PyTables reads them, the written format, and every kind of broken file."""

import pickle

import h5py
import numpy as np
import pytest

from msd_genre.songs import (
    METADATA_FIELDS,
    SEGMENT_ARRAYS,
    Segments,
    SongError,
    create_song_file,
    describe_layout,
    find_songs,
    read_metadata,
    read_segments,
    song_layout,
    validate_segments,
    write_rows,
)
from msd_genre.sources import SourceError

N_SEGMENTS = 40


@pytest.fixture
def arrays():
    rng = np.random.default_rng(7)
    return {
        "segments_start": np.cumsum(rng.uniform(0.1, 0.4, N_SEGMENTS)),
        "segments_pitches": rng.uniform(size=(N_SEGMENTS, 12)),
        "segments_timbre": rng.normal(scale=80, size=(N_SEGMENTS, 12)),
    }


def write_song(path, arrays):
    """A whole song file of the real format, every text field filled to its last byte."""
    with create_song_file(path) as file:
        for name, rows in arrays.items():
            write_rows(file["analysis"][name], rows)
        for table in ("analysis/songs", "metadata/songs", "musicbrainz/songs"):
            row = np.zeros(1, file[table].dtype)
            for number, field in enumerate(row.dtype.names, start=1):
                kind = row.dtype[field]
                row[field] = b"x" * kind.itemsize if kind.kind == "S" else number
            write_rows(file[table], row)
        write_rows(file["metadata/artist_terms"], np.array([b"t" * 256, "é".encode()], "S256"))
        write_rows(file["metadata/artist_terms_freq"], np.array([1.0, 0.25]))
        write_rows(file["metadata/artist_terms_weight"], np.array([0.5, 1.0]))
    return path


@pytest.fixture
def song(tmp_path, arrays):
    return write_song(tmp_path / "TRSONGA128F0000001.h5", arrays)


def reason(path):
    """Why both readers refuse a file: they must agree."""
    reasons = []
    for read in (read_metadata, read_segments):
        with pytest.raises(SongError) as caught:
            read(path)
        assert caught.value.path == path
        assert path.name in str(caught.value)
        reasons.append(caught.value.reason)
    assert reasons[0] == reasons[1]
    return reasons[0]


# Real songs beside an independent reader


def test_real_songs_read_as_pytables_reads_them(real_msd):
    tables = pytest.importorskip("tables")
    paths = find_songs(real_msd / "data")
    assert len(paths) == 700
    for path in paths:
        song, segments = read_metadata(path, terms=True), read_segments(path)
        with tables.open_file(str(path)) as file:
            for name, (table, field) in METADATA_FIELDS.items():
                value = file.get_node(f"/{table}").col(field)[0]
                value = value.decode("utf-8") if isinstance(value, bytes) else value.item()
                if name == "year":
                    value = value or None
                assert song[name] == value or (song[name] != song[name] and value != value)
                assert type(song[name]) is type(value)
            for mine, theirs in zip(
                (segments.start_s, segments.chroma, segments.timbre), SEGMENT_ARRAYS, strict=True
            ):
                theirs = file.get_node(f"/analysis/{theirs}")[:]
                assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs)
            terms = [term.decode() for term in file.root.metadata.artist_terms[:]]
            freq = file.root.metadata.artist_terms_freq[:]
            weight = file.root.metadata.artist_terms_weight[:]
        assert song["artist_terms"] == list(zip(terms, freq, weight, strict=True))
        assert song["n_segments"] == len(segments.start_s)
        assert song["track_id"] == path.stem


def test_real_files_have_the_committed_layout(real_msd):
    expected = song_layout()
    assert all(describe_layout(path) == expected for path in find_songs(real_msd / "data")[::20])


def test_real_files_that_are_no_songs(real_msd):
    folder = real_msd.parent / "broken_songs"
    if not folder.is_dir():
        pytest.skip("no folder broken_songs beside the real songs")
    for path in find_songs(folder):
        assert reason(path).startswith("no group analysis")


# The format


def test_a_written_song_has_the_layout_and_keeps_full_text_fields(song):
    tables = pytest.importorskip("tables")
    assert describe_layout(song) == song_layout()
    read = read_metadata(song, terms=True)
    assert read["title"] == "x" * 1024 and read["song_id"] == "x" * 32
    assert read["artist_terms"] == [("t" * 256, 1.0, 0.5), ("é", 0.25, 1.0)]
    with tables.open_file(str(song)) as file:
        assert file.root.metadata.songs.cols.title[0] == b"x" * 1024
        assert file.root.analysis.segments_pitches.shape == (N_SEGMENTS, 12)
        assert isinstance(file.root.metadata.artist_terms, tables.EArray)


def test_the_description_sees_a_change(song):
    with h5py.File(song, "r+") as file:
        del file["musicbrainz/songs"]
        file.create_dataset("musicbrainz/songs", data=np.zeros(1, [("year", "<i4")]))
        file.attrs["TITLE"] = np.bytes_("H5 Song File")
    changed = describe_layout(song)
    assert changed["/"]["attributes"]["TITLE"]["type"] == "S12 padding 1"
    assert changed["/musicbrainz/songs"] != song_layout()["/musicbrainz/songs"]


def test_the_same_song_is_the_same_bytes(tmp_path, arrays):
    first, second = (write_song(tmp_path / f"TR{i}.h5", arrays) for i in (1, 2))
    assert first.read_bytes() == second.read_bytes()


# Where songs are found


def test_songs_are_sorted_by_track_at_any_depth(tmp_path):
    for name in ("B/TRB.h5", "A/Z/Z/TRC.h5", "TRA.h5", "AdditionalFiles/summary.h5"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [path.stem for path in find_songs(tmp_path)] == ["TRA", "TRB", "TRC"]


def test_no_songs_is_an_error_that_says_where_it_looked(tmp_path):
    with pytest.raises(SourceError, match=f"below {tmp_path}.*MSD_GENRE_DATA"):
        find_songs(tmp_path)


# Files that are no song


def test_missing_empty_and_foreign_files(tmp_path):
    path = tmp_path / "TRX.h5"
    assert "no such file" in reason(path)
    path.touch()
    assert reason(path) == "empty file"
    path.write_text("<html>404</html>")
    assert reason(path) == "not an HDF5 file"


def test_a_song_cut_off_anywhere_is_truncated(song, tmp_path):
    whole, cut = song.read_bytes(), tmp_path / "TRCUT.h5"
    for length in (8, 20, 100, 600, 5_000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert reason(cut).startswith("truncated")


def test_a_group_or_an_array_is_missing(song):
    with h5py.File(song, "r+") as file:
        del file["analysis/segments_timbre"]
    assert reason(song) == "no array analysis/segments_timbre"
    with h5py.File(song, "r+") as file:
        del file["analysis"]
    assert reason(song) == "no group analysis; found ['metadata', 'musicbrainz']"


def test_arrays_of_unequal_length_are_all_named(tmp_path, arrays):
    arrays["segments_pitches"] = arrays["segments_pitches"][:-3]
    assert reason(write_song(tmp_path / "TRX.h5", arrays)) == (
        "arrays of unequal length: segments_start 40, segments_pitches 37, segments_timbre 40"
    )


def test_no_segments_at_all(tmp_path, arrays):
    none = {name: rows[:0] for name, rows in arrays.items()}
    assert reason(write_song(tmp_path / "TRX.h5", none)).startswith("no segments")


@pytest.mark.parametrize("data", [np.zeros((N_SEGMENTS, 11)), np.full((N_SEGMENTS, 12), b"?"), 1.0])
def test_an_array_of_another_shape_or_type(song, data):
    with h5py.File(song, "r+") as file:
        del file["analysis/segments_timbre"]
        file["analysis/segments_timbre"] = data
    assert "expected shape ('N', 12) of floats" in reason(song)


def test_a_damaged_chunk_is_found_when_it_is_read(song):
    with h5py.File(song) as file:
        chunk = file["analysis/segments_timbre"].id.get_chunk_info(0)
    damaged = bytearray(song.read_bytes())
    damaged[chunk.byte_offset : chunk.byte_offset + 200] = bytes(200)
    song.write_bytes(damaged)
    assert read_metadata(song)["n_segments"] == N_SEGMENTS
    with pytest.raises(SongError, match="damaged HDF5"):
        read_segments(song)


@pytest.mark.parametrize(
    ("table", "data", "expected"),
    [
        ("musicbrainz/songs", np.zeros(1, [("idx", "<i4")]), "no field year in musicbrainz/songs"),
        ("musicbrainz/songs", np.zeros(0, [("year", "<i4")]), r"shape \(0,\), expected one row"),
        ("metadata/songs", np.zeros(3), "no field artist_familiarity, .* in metadata/songs"),
    ],
)
def test_a_table_without_its_row_or_a_field(song, table, data, expected):
    with h5py.File(song, "r+") as file:
        del file[table]
        file[table] = data
    with pytest.raises(SongError, match=expected):
        read_metadata(song)
    assert len(read_segments(song).start_s) == N_SEGMENTS


def test_terms_of_unequal_length(song):
    with h5py.File(song, "r+") as file:
        file["metadata/artist_terms_freq"].resize(1, axis=0)
    with pytest.raises(SongError, match="unequal length: 2, 1, 2"):
        read_metadata(song, terms=True)
    assert "artist_terms" not in read_metadata(song)


def test_text_that_is_not_utf8_keeps_the_song(song):
    with h5py.File(song, "r+") as file:
        row = file["metadata/songs"][:]
        row["title"] = b"caf\xe9"
        write_rows(file["metadata/songs"], row)
    assert read_metadata(song)["title"] == "caf\ufffd"


# Values that no analysis gives


@pytest.mark.parametrize(
    ("name", "row", "value", "expected"),
    [
        ("segments_pitches", 3, 1.01, "chroma from .* to 1.01, expected 0 to 1"),
        ("segments_pitches", 3, -0.5, "chroma from -0.5"),
        ("segments_timbre", 0, np.nan, "timbre holds values that are not finite"),
        ("segments_start", 5, np.inf, "start_s holds values that are not finite"),
        ("segments_start", 5, 0.0, "do not rise"),
        ("segments_start", 0, -0.1, "do not rise"),
    ],
)
def test_impossible_values(tmp_path, arrays, name, row, value, expected):
    arrays[name][row] = value
    path = write_song(tmp_path / "TRX.h5", arrays)
    with pytest.raises(SongError, match=expected):
        read_segments(path)


def test_segments_that_do_not_fit_together():
    with pytest.raises(SongError, match="arrays of shapes") as caught:
        validate_segments(Segments(np.arange(3.0), np.zeros((3, 12)), np.zeros((2, 12))))
    assert caught.value.path is None


def test_a_song_error_travels_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(SongError(tmp_path / "TRX.h5", "empty file")))
    assert (error.path, error.reason) == (tmp_path / "TRX.h5", "empty file")
    assert str(error) == "TRX.h5: empty file"
