"""Downloads from a server on the loopback address that fails in every way that we know."""

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from filelock import FileLock

from msd_genre import cli
from msd_genre.files import download
from msd_genre.files.download import FetchError, _list_offers, _read_downloads, fetch
from msd_genre.files.layout import find_layout

QUICK = {"attempts": 3, "wait_s": 0.01, "stall_s": 0.3, "progress": False}
ROW = "TR{:016d}\tPop_Rock\n"
LABELS = "".join(ROW.format(n) for n in range(40_000)).encode()  # 1.1 MB
CLS, TEXT = "tagtraum/labels.cls", "AdditionalFiles/list.txt"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def zipped(**members):
    # stored, not deflated: half a file must be large enough to be worth keeping
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def songs_archive(*names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"song"))
    return out.getvalue()


GOOD = zipped(**{"labels.cls": LABELS})


class Handler(BaseHTTPRequestHandler):
    """Answers from `server.site`; `server.site.faults` are used up one a request."""

    def log_message(self, *words):
        pass

    def do_GET(self):
        site = self.server.site
        site.asked.append(dict(self.headers) | {"path": self.path})
        fault, value = site.faults.pop(0) if site.faults else ("", None)
        body = site.files[self.path]
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        if site.dated:  # a tag that is no good for going on, and a date that is
            tag = f"Mon, 01 Jan 2024 00:00:{len(body) % 60:02} GMT"
        first = 0
        if fault in ("status", "busy"):
            self.send_response(429 if fault == "busy" else value)
            if fault == "busy":
                self.send_header("Retry-After", str(value))
            self.end_headers()
            return
        if fault == "page":
            body, tag = PAGE, None
        elif site.ranges and (site.deaf or self.headers["If-Range"] == tag):
            first = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if 0 < first >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        until = first + value if fault in ("cut", "stall", "piece") else len(body)
        end = until if fault == "piece" else len(body)  # less than the rest, as a server may
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(body)}")
        if site.lengths:
            self.send_header("Content-Length", str(end - first))
        if tag and site.tags:
            self.send_header("Last-Modified" if site.dated else "ETag", tag)
        if site.dated:
            self.send_header("ETag", 'W/"weak"')
        if site.encoding:  # as some servers say of a .tar.gz
            self.send_header("Content-Encoding", site.encoding)
        self.end_headers()
        self.wfile.write(body[first:until])
        self.wfile.flush()
        if fault == "stall":
            site.released.wait(5)


@pytest.fixture
def site():
    """A server: its files by path, its faults, what it was asked, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = SimpleNamespace(
        files={"/labels.zip": GOOD, "/list.txt": LABELS}, faults=[], asked=[],
        ranges=True, deaf=False, tags=True, dated=False, encoding="", lengths=True,
        released=threading.Event(),
        address=f"http://127.0.0.1:{server.server_port}",
    )  # fmt: skip
    server.site = site
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    site.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def into(tmp_path):
    return tmp_path / "msd"


def table(tmp_path, site, **row):
    """A table with one dataset `labels`, a zip; `row` replaces what it says."""
    file = {
        "addresses": [f"{site.address}/labels.zip"], "kind": "zip", "member": "labels.cls",
        "holds": "^TR", **row,
    }  # fmt: skip
    file = {key: value for key, value in file.items() if value is not None}
    path = tmp_path / "table.yaml"
    rows = {"title": "t", "terms": "t", "page": "p", "files": {file.pop("to", CLS): file}}
    path.write_text(yaml.safe_dump({"labels": rows}))
    return path


def get(tmp_path, site, into, row=None, **options):
    said = []
    options = QUICK | {"say": said.append} | options
    fetch(["labels"], into, table=table(tmp_path, site, **(row or {})), **options)
    return said


def refused(tmp_path, site, into, row=None, **options):
    """The message of a fetch that fails; nothing has its final name afterwards."""
    with pytest.raises(FetchError) as error:
        get(tmp_path, site, into, row, **options)
    assert not (into / CLS).exists() and not (into / TEXT).exists()
    assert not (into / "downloads.json").exists()
    return str(error.value)


def partial(into):
    """Bytes that are kept for the next time."""
    return sum(path.stat().st_size for path in (into / ".fetch").glob("*.part"))


def test_a_file_is_fetched_unpacked_recorded_and_not_asked_for_again(tmp_path, site, into):
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS
    entry = json.loads((into / "downloads.json").read_text())[CLS]
    assert entry["sha256"] == hashlib.sha256(GOOD).hexdigest()
    assert (entry["bytes"], entry["file_bytes"]) == (len(GOOD), len(LABELS))
    assert entry["address"] == f"{site.address}/labels.zip" and entry["date"].startswith("20")
    assert get(tmp_path, site, into) == [f"{CLS}: there already"] and len(site.asked) == 1
    left = {path.name for path in (into / ".fetch").iterdir()}
    assert left <= {"lock"}, "nothing of the download is left beside it"
    assert find_layout(into).labels == {"labels": into / CLS}


def test_a_broken_download_goes_on_where_it_broke_off(tmp_path, site, into):
    site.faults = [("cut", 700_000), ("cut", 200_000)]
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS
    starts = [int(asked.get("Range", "bytes=0-")[6:-1]) for asked in site.asked]
    assert starts[0] == 0 and 600_000 < starts[1] <= 700_000 < starts[2] <= 900_000
    assert site.asked[1]["If-Range"] == f'"{hashlib.md5(GOOD).hexdigest()}"'


def test_progress_counts_however_often_it_breaks(tmp_path, site, into):
    site.faults = [("cut", 150_000)] * 7
    get(tmp_path, site, into, attempts=2)
    assert (into / CLS).read_bytes() == LABELS and len(site.asked) == 8


def test_a_server_may_send_less_than_the_rest(tmp_path, site, into):
    site.faults, site.encoding = [("cut", 300_000), ("piece", 200_000)], "x-gzip"
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS and len(site.asked) == 3


def test_each_address_has_its_own_partial_file(tmp_path, site, into):
    addresses = [f"{site.address}/labels.zip", f"{site.address}/mirror.zip"]
    site.files["/mirror.zip"] = zipped(**{"labels.cls": LABELS.replace(b"Pop", b"Bop")})
    site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    site.faults += [("cut", 200_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    message = refused(tmp_path, site, into, {"addresses": addresses})
    assert all(f"  {address} broke off" in message for address in addresses)
    get(tmp_path, site, into, {"addresses": addresses})
    assert (into / CLS).read_bytes() == LABELS and int(site.asked[-1]["Range"][6:-1]) > 600_000
    assert not list((into / ".fetch").glob("*.part*"))


def test_it_goes_on_in_the_next_call_too(tmp_path, site, into):
    site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    message = refused(tmp_path, site, into)
    assert "broke off" in message and "3 attempts without progress" in message
    kept = partial(into)
    assert kept > 600_000
    offers = _list_offers(into, table(tmp_path, site)).set_index("name")
    assert offers.loc["labels", "state"].startswith(f"0 of 1 files there; {CLS} partial: ")
    said = get(tmp_path, site, into)
    assert "partial" in said[0] and (into / CLS).read_bytes() == LABELS
    assert site.asked[-1]["Range"] == f"bytes={kept}-"


def test_a_server_that_cannot_resume_is_asked_for_the_whole(tmp_path, site, into):
    site.ranges, site.faults = False, [("cut", 700_000)]
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS and len(site.asked) == 2


def test_without_a_version_nothing_is_appended(tmp_path, site, into):
    site.tags, site.faults = False, [("cut", 700_000)]
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS
    assert "Range" not in site.asked[1]


@pytest.mark.parametrize("deaf", [False, True], ids=["If-Range", "If-Range ignored"])
def test_a_file_that_changes_between_the_halves_is_not_spliced(tmp_path, site, into, deaf):
    newer = zipped(**{"labels.cls": LABELS.replace(b"Pop_Rock", b"Electric")})
    assert len(newer) == len(GOOD)
    site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    refused(tmp_path, site, into)
    site.files["/labels.zip"], site.deaf = newer, deaf
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS.replace(b"Pop_Rock", b"Electric")


def test_a_file_of_another_length_is_not_spliced_whatever_its_version(tmp_path, site, into):
    site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    refused(tmp_path, site, into)
    site.files["/labels.zip"] = zipped(**{"labels.cls": LABELS.replace(b"Pop", b"Rock_n_Pop")})
    site.deaf, site.tags = True, False
    get(tmp_path, site, into)
    assert b"Rock_n_Pop" in (into / CLS).read_bytes()[:100]


def test_a_date_will_do_where_the_tag_is_weak(tmp_path, site, into):
    site.dated, site.faults = True, [("cut", 700_000)]
    get(tmp_path, site, into)
    assert site.asked[1]["If-Range"].startswith("Mon, 01 Jan 2024") and "Range" in site.asked[1]
    assert (into / CLS).read_bytes() == LABELS


def test_a_partial_file_that_is_whole_needs_no_more_bytes(tmp_path, site, into):
    site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    refused(tmp_path, site, into)
    [part] = (into / ".fetch").glob("*.part")
    part.write_bytes(GOOD)  # as after a kill between the last byte and the rename
    site.asked.clear()
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS and site.asked == []


def test_a_stalled_line_counts_as_broken(tmp_path, site, into):
    site.faults = [("stall", 700_000)]
    began = time.monotonic()
    get(tmp_path, site, into)
    assert time.monotonic() - began < 5, "it did not wait for the server to give up"
    assert (into / CLS).read_bytes() == LABELS and "Range" in site.asked[1]
    (into / CLS).unlink()
    (into / "downloads.json").unlink()
    site.faults = [("stall", 0)] * 3
    assert "sent nothing for 0.3 s" in refused(tmp_path, site, into)


def test_a_busy_server_is_asked_again_and_not_for_ever(tmp_path, site, into):
    site.faults = [("status", 503), ("status", 503)]
    get(tmp_path, site, into)
    assert len(site.asked) == 3
    (into / CLS).unlink()
    (into / "downloads.json").unlink()
    site.asked.clear()
    site.faults = [("status", 503)] * 9
    message = refused(tmp_path, site, into)
    assert "answered 503 Service Unavailable (3 attempts" in message and len(site.asked) == 3


def test_waits_grow_up_to_a_minute_and_follow_the_server(tmp_path, site, into, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    site.faults = [("status", 503)] * 8 + [("busy", 7)]
    site.faults += [("status", 404)]
    assert "404" in refused(tmp_path, site, into, attempts=12, wait_s=1)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    waits.clear()
    site.faults = [("busy", 7), ("status", 404)]
    refused(tmp_path, site, into, attempts=12, wait_s=1)
    assert waits == [7]


def test_a_file_that_is_not_there_is_asked_for_once(tmp_path, site, into):
    site.faults = [("status", 404)] * 3
    message = refused(tmp_path, site, into)
    assert f"{site.address}/labels.zip answered 404 Not Found" in message
    assert "--table" in message and str(into) in message and len(site.asked) == 1


def test_the_next_address_is_tried(tmp_path, site, into):
    site.faults = [("status", 404)]
    site.files["/mirror.zip"] = GOOD
    get(tmp_path, site, into,
        {"addresses": [f"{site.address}/labels.zip", f"{site.address}/mirror.zip"]})  # fmt: skip
    entry = json.loads((into / "downloads.json").read_text())[CLS]
    assert entry["address"].endswith("/mirror.zip") and (into / CLS).read_bytes() == LABELS


def test_nobody_at_the_address(tmp_path, site, into):
    row = {"addresses": ["http://127.0.0.1:9/labels.zip"]}
    assert "gave no answer (ConnectionError) (3 attempts" in refused(tmp_path, site, into, row)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "text"])
def test_an_error_page_with_status_200_is_no_file(tmp_path, site, into, kind):
    site.files["/labels.zip"] = PAGE
    row = {"kind": kind, "member": "labels.cls" if kind == "zip" else None}
    message = refused(tmp_path, site, into, row)
    assert f"sent a web page instead of a {kind} file: 'Sign in'" in message
    assert len(site.asked) == 1 and partial(into) == 0


def test_an_error_page_does_not_cost_the_partial_file(tmp_path, site, into):
    site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
    refused(tmp_path, site, into)
    kept = partial(into)
    site.faults = [("page", None)]
    assert "web page" in refused(tmp_path, site, into)
    assert partial(into) == kept > 600_000
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS and site.asked[-1]["Range"] == f"bytes={kept}-"


def test_wrong_bytes_of_the_right_size(tmp_path, site, into):
    known = f"sha256:{hashlib.sha256(GOOD).hexdigest()}"
    site.files["/labels.zip"] = zipped(**{"labels.cls": LABELS.replace(b"Pop", b"Bop")})
    row = {"hash": known, "size": len(GOOD)}
    message = refused(tmp_path, site, into, row)
    assert f"another hash than {known} (the table)" in message and "--accept-changed" in message
    get(tmp_path, site, into, row, accept_changed=True)
    assert b"Bop_Rock" in (into / CLS).read_bytes()


def test_a_hash_is_recorded_on_first_use_and_holds_from_then_on(tmp_path, site, into):
    get(tmp_path, site, into)
    record = (into / "downloads.json").read_text()
    (into / CLS).unlink()
    site.files["/labels.zip"] = zipped(**{"labels.cls": LABELS + b"TR1\tnew\n"})
    with pytest.raises(FetchError, match=r"another hash .*downloads.json, fetched 20") as error:
        get(tmp_path, site, into)
    assert f"sha256:{hashlib.sha256(GOOD).hexdigest()}" in str(error.value)
    assert not (into / CLS).exists() and (into / "downloads.json").read_text() == record
    get(tmp_path, site, into, accept_changed=True)
    assert (into / CLS).read_bytes().endswith(b"new\n")
    assert (into / "downloads.json").read_text() != record


def test_a_copy_that_others_had_is_told_not_refused(tmp_path, site, into):
    seen = f"md5:{hashlib.md5(GOOD).hexdigest()}"
    said = get(tmp_path, site, into, {"seen": seen})
    assert said[1].startswith(f"{CLS}: the same bytes as the copy whose md5 others recorded")
    (into / CLS).unlink()
    said = get(tmp_path, site, into, {"seen": "md5:" + "0" * 32})
    assert said[1].startswith(f"{CLS}: not the same bytes") and (into / CLS).is_file()


@pytest.mark.parametrize("lengths", [True, False], ids=["length said", "length not said"])
def test_fewer_bytes_than_published(tmp_path, site, into, lengths):
    site.lengths = lengths
    message = refused(tmp_path, site, into, {"size": len(GOOD) + 1})
    wording = "are published" if lengths else "were expected"
    assert f"{len(GOOD):,} bytes; {len(GOOD) + 1:,} {wording}" in message


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "sent an empty file"),
        (b"PK\x03\x04" + b"x" * 500, "sent a damaged zip file"),
        (GOOD[:-500] + bytes(500), "sent a damaged zip file"),
        (GOOD.replace(b"Pop_Rock", b"Pop_Rack", 1), "sent a damaged zip file: Bad CRC-32"),
        (zipped(**{"other.txt": b"TR"}), "0 files labels.cls; it holds other.txt"),
        (zipped(**{"../labels.cls": LABELS}), "a file outside of itself: '../labels.cls'"),
        (zipped(**{"labels.cls": LABELS, "/etc/x": b""}), "a file outside of itself: '/etc/x'"),
        (zipped(**{"labels.cls": b"# only a comment\n"}), "a text without a line like '^TR'"),
        (b"\x1f\x8b not a zip", "something that is not a zip file; it starts with"),
    ],
    ids=["empty", "no zip", "no index", "wrong bytes", "no member", "path traversal",
         "absolute path", "no rows", "gzip"],
)  # fmt: skip
def test_a_zip_that_is_not_what_it_says(tmp_path, site, into, content, words):
    site.files["/labels.zip"] = content
    assert words in refused(tmp_path, site, into)
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".cls"]
    site.files["/labels.zip"] = GOOD
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS, "what was refused is not gone on with"


def test_a_zip_with_folders_gives_the_one_file(tmp_path, site, into):
    site.files["/labels.zip"] = zipped(
        **{"a/": b"", "a/labels.cls": LABELS, "__MACOSX/._labels.cls": b"x"}
    )
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS


TARBALL = {"kind": "tar.gz", "member": None, "holds": r"\.h5$", "to": "songs.tar.gz"}
OLD, NEW = "MillionSongSubset/data/A/B/C/TR1.h5", "MillionSongSubset/A/B/C/TR1.h5"


@pytest.mark.parametrize(
    "content, words",
    [
        (songs_archive(OLD)[:-6], "sent a damaged tar.gz file"),
        (songs_archive(OLD)[:-8] + bytes(8), "sent a damaged tar.gz file: CRC check failed"),
        (songs_archive("a/readme.txt"), "an archive without a file name like"),
        (LABELS, "something that is not a tar.gz file"),
    ],
    ids=["cut", "checksum", "no songs", "text"],
)
def test_an_archive_of_songs_is_read_through(tmp_path, site, into, content, words):
    site.files["/labels.zip"] = content
    assert words in refused(tmp_path, site, into, TARBALL)
    assert not (into / "songs.tar.gz").exists()


def test_an_archive_is_kept_as_it_is_whatever_the_server_calls_it(tmp_path, site, into):
    site.files["/labels.zip"], site.encoding = songs_archive(OLD), "x-gzip"
    get(tmp_path, site, into, TARBALL)
    assert (into / "songs.tar.gz").read_bytes() == site.files["/labels.zip"]


@pytest.mark.parametrize("name", [OLD, NEW], ids=["data inside", "letters inside"])
def test_songs_stay_packed(tmp_path, site, into, name):
    site.files["/labels.zip"] = songs_archive(name)
    get(tmp_path, site, into, TARBALL)
    assert find_layout(into).songs == into / "songs.tar.gz"
    get(tmp_path, site, into, TARBALL)
    assert len(site.asked) == 1, "the archive that is there is not fetched again"


def test_a_text_is_taken_as_it_is(tmp_path, site, into):
    row = {"addresses": [f"{site.address}/list.txt"], "kind": "text", "member": None, "to": TEXT}
    site.faults = [("cut", 600_000)]
    get(tmp_path, site, into, row)
    assert (into / TEXT).read_bytes() == LABELS


def test_the_disk_is_looked_at_before_anything_is_asked(tmp_path, site, into, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_000_000))
    message = refused(tmp_path, site, into, {"about": 2_000_000, "unpacked": 2_500_000})
    assert f"not enough disk for {CLS}: 4.50MB needed, 3.00MB free in {into}" in message
    assert site.asked == []


def test_the_disk_is_looked_at_again_when_the_size_is_known(tmp_path, site, into, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    message = refused(tmp_path, site, into)
    assert "not enough disk for labels.cls.zip" in message and len(site.asked) == 1


def test_a_disk_that_is_full_after_all(tmp_path, site, into, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    message = refused(tmp_path, site, into)
    assert "No space left on device" in message and "Make room; the same command goes on" in message
    monkeypatch.undo()
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS and len(site.asked) == 1, "the download was kept"


def test_a_folder_that_cannot_be_written(tmp_path, site):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"cannot be written: .*--into") as error:
        get(tmp_path, site, tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value) and site.asked == []


def test_a_bar_shows_how_far_it_is(tmp_path, site, into, capfd):
    site.faults = [("cut", 700_000)]
    get(tmp_path, site, into, progress=True)
    shown = capfd.readouterr().err
    assert "labels.zip: 100%" in shown and "1.12M/1.12M" in shown
    assert re.search(r"(6\d\d|700)k/1\.12M \[00:00<\?", shown), "the second bar starts at its half"


def test_one_fetch_at_a_time(tmp_path, site, into):
    (into / ".fetch").mkdir(parents=True)
    with FileLock(into / ".fetch" / "lock"):
        assert "another fetch into" in refused(tmp_path, site, into)
    assert site.asked == []


def test_a_file_that_was_changed_by_hand_is_left_alone(tmp_path, site, into):
    get(tmp_path, site, into)
    (into / CLS).write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"changed: 4 bytes, 1,\d\d\d,\d\d\d when it was fetched"):
        get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == b"mine"


def test_a_file_that_was_put_there_by_hand_is_used(tmp_path, site, into):
    (into / CLS).parent.mkdir(parents=True)
    (into / CLS).write_bytes(b"mine")
    assert get(tmp_path, site, into) == [f"{CLS}: there already"] and site.asked == []


def test_a_damaged_record_says_so(tmp_path, site, into):
    into.mkdir()
    (into / "downloads.json").write_text("{")
    with pytest.raises(FetchError, match=r"downloads.json is damaged .* Move it away"):
        get(tmp_path, site, into)


def test_one_file_that_fails_does_not_stop_the_others(tmp_path, site, into):
    more = yaml.safe_load(table(tmp_path, site).read_text())
    files = more["labels"]["files"]
    more["labels"]["files"] = {"a.txt": {"addresses": [f"{site.address}/list.txt"], "kind": "text",
                                         "holds": "never"}, **files}  # fmt: skip
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(more))
    with pytest.raises(FetchError, match=r"a\.txt is unavailable"):
        fetch(["labels"], into, table=tmp_path / "table.yaml", **QUICK, say=lambda line: None)
    assert (into / CLS).read_bytes() == LABELS and not (into / "a.txt").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_what_was_got_is_kept_when_it_is_stopped(tmp_path, site, into, stop):
    site.faults = [("stall", 700_000)]
    code = (
        "import sys; from msd_genre.cli import main; "
        "main(['fetch', 'labels', '--into', sys.argv[1], '--table', sys.argv[2]])"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(into), str(table(tmp_path, site))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's & ignores it
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while partial(into) < 600_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(stop)
    said, _ = run.communicate(timeout=20)
    if stop == signal.SIGINT:
        assert run.returncode == 1 and "Traceback" not in said
        assert f"interrupted; what was got is kept in {into}. The same command goes on" in said
    assert partial(into) >= 600_000 and not (into / CLS).exists()
    site.released.set()
    get(tmp_path, site, into)
    assert (into / CLS).read_bytes() == LABELS and "Range" in site.asked[-1]


def test_a_part_without_its_note_or_a_note_without_its_part_is_not_gone_on_with(
    tmp_path, site, into
):
    for leftover in ("note", "part"):
        site.faults = [("cut", 700_000), ("cut", 0), ("cut", 0), ("cut", 0)]
        refused(tmp_path, site, into)
        [part] = (into / ".fetch").glob("*.part")
        (part.with_name(part.name + ".json") if leftover == "note" else part).unlink()
        get(tmp_path, site, into)
        assert "Range" not in site.asked[-1] and (into / CLS).read_bytes() == LABELS
        shutil.rmtree(into)


# -- the table --


def test_our_table_is_whole():
    offers = _read_downloads()
    assert list(offers) == ["subset", "tagtraum", "lyrics", "plays", "lists"]
    for offer in offers.values():
        assert offer.terms and offer.page.startswith("http")
        for file in offer.files:
            assert file.addresses and file.about > 0
            assert file.kind == "text" or file.unpacked > file.about


def test_what_is_fetched_is_what_find_layout_finds(tmp_path):
    for offer in _read_downloads().values():
        for file in offer.files:
            (tmp_path / file.to).parent.mkdir(exist_ok=True)
            (tmp_path / file.to).touch()
    layout = find_layout(tmp_path)
    assert layout.songs == tmp_path / "millionsongsubset.tar.gz"
    assert set(layout.labels) == {f"msd_tagtraum_{cd}" for cd in ("cd1", "cd2", "cd2c")}
    assert set(layout.files["lyrics"]) == {"train", "test", "reverse_mapping"}
    assert set(layout.triplets) == {"train"}
    assert set(layout.files["lists"]) == {"unique_tracks", "mismatches"}
    assert set(_list_offers(tmp_path)["state"]) == {"there"}


def test_our_checks_know_the_real_files(real_msd):
    for offer in _read_downloads().values():
        for file in offer.files:
            if file.kind != "tar.gz" and (real_msd / file.to).is_file():
                download._check_text(real_msd / file.to, file.holds)


def test_a_table_of_ones_own_names_only_what_differs(tmp_path, monkeypatch):
    mine = tmp_path / "mine.yaml"
    mine.write_text("""
plays: {files: {taste_profile/train_triplets.txt: {addresses: [https://mirror.example.org/t.zip]}}}
subset: null
lists: {files: {AdditionalFiles/unique_tracks.txt: null}}
""")
    monkeypatch.setenv("MSD_GENRE_DOWNLOADS", str(mine))
    offers = _read_downloads()
    assert "subset" not in offers and len(offers["lists"].files) == 1
    [file] = offers["plays"].files
    assert file.addresses == ("https://mirror.example.org/t.zip",)
    assert file.member == "train_triplets.txt" and offers["plays"].terms


@pytest.mark.parametrize(
    "row, words",
    [
        ({"adresses": ["x"]}, "unknown adresses; there is: addresses, kind"),
        ({"addresses": None}, "no addresses"),
        ({"addresses": "http://x/y"}, "must be a list of http"),
        ({"addresses": ["ftp://x/y"]}, "must be a list of http"),
        ({"kind": "rar"}, "kind is 'rar'; there is: zip, tar.gz, text"),
        ({"member": None}, "a zip has a member"),
        ({"size": "1 GB"}, "size is '1 GB', not a number of bytes"),
        ({"about": -1}, "about is -1, not a number of bytes"),
        ({"hash": "sha256:12"}, "hash is 'sha256:12', not sha256:<64"),
        ({"holds": "("}, "holds is not a regular expression"),
        ({"to": "../x.cls"}, "below the target folder"),
        ({"to": "/x.cls"}, "below the target folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_a_table_is_named_with_its_place(tmp_path, site, row, words):
    path = table(tmp_path, site, **row)
    with pytest.raises(FetchError) as error:
        _read_downloads(path)
    assert words in str(error.value) and f"{path}: labels: " in str(error.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: [", "could not be read"),
        ("- a", "expected datasets by name"),
        ("plays: 3", "expected datasets by name"),
        ("plays: {filez: {}}", "plays: unknown filez; there is: title, terms, page, citation, "
                               "source, roles, files"),
        ("plays: {files: [a]}", "plays: files must be given by their place"),
        ("new: {title: t}", "new: files must be given by their place"),
    ],
)
def test_a_table_that_is_no_table(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FetchError, match=r"mine\.yaml") as error:
        _read_downloads(path)
    assert words in str(error.value)
    with pytest.raises(FetchError, match=r"none\.yaml could not be read"):
        _read_downloads(tmp_path / "none.yaml")


# -- the command --


def ask(*words):
    return CliRunner().invoke(cli.main, ["fetch", *map(str, words)], prog_name="msd-genre")


def test_the_command_lists_fetches_and_lists_again(tmp_path, site, into, monkeypatch):
    monkeypatch.delenv("MSD_GENRE_DATA", raising=False)
    options = ["--table", table(tmp_path, site)]
    shown = ask(*options)
    assert shown.exit_code == 0 and "tagtraum: tagtraum genre annotations" in shown.output
    assert "terms: research use" in shown.output and "here:" not in shown.output
    done = ask("labels", "--into", into, *options)
    assert done.exit_code == 0, done.output
    assert (into / CLS).read_bytes() == LABELS
    shown = ask("--into", into, *options).output
    assert "here: there" in shown and "here: 0 of 3 files there" in shown


def test_the_command_teaches_by_example():
    shown = ask("--help").output
    assert "    msd-genre fetch subset tagtraum lyrics plays lists --into ~/msd" in shown
    assert "            addresses: [https://" in shown, "the example keeps its indentation"


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.delenv("MSD_GENRE_DATA", raising=False)
    assert "--into FOLDER, or set MSD_GENRE_DATA" in ask("plays").output
    seen = ask("plais", "--into", tmp_path / "x")
    assert seen.exit_code == 1 and not (tmp_path / "x").exists()
    expected = "Error: no dataset plais. There is: subset, tagtraum, lyrics, plays, lists."
    assert seen.output.strip() == expected
