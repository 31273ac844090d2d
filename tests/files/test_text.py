"""Files as other people keep them: compressed, cut off, damaged, unreadable, of endless lines."""

import gzip
import os

import pytest

from msd_genre.datasets.plays import PlaysError, play_counts, read_triplets
from msd_genre.files import text

ROWS = "".join(f"user{i}\tSOA{i % 3}\t{i + 1}\n" for i in range(3_000)).encode()


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "triplets.txt"
        path.write_bytes(content)
        triplets, aside = read_triplets([path])
        return triplets["plays"].tolist(), dict(zip(aside["line"], aside["reason"], strict=True))

    return read


def test_what_the_bytes_are_wrapped_in_does_not_matter(read):
    windows = b"\xef\xbb\xbf" + ROWS.replace(b"\n", b"\r\n")
    half = ROWS.index(b"user1500")
    expected = list(range(1, 3_001)), {}
    for content in (
        ROWS,
        windows,
        gzip.compress(ROWS),
        gzip.compress(windows),
        gzip.compress(ROWS[:half]) + gzip.compress(ROWS[half:]) + b"\0" * 9,
    ):
        assert read(content) == expected


def test_a_compressed_file_that_breaks_off_gives_its_whole_rows(read):
    packed = gzip.compress(ROWS)
    plays, aside = read(packed[: len(packed) // 2])
    assert 100 < len(plays) < 3_000 and plays == list(range(1, len(plays) + 1))
    assert aside == {len(plays) + 1: "cut off"}
    plays, aside = read(packed[:-8])  # all of the text, but neither check sum nor length
    assert len(plays) == 3_000 and aside == {3_001: "cut off"}


def test_a_compressed_file_that_is_damaged_is_refused(read):
    packed = bytearray(gzip.compress(ROWS))
    with pytest.raises(PlaysError, match="cannot be read"):
        read(bytes(packed) + b"and more that nobody compressed")
    for place in (-6, len(packed) // 2):
        damaged = packed.copy()
        damaged[place] ^= 0xFF
        with pytest.raises(PlaysError, match=r"triplets\.txt cannot be read: .*; get it again"):
            read(bytes(damaged))


def test_a_zip_archive_is_named(read):
    with pytest.raises(PlaysError, match="is a zip archive; unpack it"):
        read(b"PK\x03\x04\x14\0\0\0\x08\0")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "triplets.txt"
    path.write_bytes(ROWS)
    if os.geteuid() == 0:  # root may read anything, so the system is made to say no

        def denied(*args):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(type(path), "open", denied)
    else:
        path.chmod(0)
    with pytest.raises(PlaysError, match=r"triplets\.txt cannot be read: .*Permission denied"):
        read_triplets([path])


def test_a_line_of_ten_megabytes_costs_no_other_row(read, monkeypatch):
    monkeypatch.setattr(text, "_READ_BYTES", 1 << 16)
    endless = b"x" * 10_000_000
    for start in (b"", b"user\tSOA1\t1\t", b"\0"):
        plays, aside = read(ROWS + start + endless + b"\n" + ROWS.replace(b"user", b"other"))
        assert plays == [*range(1, 3_001)] * 2 and aside == {3_001: "too long"}
    plays, aside = read(ROWS + endless)
    assert len(plays) == 3_000 and aside == {3_001: "cut off"}


def test_the_wrong_file_is_given_up_early(tmp_path, monkeypatch):
    path = tmp_path / "triplets.txt"
    path.write_bytes(ROWS.replace(b"\t", b" "))
    monkeypatch.setattr(text, "_READ_BYTES", 1 << 10)
    monkeypatch.setattr(text, "_ENOUGH", 100)
    expected = r"[1-9].. of [1-9].. rows cannot be used, most often: spaces for tabs. .* line 1,"
    with pytest.raises(PlaysError, match=expected):
        play_counts([path])


@pytest.mark.parametrize("content", [b"\0" * 5_000, b"\xff\xfeu\0\t\0", b"\n" * 50, b"\x1f\x8b"])
def test_files_that_are_no_text(read, content):
    with pytest.raises(PlaysError, match=r"triplets\.txt"):
        read(content)


def test_what_is_shown_of_a_line_is_short_and_printable():
    assert text._shorten(b"a\tb\x1e\xff\0") == r"a\tb\x1e\xff\x00"
    shown = text._shorten(b"begin" + b"\xff" * 10_000_000 + b"end")
    assert len(shown) < 100 and shown.startswith("begin") and shown.endswith("end")
