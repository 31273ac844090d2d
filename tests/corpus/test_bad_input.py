"""Bad input: one test for each row of the table in the guide, through the whole build.

Each spoils one thing in a small corpus and builds its catalog. What is bad must be listed with
file, line and reason, or refused; every other row must be as in the undisturbed build.
"""

import gzip
import os
import re
import shutil
import tarfile
import zipfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import h5py
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from pandas.testing import assert_frame_equal

from msd_genre import cli
from msd_genre.corpus import catalog, features, scan
from msd_genre.datasets import plays
from msd_genre.files import layout, song_schema
from msd_genre.synthetic import write
from msd_genre.workspace import runs

ROOT = Path(__file__).parents[2]
CASES = yaml.safe_load((ROOT / "tests" / "data" / "bad_input.yaml").read_text("utf-8"))
TEXTS = write.TEXT_FILES
UNLABELLED = {"genre": None, "genre_minority": None, "genre_source": None, "dropped_at": "labelled"}
WORDLESS = {"has_lyrics": False, "lyrics_split": None, "dropped_at": "with lyrics"}

@dataclass
class Outcome:
    """What a build must make of a spoiled corpus."""

    places: list = field(default_factory=list)  # (file, line; None for a song) of what is set aside
    lost: list = field(default_factory=list)  # tracks without a row
    changed: dict = field(default_factory=dict)  # track -> column -> value
    songs: str | None = None  # where the songs lie, if not in the corpus
    as_nobody: bool = False  # built by an ordinary user, since root may read anything


class Corpus:
    """A folder of eight songs with their texts: seven that pass the join, one on the MSD's list of
    mismatches."""

    def __init__(self, folder, table):
        self.folder = folder
        self.table = table  # the catalog of the undisturbed corpus
        self.songs = [self.folder / path for path in table["path"]]
        row = table[table["lyrics_split"].eq("train") & table["dropped_at"].isna()].iloc[2]
        self.track, self.song = row["track_id"], self.folder / row["path"]  # to be spoiled
        (self.mismatch,) = table[table["dropped_at"].notna()].itertuples()

    def text(self, name):
        return self.folder / TEXTS[name]

    def name(self, path):
        return path.relative_to(self.folder).as_posix()

    def lines(self, name):
        return self.text(name).read_bytes().splitlines(keepends=True)

    def find(self, name, start):
        """Number (from 0) of the first line that begins so."""
        return next(n for n, line in enumerate(self.lines(name)) if line.startswith(start.encode()))

    def edit(self, name, number, edit):
        """Replace a line, without its newline, by what a function makes of it; its place."""
        lines = self.lines(name)
        lines[number] = edit(lines[number].rstrip(b"\n")) + b"\n"
        self.text(name).write_bytes(b"".join(lines))
        return self.text(name).name, number + 1

    def played(self, song, more):
        """What the catalog has to say where a song was played so often more."""
        rows = self.table[self.table["song_id"] == song]
        return {row.track_id: {"plays": row.plays + more} for row in rows.itertuples()}

    def append(self, name, line):
        """Add a line at the end; its place."""
        number = len(self.lines(name)) + 1
        with self.text(name).open("ab") as file:
            file.write(line)
        return self.text(name).name, number


SPOIL = {}


def spoils(function):
    """A way to spoil a corpus, under the name that its row has in the table."""
    SPOIL[function.__name__] = function
    return function


# Song files


def song_case(name, edit):
    """A case in which a song file becomes unreadable and its track is lost."""

    def spoil(corpus):
        edit(corpus.song)
        return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])

    SPOIL[name] = spoil


def bytes_case(name, edit):
    song_case(name, lambda path: path.write_bytes(edit(path.read_bytes())))


bytes_case("song_empty", lambda data: b"")
bytes_case("song_cut_in_signature", lambda data: data[:5])
bytes_case("song_cut_in_superblock", lambda data: data[:50])
bytes_case("song_cut_in_header", lambda data: data[:1040])
bytes_case("song_cut_in_arrays", lambda data: data[: len(data) // 2])
bytes_case("song_cut_at_end", lambda data: data[:-1])
bytes_case("song_web_page", lambda data: b"<html><body>503 Service Unavailable</body></html>")
bytes_case("song_wrong_magic", lambda data: b"\x88" + data[1:])
bytes_case("song_gzipped", gzip.compress)


def hdf5_case(name, edit):
    def change(path):
        with h5py.File(path, "a") as file:
            edit(file)

    song_case(name, change)


def put(array, place, value):
    def edit(file):
        file[f"analysis/{array}"][place] = value

    return edit


def in_row(table, field, value):
    def edit(file):
        row = file[table][...]
        row[field] = value
        file[table][...] = row

    return edit


def resize(*names, n):
    def edit(file):
        for name in names:
            file[name].resize(n, axis=0)

    return edit


def replace(name, make):
    def edit(file):
        values = file[name][...]
        del file[name]
        file[name] = make(values)

    return edit


def without_title(row):
    return row[[column for column in row.dtype.names if column != "title"]].copy()


def tempo_in_words(row):
    kinds = [(n, "S4" if n == "tempo" else row.dtype[n]) for n in row.dtype.names]
    return np.array([tuple(b"fast" if n == "tempo" else row[n][0] for n in row.dtype.names)], kinds)


@spoils
def song_damaged_chunk(corpus):
    with h5py.File(corpus.song) as file:
        chunk = file["analysis/segments_timbre"].id.get_chunk_info(1)
    with corpus.song.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(range(64)))
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])


ARRAYS = [f"analysis/{name}" for name in song_schema._SEGMENT_ARRAYS]
hdf5_case("song_without_analysis", lambda file: file.pop("analysis"))
hdf5_case("song_without_metadata", lambda file: file.pop("metadata"))
hdf5_case("song_without_timbre", lambda file: file["analysis"].pop("segments_timbre"))
hdf5_case("song_without_row", resize("metadata/songs", n=0))
hdf5_case("song_without_field", replace("metadata/songs", without_title))
hdf5_case("song_number_as_text", replace("analysis/songs", tempo_in_words))
hdf5_case("song_unequal_arrays", resize("analysis/segments_timbre", n=3))
hdf5_case("song_eleven_columns", replace("analysis/segments_pitches", lambda rows: rows[:, :11]))
hdf5_case("song_without_segments", resize(*ARRAYS, n=0))
hdf5_case("song_of_days", resize(*ARRAYS, n=2_000_000))
hdf5_case("song_nan", put("segments_timbre", (7, 3), np.nan))
hdf5_case("song_infinite", put("segments_pitches", (7, 3), np.inf))
hdf5_case("song_chroma_above_one", put("segments_pitches", (7, 3), 1.5))
hdf5_case("song_chroma_negative", put("segments_pitches", (7, 3), -0.5))
hdf5_case("song_starts_fall", put("segments_start", 7, 0.0))
hdf5_case("song_key_of_none", in_row("analysis/songs", "key", 99))
hdf5_case("song_mode_of_none", in_row("analysis/songs", "mode", 7))
hdf5_case("song_tempo_infinite", in_row("analysis/songs", "tempo", np.inf))
hdf5_case("song_duration_nan", in_row("analysis/songs", "duration", np.nan))
hdf5_case("song_of_the_future", in_row("musicbrainz/songs", "year", 30_000))
hdf5_case("song_without_song_id", in_row("metadata/songs", "song_id", b""))


@spoils
def song_of_another_file(corpus):
    other = corpus.song.with_name("other.h5")
    shutil.copy(next(path for path in corpus.songs if path != corpus.song), other)
    with h5py.File(corpus.song, "a", libver="latest") as file:
        del file["analysis/segments_timbre"]
        file["analysis/segments_timbre"] = h5py.ExternalLink(str(other), "analysis/segments_timbre")
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])


@spoils
def song_is_pipe(corpus):
    corpus.song.unlink()
    os.mkfifo(corpus.song)
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])


@spoils
def song_other_id_inside(corpus):
    other = corpus.song.with_name("TRZZZZZ128F0000000.h5")
    shutil.copy(corpus.song, other)
    return Outcome([(corpus.name(other), None)])


@spoils
def song_twice(corpus):
    again = corpus.folder / "data" / "Z" / corpus.song.name
    again.parent.mkdir()
    shutil.copy(corpus.song, again)
    return Outcome([(corpus.name(again), None)])


@contextmanager
def names_of_bytes():
    """Skips where the file system takes no name that is not UTF-8, as that of macOS."""
    try:
        yield
    except OSError as error:
        pytest.skip(f"no file name that is not UTF-8 can be made here: {error.strerror}")


@spoils
def song_name_not_utf8(corpus):
    with names_of_bytes():
        corpus.song.rename(corpus.song.with_name(corpus.track + os.fsdecode(b"\xff.h5")))
    place = corpus.name(corpus.song).replace(".h5", r"\xff.h5")
    return Outcome([(place, None)], lost=[corpus.track])


@spoils
def song_folder_not_utf8(corpus):
    folder = corpus.folder / "data" / os.fsdecode(b"caf\xe9")
    with names_of_bytes():
        folder.mkdir()
    corpus.song.rename(folder / corpus.song.name)
    return Outcome([(rf"data/caf\xe9/{corpus.song.name}", None)], lost=[corpus.track])


@spoils
def song_title_not_utf8(corpus):
    with h5py.File(corpus.song, "a") as file:
        row = file["metadata/songs"][...]
        row["title"] = b"Caf\xe9"
        file["metadata/songs"][...] = row
    return Outcome(changed={corpus.track: {"title": "Caf\ufffd"}})


@spoils
def song_is_folder(corpus):
    corpus.song.unlink()
    corpus.song.mkdir()
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])


@spoils
def song_links_to_itself(corpus):
    corpus.song.unlink()
    corpus.song.symlink_to(corpus.song.name)
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])


@spoils
def song_links_to_nowhere(corpus):
    corpus.song.unlink()
    corpus.song.symlink_to("gone.h5")
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track])


@spoils
def song_folder_loop(corpus):
    (corpus.song.parent / "up").symlink_to(corpus.folder / "data")
    (corpus.song.parent / "itself").symlink_to("itself")
    return Outcome()


@spoils
def song_not_permitted(corpus):
    corpus.song.chmod(0)
    return Outcome([(corpus.name(corpus.song), None)], lost=[corpus.track], as_nobody=True)


@spoils
def song_folder_not_permitted(corpus):
    corpus.song.parent.chmod(0)
    return Outcome(as_nobody=True)


@spoils
def song_other_files(corpus):
    for name in (f"._{corpus.song.name}", "subset_msd_summary_file.h5", "notes.txt"):
        corpus.song.with_name(name).write_bytes(b"no song")
    return Outcome()


@spoils
def song_archive_cut(corpus):
    archive = corpus.folder / "songs.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in corpus.songs:
            tar.add(path, corpus.name(path))
            if path == corpus.songs[3]:
                tar.fileobj.flush()
                whole = tar.fileobj.fileobj.tell()
    archive.write_bytes(archive.read_bytes()[: whole + 5_000])
    shutil.rmtree(corpus.folder / "data")
    read = {path.stem: {"path": f"songs.tar.gz/{corpus.name(path)}"} for path in corpus.songs[:4]}
    return Outcome([("songs.tar.gz", None)], changed=read, songs=str(archive),
                   lost=[path.stem for path in corpus.songs[4:]])


@spoils
def songs_missing(corpus):
    for path in corpus.songs:
        path.unlink()
    return Outcome()


# Rows of text files


def row_case(name, text, start, edit, changed):
    """A case in which a row of a text is set aside; `changed` is what its track loses by it."""

    def spoil(corpus):
        number = corpus.find(text, start(corpus))
        return Outcome([corpus.edit(text, number, edit)], changed=changed(corpus))

    SPOIL[name] = spoil


def label_case(name, edit):
    row_case(name, "labels", lambda corpus: corpus.track, edit,
             lambda corpus: {corpus.track: UNLABELLED})


def genre(name):
    return lambda row: row.split(b"\t")[0] + b"\t" + name


label_case("label_spaces", lambda row: row.replace(b"\t", b"  "))
label_case("label_without_field", lambda row: row.split(b"\t")[0])
label_case("label_without_genre", genre(b""))
label_case("label_four_fields", genre(b"Rock\tFolk\tPop"))
label_case("label_wrong_id", lambda row: b"SO" + row[2:])
label_case("label_unknown_genre", genre(b"Shoegazing"))
label_case("label_other_case", genre(b"rock"))
label_case("label_not_utf8", genre(b"Rock\xe9"))
label_case("label_control_byte", genre(b"Ro\0ck"))
label_case("label_too_long", genre(b"Rock" * 500_000))


@spoils
def label_unknown_minority(corpus):
    place = corpus.edit("labels", corpus.find("labels", corpus.track), genre(b"Rock\tShoegazing"))
    return Outcome([place], changed={corpus.track: {"genre": "Rock", "genre_minority": None}})


@spoils
def label_conflict(corpus):
    number = corpus.find("labels", corpus.track)
    first = corpus.edit("labels", number, genre(b"Rock"))
    second = corpus.append("labels", f"{corpus.track}\tJazz\n".encode())
    return Outcome([first, second], changed={corpus.track: UNLABELLED})


@spoils
def label_twice(corpus):
    place = corpus.append("labels", corpus.lines("labels")[corpus.find("labels", corpus.track)])
    return Outcome([place])


@spoils
def label_cut_off(corpus):
    lines = corpus.lines("labels")
    row = lines.pop(corpus.find("labels", corpus.track))
    corpus.text("labels").write_bytes(b"".join(lines))
    place = corpus.append("labels", row.split(b"\t")[0] + b"\tElectroni")
    return Outcome([place], changed={corpus.track: UNLABELLED})


def lyric_case(name, edit):
    """`edit` takes a row's pairs `index:count`, as a list, and gives them back."""

    def edit_row(row):
        track, mxm_id, *pairs = row.split(b",")
        return b",".join([track, mxm_id, *edit(pairs)])

    lyric_row_case(name, edit_row)


def lyric_row_case(name, edit):
    row_case(name, "train", lambda corpus: corpus.track, edit,
             lambda corpus: {corpus.track: WORDLESS})


def number(part, value):
    """Index (0) or count (1) of the second pair replaced."""

    def edit(pairs):
        pair = pairs[1].split(b":")
        pair[part] = value
        return [pairs[0], b":".join(pair), *pairs[2:]]

    return edit


lyric_case("lyric_index_0", number(0, b"0"))
lyric_case("lyric_index_5001", number(0, b"5001"))
lyric_case("lyric_index_no_number", number(0, b"night"))
lyric_case("lyric_index_repeated", lambda pairs: [*pairs, pairs[0]])
lyric_case("lyric_count_no_number", number(1, b"2.5"))
lyric_case("lyric_count_negative", number(1, b"-2"))
lyric_case("lyric_count_0", number(1, b"0"))
lyric_case("lyric_count_huge", number(1, b"1000000000000"))
lyric_case("lyric_without_words", lambda pairs: [])
lyric_case("lyric_without_count", lambda pairs: [*pairs, b"4999"])
lyric_row_case("lyric_without_mxm_id", lambda row: re.sub(rb",\d+,", b",", row, count=1))
lyric_row_case("lyric_wrong_id", lambda row: row.replace(b"TR", b"tr", 1))


@spoils
def lyric_twice(corpus):
    return Outcome([corpus.append("train", f"{corpus.track},7,1:1\n".encode())])


@spoils
def lyric_in_train_and_test(corpus):
    return Outcome([corpus.append("test", f"{corpus.track},7,1:1\n".encode())])


@spoils
def lyric_cut_off(corpus):
    lines = corpus.lines("train")
    row = lines.pop(corpus.find("train", corpus.track))
    corpus.text("train").write_bytes(b"".join(lines))
    place = corpus.append("train", row[: len(row) // 2])
    return Outcome([place], changed={corpus.track: WORDLESS})


@spoils
def lyrics_gzip_cut(corpus):
    """The stream ends right after a newline: the row is whole, and more may have followed."""
    lines = corpus.lines("train")
    rows = [line for line in lines if not line.startswith(corpus.track.encode())]
    packed = gzip.compress(b"".join(rows))
    corpus.text("train").write_bytes(packed[:-8])
    return Outcome([(corpus.text("train").name, len(rows) + 1)], changed={corpus.track: WORDLESS})


def mapping_case(name, edit):
    row_case(name, "reverse mapping", lambda corpus: "love<SEP>", edit, lambda corpus: {})


mapping_case("stem_without_word", lambda row: b"love")


@spoils
def stem_with_two_words(corpus):
    number = corpus.find("reverse mapping", "love<SEP>")
    first = (corpus.text("reverse mapping").name, number + 1)
    return Outcome([first, corpus.append("reverse mapping", b"love<SEP>lovely\n")])


def triplet_of(corpus):
    """Number of the first row about a song of the corpus, and its fields."""
    for number, line in enumerate(corpus.lines("plays")):
        user, song, count = line.decode().split()
        if song in set(corpus.table["song_id"]):
            return number, user, song, int(count)
    raise AssertionError("nobody played a song of the corpus")


def triplet_case(name, edit):
    """The song was played as many times less."""

    def spoil(corpus):
        number, _, song, count = triplet_of(corpus)
        place = corpus.edit("plays", number, lambda row: edit(row.split(b"\t")))
        return Outcome([place], changed=corpus.played(song, -count))

    SPOIL[name] = spoil


triplet_case("triplet_two_fields", lambda row: row[0] + b"\t" + row[1])
triplet_case("triplet_without_user", lambda row: b"\t" + row[1] + b"\t" + row[2])
triplet_case("triplet_four_fields", lambda row: b"\t".join([*row, b"1"]))
triplet_case("triplet_spaces", lambda row: b" ".join(row))
triplet_case("triplet_count_0", lambda row: row[0] + b"\t" + row[1] + b"\t0")
triplet_case("triplet_count_huge", lambda row: row[0] + b"\t" + row[1] + b"\t1000000000000")
triplet_case("triplet_count_negative", lambda row: row[0] + b"\t" + row[1] + b"\t-3")
triplet_case("triplet_count_no_number", lambda row: row[0] + b"\t" + row[1] + b"\t1.5")
triplet_case("triplet_track_id", lambda row: row[0] + b"\tTR" + row[1][2:] + b"\t" + row[2])


@spoils
def triplet_header(corpus):
    content = corpus.text("plays").read_bytes()
    corpus.text("plays").write_bytes(b"user\tsong\tplay_count\n" + content)
    return Outcome([(corpus.text("plays").name, 1)])


@spoils
def triplet_twice(corpus):
    _, user, song, _ = triplet_of(corpus)
    return Outcome([corpus.append("plays", f"{user}\t{song}\t9\n".encode())])


@spoils
def triplet_cut_off(corpus):
    _, _, song, _ = triplet_of(corpus)
    return Outcome([corpus.append("plays", f"{'0' * 40}\t{song}\t7".encode())])


def mismatch_case(name, edit):
    """The song of which the row speaks counts as matched."""
    row_case(name, "mismatches", mismatch_of, edit,
             lambda corpus: {corpus.mismatch.track_id: {"dropped_at": None}})


def mismatch_of(corpus):
    """How the row about the mismatched song begins."""
    return f"ERROR: <{corpus.mismatch.song_id} {corpus.mismatch.track_id}>"


def title(name):
    return lambda row: row.partition(b"> ")[0] + b"> " + name


mismatch_case("mismatch_without_ids", lambda row: b"ERROR: " + row.partition(b"> ")[2])
mismatch_case("mismatch_wrong_id", lambda row: row.replace(b"<SO", b"<so"))
mismatch_case("mismatch_not_utf8", title(b"Caf\xe9  -  Night  !=  Cafe  -  Day"))


@spoils
def mismatch_twice(corpus):
    corpus.append("mismatches", corpus.lines("mismatches")[0])
    return Outcome()


@spoils
def mismatch_control_bytes(corpus):
    number = corpus.find("mismatches", mismatch_of(corpus))
    corpus.edit("mismatches", number, title(b"A\x1c \x1d \x1e  -  B  !=  C  -  D"))
    return Outcome()


# Whole text files


def file_case(name, text, edit):
    """A text file becomes another one; what comes of it is in the table."""

    def spoil(corpus):
        path = corpus.text(text)
        path.write_bytes(edit(path.read_bytes()))
        return Outcome()

    SPOIL[name] = spoil


def crlf(content):
    return content.replace(b"\n", b"\r\n")


def damaged(content):
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 255
    return bytes(packed)


MARK = b"\xef\xbb\xbf"
WEB_PAGE = b"<!DOCTYPE html>\n<html>\n<body>\n503 Service Unavailable\n</body>\n</html>\n"
file_case("labels_crlf", "labels", crlf)
file_case("labels_mark", "labels", lambda content: MARK + content.partition(b"\n")[2])
file_case("labels_blank_lines", "labels",
          lambda content: content.replace(b"\n", b" \n\n").replace(b"\t", b"\t "))
file_case("labels_old_mac", "labels", lambda content: content.replace(b"\n", b"\r"))
file_case("labels_utf16", "labels", lambda content: content.decode().encode("utf-16"))
file_case("labels_web_page", "labels", lambda content: WEB_PAGE)
file_case("labels_empty", "labels", lambda content: b"")
file_case("labels_other_genres", "labels",
          lambda content: re.sub(rb"(?m)^(TR\w+)\t.*$", rb"\1\tSchlager", content))
file_case("lyrics_crlf", "test", crlf)
file_case("lyrics_gzipped", "train", gzip.compress)
file_case("lyrics_without_stems", "train", lambda content: re.sub(rb"(?m)^%.*\n", b"", content))
file_case("lyrics_two_stem_lines", "train", lambda content: content + content)
file_case("lyrics_empty_stem", "train", lambda content: re.sub(rb"(?m)^%\w+", b"%", content))
file_case("lyrics_other_stems", "test", lambda content: re.sub(rb"(?m)^%\w+", b"%0word", content))
file_case("triplets_mark", "plays", lambda content: MARK + content)
file_case("triplets_crlf", "plays", crlf)
file_case("triplets_gzipped", "plays", gzip.compress)
file_case("triplets_gzip_damaged", "plays", damaged)
file_case("triplets_commas", "plays", lambda content: content.replace(b"\t", b","))
file_case("mismatches_crlf", "mismatches", crlf)
file_case("mismatches_other_list", "mismatches", lambda content: b"TRA1<SEP>SOA1<SEP>a<SEP>b\n" * 9)


@spoils
def labels_zipped(corpus):
    path = corpus.text("labels")
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(path.name, content)
    return Outcome()


@spoils
def labels_gzipped(corpus):
    path = corpus.text("labels")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return Outcome()


@spoils
def labels_not_permitted(corpus):
    corpus.text("labels").chmod(0)
    return Outcome(as_nobody=True)


@spoils
def labels_name_not_utf8(corpus):
    path = corpus.text("labels")
    with names_of_bytes():
        path.rename(path.with_name(os.fsdecode(b"m\xe9.cls")))
    return Outcome()


@spoils
def labels_folder(corpus):
    corpus.text("labels").unlink()
    corpus.text("labels").mkdir()
    return Outcome()


@spoils
def labels_two(corpus):
    shutil.copy(corpus.text("labels"), corpus.text("labels").with_name("other.cls"))
    return Outcome()


def missing_case(name, text):
    def spoil(corpus):
        corpus.text(text).unlink()
        return Outcome()

    SPOIL[name] = spoil


missing_case("labels_missing", "labels")
missing_case("lyrics_missing", "test")
missing_case("mismatches_missing", "mismatches")


# The list of tracks, which is no part of a build


def tracks_case(name, edit):
    def spoil(corpus):
        number = corpus.find("tracks", corpus.track)
        return Outcome([corpus.edit("tracks", number, edit)], lost=[corpus.track])

    SPOIL[name] = spoil


tracks_case("track_three_fields", lambda row: row.rpartition(b"<SEP>")[0])
tracks_case("track_five_fields", lambda row: row + b"<SEP>again")


@spoils
def track_conflict(corpus):
    number = corpus.find("tracks", corpus.track)
    first = (corpus.text("tracks").name, number + 1)
    second = corpus.append("tracks", f"{corpus.track}<SEP>SOZZZ<SEP>a<SEP>b\n".encode())
    return Outcome([first, second], lost=[corpus.track])


# Every row of the table


@pytest.fixture(scope="module", autouse=True)
def code_that_stays():
    """A build looks at the package's code and commit some ten times: once is enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "code_digest", cache(runs.code_digest))
        patch.setattr(scan, "_reading_code", cache(scan._reading_code))
        patch.setattr(runs, "_commit", cache(runs._commit))
        patch.setattr(runs, "version", cache(runs.version))
        yield


def make_run(folder, corpus, place=None):
    return runs.create_run({"seed": 1, "data": {"folder": str(corpus), "songs_at": place}}, folder)


@pytest.fixture(scope="module")
def sound(demo_corpus, drop_broken_rows, tmp_path_factory):
    """The corpus before anything is spoiled, its catalog, and beside it the run that made that."""
    folder = tmp_path_factory.mktemp("sound")
    table = catalog.build_catalog(make_run(folder / "demo-run", demo_corpus))
    chosen = table[table["dropped_at"].isna() & table["plays"].gt(3)][:8]
    last = chosen.iloc[-1]
    corpus = folder / "corpus"
    for name in [*chosen["path"], *TEXTS.values()]:
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(demo_corpus / name, corpus / name)
    drop_broken_rows(corpus)
    with (corpus / TEXTS["mismatches"]).open("a") as file:  # the demo has few of them
        file.write(f"ERROR: <{last['song_id']} {last['track_id']}> a  -  b  !=  c  -  d\n")
        for number in range(8):
            file.write(f"ERROR: <SOX{number} TRX{number}> a  -  b  !=  c  -  d\n")
    run = make_run(folder / "run", corpus)
    table = catalog.build_catalog(run)
    assert len(table) == 8 and not len(catalog.set_aside(run))
    return Corpus(corpus, table)


@pytest.fixture
def spoiled(sound, as_nobody):
    """A copy of the corpus that a test may spoil, where any user may read it."""
    shutil.copytree(sound.folder, as_nobody.folder / "corpus")
    return Corpus(as_nobody.folder / "corpus", sound.table)


def pattern(shown):
    """Words of the table as a regular expression; "…" stands for what differs."""
    return ".*".join(map(re.escape, shown.split("…")))


def built(case, outcome, sound, as_nobody):
    """A build of a spoiled corpus: the run, and the catalog or the error that refuses it.

    Songs that nobody spoiled need not be read again: they are those of the undisturbed run.
    """
    folder, before = as_nobody.folder / "run", sound.folder.with_name("run")
    folder.mkdir()
    folder.chmod(0o777)
    if case["source"] != "songs":
        shutil.copytree(before / "songs", folder / "songs")
        shutil.copytree(before / ".keys", folder / ".keys")
    with as_nobody() if outcome.as_nobody else nullcontext():
        run = make_run(folder, as_nobody.folder / "corpus", outcome.songs)
        try:
            return run, catalog.build_catalog(run)
        except Exception as error:
            if case["done"] != "refused":
                raise
            return run, error


def expected_catalog(sound, outcome):
    table = sound.table[~sound.table["track_id"].isin(outcome.lost)].reset_index(drop=True)
    for track, values in outcome.changed.items():
        for column, value in values.items():
            table.loc[table["track_id"] == track, column] = value
    return table


def check_set_aside(case, outcome, run, table, sound):
    """What is listed is what was spoiled; all else is as in the undisturbed build."""
    aside = catalog.set_aside(run)
    source = {"lists": "mismatches"}.get(case["source"], case["source"])
    assert set(aside["source"]) <= {source}
    assert [(file, None if pd.isna(line) else line) for file, line in
            zip(aside["file"], aside["line"], strict=True)] == outcome.places  # fmt: skip
    for row in aside.itertuples():
        assert re.fullmatch(pattern(case["shown"]), row.reason)
        assert row.source == "songs" or (row.found.isprintable() and 0 < len(row.found) < 100)
    assert_frame_equal(table, expected_catalog(sound, outcome))
    unread = len(outcome.places) if source == "songs" else 0
    steps = catalog.funnel(table, (aside["source"] == "songs").sum()).set_index("step")
    assert steps["kept"].iloc[0] == len(table) + unread and steps["lost"]["readable"] == unread
    assert steps["kept"].iloc[-1] == len(catalog.kept(table))


def check_refused(case, outcome, run, error, sound, folder):
    """The error says file and reason, nothing half-made stays, and once repaired all is well."""
    assert type(error).__name__ == case["error"]
    assert re.search(pattern(case["shown"]), str(error)), str(error)
    assert str(folder) in str(error) or case["error"] == "CatalogError"
    assert not (run.dir / "catalog.parquet").exists() and not list(run.dir.rglob("*unfinished*"))
    songs_read = {p.name: p.stat().st_mtime_ns for p in run.dir.glob("songs/shard-*/*")}
    for path in [folder / "corpus", *folder.glob("corpus/**/")]:
        path.chmod(0o755)
    shutil.rmtree(folder / "corpus")
    shutil.copytree(sound.folder, folder / "corpus")
    assert_frame_equal(catalog.build_catalog(run), sound.table)
    now = {p.name: p.stat().st_mtime_ns for p in run.dir.glob("songs/shard-*/*")}
    assert songs_read.items() <= now.items(), "songs were read again"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_row(case, sound, spoiled, as_nobody):
    outcome = SPOIL[case["case"]](spoiled)
    if case["case"].startswith("track_"):
        check_tracks(case, outcome, spoiled, sound)
        return
    run, result = built(case, outcome, sound, as_nobody)
    if case["done"] == "refused":
        assert isinstance(result, Exception), "not refused"
        check_refused(case, outcome, run, result, sound, as_nobody.folder)
    else:
        assert bool(outcome.places) == (case["done"] == "set aside")
        check_set_aside(case, outcome, run, result, sound)


def check_tracks(case, outcome, spoiled, sound):
    """The list of tracks has a reader; no build reads it."""
    tracks, aside = plays.read_unique_tracks(spoiled.text("tracks"))
    whole, none = plays.read_unique_tracks(sound.text("tracks"))
    assert not len(none)
    assert list(zip(aside["file"], aside["line"], strict=True)) == outcome.places
    assert set(aside["reason"]) == {case["shown"]}
    expected = whole[~whole["track_id"].isin(outcome.lost)].reset_index(drop=True)
    assert_frame_equal(tracks, expected)


# All of it together


def test_many_faults_at_once_are_counted_in_what_build_prints(sound, spoiled, as_nobody):
    kinds = ["song_nan", "label_twice", "lyric_in_train_and_test", "stem_with_two_words",
             "triplet_count_0", "triplet_cut_off", "mismatch_wrong_id"]  # fmt: skip
    n = sum(len(SPOIL[kind](spoiled).places) for kind in kinds)
    params = as_nobody.folder / "params.yaml"
    params.write_text("run: spoiled\nseed: 1\nfeatures: {n_frames: 60}\n")
    words = ["build", str(params), "--data", str(spoiled.folder)]
    told = CliRunner().invoke(cli.main, [*words, "--run-dir", str(as_nobody.folder / "run")])
    assert told.exit_code == 0, told.output
    printed = [" ".join(line.split()) for line in told.output.splitlines()]
    for line in ("readable 7 1", "songs timbre holds values that are not finite 1",
                 "labels repeated 1", "lyrics repeated 1", "lyrics conflicting 2",
                 "plays count of 0 1", "plays cut off 1", "mismatches id of the wrong form 1"):
        assert line in printed, told.output
    run = runs.open_run(as_nobody.folder / "run")
    assert len(catalog.set_aside(run)) == n == 8
    kept = catalog.kept(run.read("catalog.parquet"))["track_id"].tolist()
    assert sorted(kept) == sorted({*sound.table["track_id"]} - {spoiled.track})  # mismatch unread
    assert features.open_store(run.path("features")).track_ids.tolist() == kept


def test_the_table_has_a_test_for_each_row_and_all_sources():
    names = [case["case"] for case in CASES]
    assert len(set(names)) == len(names) >= 30 and set(names) == set(SPOIL)
    assert {case["source"] for case in CASES} == set(layout.SOURCES)
    assert {case["done"] for case in CASES} == {"set aside", "refused", "used"}


def test_the_page_shows_the_table_as_it_is():
    page = nbformat.read(ROOT / "nbs" / "guides" / "bad_input.ipynb", 4)
    (cell,) = (cell for cell in page.cells if "label: tbl-bad-input" in cell.source)
    shown = cell.outputs[0]["data"]["text/markdown"]
    rows = [line.strip("| ") for line in shown.splitlines()[2:]]
    assert len(rows) == len(CASES)
    for case, row in zip(CASES, rows, strict=True):
        told = [case["source"], case["what"], case["done"], case["shown"]]
        assert [cell.strip() for cell in row.split(" | ")] == told
