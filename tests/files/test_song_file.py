"""Song files: values as PyTables reads them, the written format, and every kind of broken file."""

import os
import pickle
import traceback

import h5py
import numpy as np
import pytest
from describe_song_layout import describe_layout

from msd_genre.files import hdf5, hdf5_bytes, song_file, song_schema
from msd_genre.files.song_file import read_song
from msd_genre.files.song_schema import (
    _SEGMENT_ARRAYS,
    METADATA_FIELDS,
    Segments,
    SongError,
    _song_bytes,
    _song_layout,
    _validate_segments,
)  # fmt: skip
from msd_genre.files.song_sources import _find_songs

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
    rows = {f"/analysis/{name}": values for name, values in arrays.items()} | {
        "/metadata/artist_terms": np.array([b"t" * 256, "é".encode()], "S256"),
        "/metadata/artist_terms_freq": np.array([1.0, 0.25]),
        "/metadata/artist_terms_weight": np.array([0.5, 1.0]),
    }
    fields = {}
    for table in ("analysis/songs", "metadata/songs", "musicbrainz/songs"):
        kinds = song_schema._hdf5_type(_song_layout()[f"/{table}"]["type"]).dtype
        for number, field in enumerate(kinds.names, start=1):
            text = kinds[field].kind == "S"
            fields[field] = b"x" * kinds[field].itemsize if text else number
    path.write_bytes(_song_bytes(rows, fields | {"key": 1, "mode": 1, "track_id": path.stem}))
    return path


def write_rows(dataset, rows):
    """Replace the rows of a dataset in its own type, text that fills its field included."""
    space = dataset.id.get_space()
    dataset.id.write(space, space, np.ascontiguousarray(rows), mtype=dataset.id.get_type())


@pytest.fixture
def song(tmp_path, arrays):
    return write_song(tmp_path / "TRSONGA128F0000001.h5", arrays)


def reason(path):
    """Why a file is refused: by its path and by its content alike, in one error without a tail."""
    with pytest.raises(SongError) as caught:
        read_song(path)
    assert caught.value.path == path
    assert path.name in str(caught.value)
    assert "IsalError" not in "".join(traceback.format_exception(caught.value))
    if path.is_file() and os.access(path, os.R_OK, effective_ids=True):
        with pytest.raises(SongError) as of_content:
            read_song(path.read_bytes(), name=str(path))
        assert of_content.value.reason == caught.value.reason
    return caught.value.reason


def short_way(data, name=None):
    """The song as found in the bytes alone; raises where `read_song` would turn to h5py."""
    return song_file._song(hdf5_bytes._raw_datasets(data), name, True)


def plain_way(data, name=None):
    """The song as h5py finds it."""
    with hdf5._plain_datasets(data) as dataset:
        return song_file._song(dataset, name, True)


def assert_same_song(one, other):
    """Bit for bit, text and types included."""
    assert repr(one.metadata) == repr(other.metadata)
    for mine, theirs in zip(
        vars(one.segments).values(), vars(other.segments).values(), strict=True
    ):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        assert mine.tobytes() == theirs.tobytes()


# Real songs beside an independent reader


@pytest.mark.slow
def test_real_songs_read_as_pytables_reads_them(real_msd):
    tables = pytest.importorskip("tables")
    paths = _find_songs(real_msd / "data")
    assert len(paths) == 700
    tables_read = {table for table, _ in METADATA_FIELDS.values()}
    for path in paths:
        read = short_way(path.read_bytes(), path)
        assert_same_song(read, plain_way(path.read_bytes(), path))
        assert_same_song(read, read_song(path, terms=True))
        song, segments = read.metadata, read.segments
        with tables.open_file(str(path)) as file:
            rows = {table: file.get_node(f"/{table}")[0] for table in tables_read}
            for name, (table, field) in METADATA_FIELDS.items():
                value = rows[table][field]
                value = value.decode("utf-8") if isinstance(value, bytes) else value.item()
                if name == "year":
                    value = value or None
                assert song[name] == value or (song[name] != song[name] and value != value)
                assert type(song[name]) is type(value)
            for mine, theirs in zip(
                (segments.start_s, segments.chroma, segments.timbre), _SEGMENT_ARRAYS, strict=True
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
    expected = _song_layout()
    assert all(describe_layout(path) == expected for path in _find_songs(real_msd / "data")[::20])


def test_real_files_that_are_no_songs(real_msd):
    folder = real_msd.parent / "broken_songs"
    if not folder.is_dir():
        pytest.skip("no folder broken_songs beside the real songs")
    for path in _find_songs(folder):
        assert reason(path).startswith("no group analysis")


# The format


def test_a_written_song_has_the_layout_and_keeps_full_text_fields(song):
    tables = pytest.importorskip("tables")
    assert describe_layout(song) == _song_layout()
    read = read_song(song, terms=True).metadata
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
    assert changed["/musicbrainz/songs"] != _song_layout()["/musicbrainz/songs"]


def test_the_same_song_is_the_same_bytes(tmp_path, arrays):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    first, second = (write_song(tmp_path / d / "TRX.h5", arrays) for d in ("one", "other"))
    assert first.read_bytes() == second.read_bytes()


# Files that h5py wrote in another way


def rewritten(song, path, name=None, libver="earliest", userblock=0, **how):
    """Copy a song with h5py's own types; the datasets `name` (default all) are created `how`."""
    with (
        h5py.File(song) as old,
        h5py.File(path, "w", libver=libver, userblock_size=userblock) as new,
    ):

        def copy(found, node):
            if isinstance(node, h5py.Dataset):
                if name in (None, found):
                    data = node[...].astype(how.get("dtype", node.dtype))
                    options = {key: value for key, value in how.items() if key != "dtype"}
                    new.create_dataset(found, data=data, **options)
                else:
                    old.copy(found, new, name=found)

        old.visititems(copy)
    return path


PITCHES = "analysis/segments_pitches"
GZIP = {"compression": "gzip", "shuffle": True}


@pytest.mark.parametrize(
    ("how", "way"),
    [
        ({"name": PITCHES}, "plain"),
        ({"name": PITCHES, "chunks": (10, 12)}, "plain"),
        ({"name": PITCHES, "chunks": (10, 12), "compression": "lzf"}, "plain"),
        ({"name": PITCHES, "chunks": (10, 12), "compression": "gzip"}, "plain"),
        ({"name": PITCHES, "chunks": (10, 12), "fletcher32": True, **GZIP}, "plain"),
        ({"name": PITCHES, "chunks": (10, 5), **GZIP}, "plain"),
        ({"name": PITCHES, "chunks": (7, 12), **GZIP}, "short"),
        ({"name": PITCHES, "chunks": (7, 12), "compression_opts": 9, **GZIP}, "short"),
        ({"name": PITCHES, "chunks": (7, 12), "dtype": ">f8", **GZIP}, "plain"),
        ({"name": PITCHES, "chunks": (7, 12), "dtype": "<f4", **GZIP}, "plain"),
        ({"name": PITCHES, "chunks": (7, 12), "scaleoffset": 12}, "plain"),
        ({}, "plain"),
        ({"libver": "latest"}, "plain"),
        ({"userblock": 512}, "plain"),
    ],
    ids=str,
)
def test_another_layout_gives_the_same_values(song, tmp_path, how, way):
    (tmp_path / "other").mkdir()
    other = rewritten(song, tmp_path / "other" / song.name, **how)
    data, read = other.read_bytes(), read_song(other, terms=True)
    assert_same_song(read, plain_way(data, song))
    if way == "short":
        assert_same_song(read, short_way(data, song))
    else:
        with pytest.raises(hdf5_bytes._NOT_RAW):
            short_way(data, song)
    if "dtype" not in how and "scaleoffset" not in how:
        assert_same_song(read, short_way(song.read_bytes(), song))


def test_a_chunk_that_skips_its_filters_or_is_not_there(song, arrays):
    with h5py.File(song, "r+") as file:
        del file[PITCHES]
        made = file.create_dataset(PITCHES, (40, 12), "<f8", chunks=(20, 12), **GZIP)
        made[:20] = arrays["segments_pitches"][:20]
        made.id.write_direct_chunk((20, 0), arrays["segments_pitches"][20:].tobytes(), 3)
    assert np.array_equal(read_song(song).segments.chroma, arrays["segments_pitches"])
    with h5py.File(song, "r+") as file:
        del file[PITCHES]
        made = file.create_dataset(PITCHES, (40, 12), "<f8", chunks=(20, 12), fillvalue=0.5, **GZIP)
        made[20:] = arrays["segments_pitches"][20:]
    chroma = read_song(song).segments.chroma
    assert (chroma[:20] == 0.5).all()
    assert np.array_equal(chroma[20:], arrays["segments_pitches"][20:])


@pytest.mark.parametrize(("n", "way"), [(3_000, "short"), (5_000, "plain")])
def test_very_many_chunks(song, tmp_path, n, way):
    rng = np.random.default_rng(0)
    many = {
        "segments_start": np.arange(n) / 4,
        "segments_pitches": rng.uniform(size=(n, 12)),
        "segments_timbre": rng.normal(size=(n, 12)),
    }
    path = write_song(tmp_path / "TRMANY.h5", many)
    other = rewritten(path, tmp_path / "other.h5", name=PITCHES, chunks=(1, 12), **GZIP)
    data = other.read_bytes()
    assert_same_song(read_song(path, terms=True), read_song(data, terms=True))
    if way == "short":
        assert_same_song(short_way(data), plain_way(data))
    else:
        with pytest.raises(hdf5_bytes._NOT_RAW, match="very many chunks"):
            short_way(data)


def test_the_arrays_belong_to_the_reader(song):
    for values in vars(read_song(song).segments).values():
        values[...] = 0  # not a view of the file's bytes, which cannot be written


# Files that are no song


def test_missing_empty_and_foreign_files(tmp_path):
    path = tmp_path / "TRX.h5"
    assert "no such file" in reason(path)
    path.touch()
    assert reason(path) == "empty file"
    path.write_text("<html>404</html>")
    assert reason(path) == "not an HDF5 file"


def test_names_that_are_no_readable_file(tmp_path, song):
    (tmp_path / "TRF.h5").mkdir()
    assert reason(tmp_path / "TRF.h5") == "is a folder"
    (tmp_path / "TRL.h5").symlink_to(tmp_path / "TRL.h5")
    assert reason(tmp_path / "TRL.h5").startswith("no file")
    assert reason(song / "TRX.h5").startswith("no file")
    assert reason(tmp_path / "TR\0.h5").startswith("no file")


def test_no_permission_to_read(song, as_nobody):
    path = as_nobody.folder / song.name
    path.write_bytes(song.read_bytes())
    path.chmod(0)
    with as_nobody():
        assert reason(path) == "no permission to read it"


def test_a_song_cut_off_anywhere_is_truncated(song, tmp_path):
    whole, cut = song.read_bytes(), tmp_path / "TRCUT.h5"
    lengths = {*range(1, len(whole), 499), 7, 8, 20, 95, 96, 97, 600, len(whole) - 1}
    for length in sorted(lengths):
        cut.write_bytes(whole[:length])
        expected = "not an HDF5 file" if length < 8 else "truncated"
        assert reason(cut).startswith(expected), length


def test_bytes_behind_the_end_do_not_matter(song):
    longer = song.read_bytes() + b"<html>"
    assert_same_song(short_way(longer, song), plain_way(longer, song))


def test_a_row_of_impossible_size_does_not_reach_hdf5(song):
    """It would crash: the library reads that many bytes of a chunk that has far fewer."""
    data = bytearray(song.read_bytes())
    size = (220).to_bytes(4, "little")  # of a row of analysis/songs, in the message of its type
    at = data.index(b"\x16\x1f\x00\x00" + size)
    data[at + 4 : at + 8] = (220 + 2**24).to_bytes(4, "little")
    song.write_bytes(data)
    assert reason(song) == "damaged HDF5: /analysis/songs has elements of 16,777,436 bytes"


def test_a_number_of_no_known_format_does_not_reach_hdf5(song):
    """It would corrupt the memory: the library converts it into too small a buffer."""
    data = bytearray(song.read_bytes())
    field = data.index(b"artist_familiarity\0")
    bias = data.index(b"\x34\xff\x03\x00\x00", field) + 1
    data[bias] = 141
    song.write_bytes(data)
    assert reason(song) == "damaged HDF5: /metadata/songs has a type that no song file has"


def test_an_end_beyond_the_memory_is_truncated(song):
    """HDF5 must not make room for it."""
    data = bytearray(song.read_bytes())
    data[40:48] = (2**40).to_bytes(8, "little")
    song.write_bytes(data)
    assert reason(song).startswith("truncated")


def test_flipped_bytes_give_a_song_or_a_song_error(song):
    whole, outcomes = song.read_bytes(), {"song": 0, "error": 0}
    for seed in range(300):
        rng, damaged = np.random.default_rng(seed), bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            at = rng.integers(len(whole) if rng.random() < 0.5 else 12_000)
            damaged[at] = rng.integers(256) if rng.random() < 0.5 else rng.choice([0, 1, 128, 255])
        damaged = bytes(damaged)
        try:
            read = read_song(damaged, terms=True)
        except SongError:
            outcomes["error"] += 1
            continue
        outcomes["song"] += 1
        # Where HDF5 reads it too, it reads the same.
        try:
            plain = plain_way(damaged)
        except SongError:
            continue
        assert_same_song(read, plain)
    assert min(outcomes.values()) > 30


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
    assert reason(song).startswith("damaged HDF5")


@pytest.mark.parametrize(
    ("table", "data", "expected"),
    [
        ("musicbrainz/songs", np.zeros(1, [("idx", "<i4")]), "no field year in musicbrainz/songs"),
        ("musicbrainz/songs", np.zeros(0, [("year", "<i4")]), r"shape \(0,\), expected one row"),
        ("metadata/songs", np.zeros(3), r"shape \(3,\), expected one row"),
        ("metadata/songs", np.zeros(1), "no field song_id in metadata/songs"),
        ("musicbrainz/songs", np.zeros(1, [("year", "<f8")]), "year .* is 0.0, expected int"),
        ("musicbrainz/songs", np.zeros(1, [("year", "S4")]), "year .* is '', expected int"),
    ],
)
def test_a_table_without_its_row_or_a_field(song, table, data, expected):
    with h5py.File(song, "r+") as file:
        del file[table]
        file[table] = data
    with pytest.raises(SongError, match=expected):
        read_song(song)


def test_terms_of_unequal_length(song):
    with h5py.File(song, "r+") as file:
        file["metadata/artist_terms_freq"].resize(1, axis=0)
    with pytest.raises(SongError, match=r"unequal length: shapes \(\(2,\), \(1,\), \(2,\)\)"):
        read_song(song, terms=True)
    assert "artist_terms" not in read_song(song).metadata


def test_no_terms_at_all(song):
    with h5py.File(song, "r+") as file:
        for part in ("artist_terms", "artist_terms_freq", "artist_terms_weight"):
            file[f"metadata/{part}"].resize(0, axis=0)
    assert short_way(song.read_bytes(), song).metadata["artist_terms"] == []
    assert plain_way(song.read_bytes(), song).metadata["artist_terms"] == []


def test_text_that_is_not_utf8_keeps_the_song(song):
    with h5py.File(song, "r+") as file:
        row = file["metadata/songs"][:]
        row["title"] = b"caf\xe9"
        write_rows(file["metadata/songs"], row)
    assert read_song(song).metadata["title"] == "caf\ufffd"
    assert_same_song(short_way(song.read_bytes(), song), plain_way(song.read_bytes(), song))


def test_text_ends_at_its_first_nul(song):
    with h5py.File(song, "r+") as file:
        row = file["metadata/songs"][:]
        row["title"] = b"one\0two"
        write_rows(file["metadata/songs"], row)
    assert short_way(song.read_bytes(), song).metadata["title"] == "one"
    assert_same_song(short_way(song.read_bytes(), song), plain_way(song.read_bytes(), song))


def test_the_name_and_the_id_inside_must_agree(song, tmp_path):
    other = song.rename(tmp_path / "TROTHER.h5")
    assert reason(other) == f"track_id {song.stem!r} inside, the name says 'TROTHER'"
    assert read_song(other.read_bytes()).metadata["track_id"] == song.stem
    assert read_song(other, name=f"data/{song.name}").metadata["track_id"] == song.stem


def test_a_length_that_no_song_has(song):
    with h5py.File(song, "r+") as file:
        for name in _SEGMENT_ARRAYS:
            file["analysis"][name].resize(10**12, axis=0)
    assert reason(song) == "no segments or impossibly many: 1,000,000,000,000 segments"


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
        read_song(path)


def test_segments_that_do_not_fit_together():
    with pytest.raises(SongError, match="arrays of shapes") as caught:
        _validate_segments(Segments(np.arange(3.0), np.zeros((3, 12)), np.zeros((2, 12))))
    assert caught.value.path is None


def test_a_song_error_travels_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(SongError(tmp_path / "TRX.h5", "empty file")))
    assert (error.path, error.reason) == (tmp_path / "TRX.h5", "empty file")
    assert str(error) == "TRX.h5: empty file"
