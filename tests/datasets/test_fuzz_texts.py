"""Any bytes give rows or a named error; what is read is what a slow, obvious reader reads."""

import gzip
import string
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msd_genre.datasets.labels import LabelError, known_genres, read_labels
from msd_genre.datasets.musixmatch import LyricError, read_counts, read_reverse_mapping
from msd_genre.datasets.plays import (
    _MAX_PLAYS,
    PlaysError,
    play_counts,
    read_mismatches,
    read_triplets,
    read_unique_tracks,
)  # fmt: skip
from msd_genre.files import text as text_module

NAMED = (LabelError, LyricError, PlaysError)
CHECKS = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = 400  # bytes, the longest line while these tests run

# What files hold: sound rows, rows with a fault, what does not belong there at all


ids = {kind: st.sampled_from([f"{kind}A1", f"{kind}B2", f"{kind}C3", f"{kind}DD4"]) for kind in
       ("TR", "SO")}  # fmt: skip
pairs = st.sampled_from([True, True, False]).flatmap(
    lambda unique: st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=unique)
).map(lambda indices: ",".join(f"{index}:{index * 7 % 12 + 1}" for index in indices))
labels = st.builds(
    "{}\t{}{}".format, ids["TR"], st.sampled_from(["Rock", "New Age", "Pop_Rock", "Ska", " Pop "]),
    st.sampled_from(["", "", "\t", "\tFolk", "\tSka"]),
)  # fmt: skip
counts = st.builds("{},{},{}".format, ids["TR"], st.integers(0, 99), pairs)
triplets = st.builds(
    "{}\t{}\t{}".format, st.sampled_from(["ann", "bob", '"c', "NA", "zoë"]), ids["SO"],
    st.sampled_from([1, 2, 30, "007", _MAX_PLAYS, _MAX_PLAYS + 1, 10**12, "0x1", " 1", "+1"]),
)  # fmt: skip
mismatches = st.builds("ERROR: <{} {}> a\x1c  -  b  !=  c{}".format, ids["SO"], ids["TR"],
                       st.sampled_from(["", "  -  é", "<SEP>"]))  # fmt: skip
tracks = st.builds("{}<SEP>{}<SEP>{}<SEP>{}".format, ids["TR"], ids["SO"],
                   st.sampled_from(["", "Nobody", "a\u2028b", '"']),
                   st.sampled_from(["", "x<y", "\x85", "\x1d", "<SEP>"]))  # fmt: skip
words = st.builds("{}<SEP>{}".format, st.sampled_from(["danc", "día", "hous"]),
                  st.sampled_from(["dance", "house"]))  # fmt: skip
stems = st.just("%a,b,c,d,é")
junk = st.sampled_from(
    ["", " ", "# comment", "%", "%a,b", "%a,b,c,d,e", "\t", "\r", "\0", "x\0y", "<SEP>", "a b c",
     "TRA1 Rock", "TRA1,1,0:1", "TRA1,1,6:2", "TRA1,1,2:0", "TRA1,1,2:-1", "TRA1,1,1:1,1:2",
     "TRA1,1,1:9999999999", "TRA1,1,x:1", "ann\tSOA1\t-1", "ann\tSOA1\t0", "ann\tSOA1",
     "x" * (LONG + 1), "TRA1\t" + "R" * LONG, "0" * 50]
)  # fmt: skip


@st.composite
def broken(draw, rows):
    """A sound row in which some bytes are taken out, doubled or replaced."""
    row = draw(rows).encode()
    at = draw(st.integers(0, len(row)))
    cut = draw(st.integers(0, 3))
    put = draw(st.sampled_from([b"", b"\t", b"\r", b"\n", b"\0", b"\xff", b",", b":", b" ", b"0"]))
    return row[:at] + put + row[at + cut :]


@st.composite
def texts(draw, rows, head=None):
    """A file's content as bytes, not compressed: mostly sound rows."""
    line = st.one_of(rows.map(str.encode), rows.map(str.encode), broken(rows), junk.map(str.encode))
    found = draw(st.lists(line, max_size=12))
    if head is not None and draw(st.integers(0, 9)):
        found.insert(draw(st.integers(0, 1)), draw(head).encode())
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    content = end.join(found) + draw(st.sampled_from([end, end, b""]))
    return draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + content


@contextmanager
def small_blocks(block_bytes):
    """Files read in pieces of a few bytes, as real ones are in pieces of millions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_READ_BYTES", block_bytes)
        patch.setattr(text_module, "_LINE_BYTES", LONG)
        yield


blocks = st.sampled_from([1, 7, 64, 1 << 20])


def read_both(folder, content, block_bytes, read, compress=False):
    """What a reader gives for a content; None where it raises its named error."""
    path = folder / "text.txt"
    path.write_bytes(gzip.compress(content) if compress else content)
    with small_blocks(block_bytes):
        try:
            return read(path)
        except NAMED as error:
            assert "text.txt" in str(error)
            return None


# The slow, obvious reader


def is_id(text, kind):
    letters = {*string.ascii_uppercase, *string.digits}
    return len(text) > 2 and text[:2] == kind and set(text) <= letters


def is_number(text):
    return text != "" and set(text) <= set(string.digits)


def is_plain(text):
    return text != "" and all(ord(letter) >= 32 for letter in text)


def plain_lines(content, comments=""):
    """Of each line that counts: its number, its text (None: it is none), whether it is whole."""
    *whole, last = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate([*whole, last], start=1):
        line = line.removesuffix(b"\r")
        if not line.strip() or (comments and line.startswith(comments.encode())):
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        if text is None or len(line) + 1 > LONG or "\0" in text:
            text = None
        yield number, text, number <= len(whole)


def plain_read(content, parse, comments="", keep_cut=False):
    """Rows as (number, what `parse` gives), and numbers of the lines that are none."""
    rows, aside = [], []
    for number, text, whole in plain_lines(content, comments):
        row = parse(text) if text is not None and (whole or keep_cut) else None
        if row is None:
            aside.append(number)
        else:
            rows.append((number, *row))
    return rows, aside


def without_repetitions(rows, aside):
    """Rows with each key once; none of those whose values differ."""
    values = {}
    for _, key, value, *_ in rows:
        values.setdefault(key, set()).add(value)
    kept, seen = [], set()
    for number, key, *rest in rows:
        if len(values[key]) > 1 or key in seen:
            aside.append(number)
        else:
            kept.append((key, *rest))
        seen.add(key)
    return kept, aside


def refused(n_rows, aside):
    return n_rows == 0 or 2 * len(aside) > n_rows


def check(result, kept, aside, n_rows):
    """A reader reads, sets aside and refuses what the slow one does."""
    if refused(n_rows, aside):
        assert result is None
        return
    assert result is not None, "refused a file that the slow reader reads"
    rows, table = result
    assert rows == kept
    table = table[table["reason"] != "unknown minority genre"]
    assert sorted(table["line"]) == sorted(aside)


# Each reader beside it


def plain_label(text):
    parts = text.split("\t")
    if len(parts) not in (2, 3) or not is_id(parts[0], "TR"):
        return None
    genre, minority = (part.strip(" ") for part in [*parts[1:], ""][:2])
    if not is_plain(genre) or (minority and not is_plain(minority)):
        return None
    return parts[0], genre, minority


@CHECKS
@given(texts(labels), blocks, st.booleans())
def test_labels(tmp_path, content, block_bytes, compress):
    def read(path):
        table, aside = read_labels(path)
        return [tuple(row) for row in table.fillna("").to_numpy().tolist()], aside

    rows, aside = plain_read(content, plain_label, "#", keep_cut=True)
    n_rows, n_lines = len(rows) + len(aside), content.count(b"\n") + 1
    above = {genre for number, _, genre, _ in rows if number < n_lines}
    good = [r for r in rows if r[2] in known_genres() and (r[0] < n_lines or r[2] in above)]
    aside += [row[0] for row in rows if row not in good]
    kept, aside = without_repetitions(good, aside)
    kept = sorted((t, g, m if m in known_genres() else "") for t, g, m in kept)
    check(read_both(tmp_path, content, block_bytes, read, compress), kept, aside, n_rows)


def plain_triplet(text):
    parts = text.split("\t")
    if len(parts) != 3 or not is_plain(parts[0]) or not is_id(parts[1], "SO"):
        return None
    if not is_number(parts[2]) or not 1 <= int(parts[2]) <= _MAX_PLAYS:
        return None
    return (parts[0], parts[1]), int(parts[2])


@CHECKS
@given(texts(triplets), blocks, st.booleans())
def test_triplets(tmp_path, content, block_bytes, compress):
    def read(path):
        table, aside = read_triplets([path])
        by_song = table.astype({"song_id": "str"}).groupby("song_id")
        counts = by_song.agg(plays=("plays", "sum"), listeners=("user", "nunique")).reset_index()
        assert play_counts([path])[0].to_numpy().tolist() == counts.to_numpy().tolist()
        rows = table.astype("object").to_numpy().tolist()
        return [((user, song), n) for user, song, n in rows], aside

    rows, aside = plain_read(content, plain_triplet)
    n_rows, first = len(rows) + len(aside), {}
    for number, pair, n in rows:
        if pair in first:
            aside.append(number)
        else:
            first[pair] = n
    result = read_both(tmp_path, content, block_bytes, read, compress)
    check(result, list(first.items()), aside, n_rows)


def plain_mismatch(text):
    head, closed, _ = text.partition("> ")
    names = head.removeprefix("ERROR: <").split(" ")
    if not (head.startswith("ERROR: <") and closed and len(names) == 2):
        return None
    return (tuple(names), "") if is_id(names[0], "SO") and is_id(names[1], "TR") else None


@CHECKS
@given(texts(mismatches), blocks)
def test_mismatches(tmp_path, content, block_bytes):
    def read(path):
        table, aside = read_mismatches(path)
        return [(tuple(pair), "") for pair in table.to_numpy().tolist()], aside

    rows, aside = plain_read(content, plain_mismatch)
    kept = [(pair, "") for _, pair, _ in rows]
    check(read_both(tmp_path, content, block_bytes, read), kept, aside, len(rows) + len(aside))


def plain_track(text):
    parts = text.split("<SEP>")
    sound = len(parts) == 4 and is_id(parts[0], "TR") and is_id(parts[1], "SO")
    return tuple(parts) if sound else None


@CHECKS
@given(texts(tracks), blocks)
def test_unique_tracks(tmp_path, content, block_bytes):
    def read(path):
        table, aside = read_unique_tracks(path)
        return [tuple(row) for row in table.to_numpy().tolist()], aside

    rows, aside = plain_read(content, plain_track)
    n_rows = len(rows) + len(aside)
    kept, aside = without_repetitions(rows, aside)
    check(read_both(tmp_path, content, block_bytes, read), kept, aside, n_rows)


def plain_word(text):
    parts = text.split("<SEP>")
    sound = len(parts) == 2 and all(is_plain(p) and not set(p) & set("<>") for p in parts)
    return tuple(parts) if sound else None


@CHECKS
@given(texts(words), blocks)
def test_reverse_mapping(tmp_path, content, block_bytes):
    def read(path):
        mapping, aside = read_reverse_mapping(path)
        return list(mapping.items()), aside

    rows, aside = plain_read(content, plain_word)
    n_rows = len(rows) + len(aside)
    kept, aside = without_repetitions(rows, aside)
    check(read_both(tmp_path, content, block_bytes, read), kept, aside, n_rows)


def plain_bag(text, n_stems):
    track, *rest = text.split(",")
    if not is_id(track, "TR") or len(rest) < 2 or not is_number(rest[0]):
        return None
    bag = {}
    for pair in rest[1:]:
        index, colon, count = pair.partition(":")
        if not (colon and is_number(index) and is_number(count)) or max(len(index), len(count)) > 9:
            return None
        if not 1 <= int(index) <= n_stems or int(count) < 1 or int(index) in bag:
            return None
        bag[int(index)] = int(count)
    return track, bag


@CHECKS
@given(texts(counts, stems), blocks, st.booleans())
def test_counts(tmp_path, content, block_bytes, compress):
    def read(path):
        lyrics, aside = read_counts({"train": path})
        table = lyrics.counts.todok()
        bags = {track: {} for track in lyrics.track_ids.tolist()}
        for (row, column), n in table.items():
            bags[lyrics.track_ids[row]][column + 1] = n
        return list(bags.items()), aside

    result = read_both(tmp_path, content, block_bytes, read, compress)
    found = list(plain_lines(content, "#"))
    heads = [text for _, text, whole in found if whole and text and text.startswith("%")]
    names = heads[0][1:].split(",") if len(heads) == 1 else []
    if not names or "" in names or len(set(names)) < len(names):
        assert result is None
        return
    rows, aside = plain_read(
        content, lambda text: ("%",) if text[0] == "%" else plain_bag(text, len(names)), "#"
    )
    rows = [row for row in rows if row[1] != "%"]
    n_rows, first = len(rows) + len(aside), {}
    for number, track, bag in rows:
        if track in first:
            aside.append(number)
        else:
            first[track] = bag
    check(result, list(first.items()), aside, n_rows)


# Any bytes at all


READERS = {
    "labels": read_labels,
    "any labels": lambda path: read_labels(path, genres=None),
    "counts": lambda path: read_counts({"test": path}),
    "reverse mapping": read_reverse_mapping,
    "triplets": lambda path: read_triplets([path]),
    "mismatches": read_mismatches,
    "unique tracks": read_unique_tracks,
}
starts = st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"PK\x03\x04", b"\xff\xfe", b"%a\n"])


@CHECKS
@given(starts, st.binary(max_size=300), blocks, st.sampled_from(list(READERS)))
def test_any_bytes(tmp_path, start, rest, block_bytes, name):
    read_both(tmp_path, start + rest, block_bytes, READERS[name])


@CHECKS
@given(texts(triplets), st.data(), blocks)
def test_compressed_bytes_that_are_damaged(tmp_path, content, data, block_bytes):
    packed = bytearray(gzip.compress(content))
    for at in data.draw(st.lists(st.integers(0, len(packed) - 1), max_size=2)):
        packed[at] = data.draw(st.integers(0, 255))
    packed = bytes(packed[: data.draw(st.integers(0, len(packed)))])
    read_both(tmp_path, packed, block_bytes, READERS["triplets"])
