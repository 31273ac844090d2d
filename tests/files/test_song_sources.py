"""Where songs may lie: folder trees, archives, addresses; what breaks there and who is to blame."""

import functools
import http.server
import io
import os
import pickle
import shutil
import tarfile
import threading
import warnings

import fsspec
import numpy as np
import pytest

from msd_genre.files import song_sources
from msd_genre.files.song_file import read_song
from msd_genre.files.song_schema import PlaceError, SongError, _song_bytes
from msd_genre.files.song_sources import (
    _find_songs,
    _FolderPlace,
    _open_places,
    _RemotePlace,
    _SongFile,
    _TarPlace,
    _TarStream,
)  # fmt: skip
from msd_genre.workspace.paths import SourceError

IDS = ["TRA", "TRB", "TRC", "TRD"]


def write_song(path):
    """A song of three segments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"start": np.arange(3) / 4, "pitches": np.full((3, 12), 0.5),
              "timbre": np.full((3, 12), 1.0)}  # fmt: skip
    rows = {f"/analysis/segments_{name}": values for name, values in arrays.items()}
    fields = {"track_id": path.stem, "song_id": "SOA", "artist_id": "ARA"}
    path.write_bytes(_song_bytes(rows, fields))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tree of four songs at several depths, and files that are none. Do not write into it."""
    folder = tmp_path_factory.mktemp("places") / "msd"
    for name in ("data/B/TRB.h5", "data/A/Z/Z/TRC.h5", "TRA.h5", "data/TRD.h5"):
        write_song(folder / name)
    (folder / "AdditionalFiles").mkdir()
    (folder / "AdditionalFiles/subset_msd_summary_file.h5").touch()
    (folder / "data/notes.txt").write_text("no song")
    return folder


@pytest.fixture
def tree(whole, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(whole, tmp_path / "msd")


def pack(folder, path, mode):
    """The tree as an archive, laid out like the subset's own, with what macOS adds."""
    with tarfile.open(path, mode) as archive:
        archive.add(folder, "MillionSongSubset")
        litter = tarfile.TarInfo("MillionSongSubset/data/._TRB.h5")
        archive.addfile(litter, io.BytesIO())
    return path


def ids(place):
    """The ids inside the songs of a place, in its order."""
    if place.streams:
        return [read_song(c, name=f.path).metadata["track_id"] for f, c in place.stream()]
    return [place.read(file).metadata["track_id"] for file in place.files()]


# Folder trees


def test_a_tree_is_sorted_by_track_at_any_depth(whole):
    (place,) = _open_places(whole)
    files = place.files()
    assert isinstance(place, _FolderPlace) and not place.streams
    assert [file.track_id for file in files] == ids(place) == IDS
    assert [file.path for file in files] == [
        "TRA.h5", "data/B/TRB.h5", "data/A/Z/Z/TRC.h5", "data/TRD.h5",
    ]  # fmt: skip
    facts = (whole / "TRA.h5").stat()
    assert files[0] == _SongFile("TRA.h5", facts.st_size, str(facts.st_mtime_ns))
    assert _find_songs(whole) == [whole / file.path for file in files]


def test_a_place_travels_and_its_address_may_be_relative(whole, monkeypatch):
    monkeypatch.chdir(whole.parent)
    for address in ("msd", "./msd/", "msd/data/..", whole):
        (place,) = pickle.loads(pickle.dumps(_open_places(address)))
        assert ids(place) == IDS
    monkeypatch.chdir(whole)
    assert [file.path for file in _open_places(".")[0].files()][1] == "data/B/TRB.h5"


def test_a_song_of_a_place_has_its_terms_if_asked_for(whole):
    (place,) = _open_places(whole)
    song = place.read(place.files()[0], terms=True)
    assert song.metadata["artist_terms"] == []


def test_links_are_followed_but_never_in_a_circle(tree):
    outside = write_song(tree.parent / "elsewhere/deep/TRE.h5").parent.parent
    (tree / "data/link").symlink_to(outside)
    (tree / "data/again").symlink_to(outside)
    (tree / "data/up").symlink_to(tree)
    (outside / "deep/back").symlink_to(tree / "data")
    (tree / "data/itself").symlink_to(tree / "data/itself")
    (tree / "data/nowhere").symlink_to(tree / "gone")
    assert ids(_FolderPlace(str(tree))) == [*IDS, "TRE"]


def test_a_song_by_a_link_is_the_song_that_it_leads_to(tree):
    target = write_song(tree.parent / "TRE.h5")
    (tree / "TRE.h5").symlink_to(target)
    (tree / "TRNONE.h5").symlink_to(tree / "gone.h5")
    (tree / "TRSELF.h5").symlink_to(tree / "TRSELF.h5")
    place = _FolderPlace(str(tree))
    files = {file.track_id: file for file in place.files()}
    assert files["TRE"].size == target.stat().st_size
    assert place.read(files["TRE"]).metadata["track_id"] == "TRE"
    for name, expected in (("TRNONE", "no such file"), ("TRSELF", "no file")):
        assert files[name] == _SongFile(f"{name}.h5")
        with pytest.raises(SongError, match=expected):
            place.read(files[name])


def test_a_folder_named_like_a_song_is_listed_and_refused(tree):
    write_song(tree / "TRFOLDER.h5/TRINSIDE.h5")
    place = _FolderPlace(str(tree))
    (file,) = (file for file in place.files() if file.track_id not in IDS)
    with pytest.raises(SongError, match=r"TRFOLDER.h5: is a folder"):
        place.read(file)


def test_a_name_that_is_not_utf8_is_listed_printable_and_refused(tree):
    try:
        (tree / "data" / os.fsdecode(b"TR\xff.h5")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    place = _FolderPlace(str(tree))
    (file,) = (file for file in place.files() if file.track_id not in IDS)
    assert (file.track_id, file.path) == (r"TR\xff", r"data/TR\xff.h5")
    with pytest.raises(SongError, match="a name that is not UTF-8"):
        place.read(file)


def test_a_song_that_vanished_is_set_aside(tree):
    place = _FolderPlace(str(tree))
    files = place.files()
    (tree / files[0].path).unlink()
    with pytest.raises(SongError, match="no such file"):
        place.read(files[0])


def test_a_folder_that_must_not_be_listed_is_not_passed_over(tree, as_nobody):
    write_song(as_nobody.folder / "A/TRA.h5")
    closed = write_song(as_nobody.folder / "B/TRB.h5").parent
    closed.chmod(0)
    with as_nobody(), pytest.raises(PlaceError, match=r"Permission denied.*would be missing"):
        _FolderPlace(str(as_nobody.folder)).files()
    closed.chmod(0o755)
    assert ids(_FolderPlace(str(as_nobody.folder))) == ["TRA", "TRB"]


def test_a_disk_that_fails_is_not_the_songs_fault(whole, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    (place,) = _open_places(whole)
    files = place.files()
    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    with pytest.raises(PlaceError, match="Input/output error"):
        place.read(files[0])


@pytest.mark.parametrize("address", ["empty", "missing", "empty/file.txt"])
def test_no_songs_is_an_error_that_says_where_it_looked(tmp_path, address):
    (tmp_path / "empty/sub").mkdir(parents=True)
    (tmp_path / "empty/file.txt").touch()
    with pytest.raises(SourceError, match=f"below {tmp_path / address}.*MSD_GENRE_DATA"):
        _open_places(tmp_path / address)
    with pytest.raises(SourceError, match=f"below {tmp_path / address}.*MSD_GENRE_DATA"):
        _find_songs(tmp_path / address)


# Archives


def test_a_tar_is_read_in_any_order(whole, tmp_path):
    path = pack(whole, tmp_path / "songs.tar", "w")
    (place,) = pickle.loads(pickle.dumps(_open_places(path)))
    with warnings.catch_warnings(action="error"):
        files = place.files()
    assert isinstance(place, _TarPlace) and not place.streams
    assert [file.track_id for file in files] == IDS
    assert files[1].path == "MillionSongSubset/data/B/TRB.h5"
    for file in reversed(files):
        assert (
            place.content(file)
            == (whole / file.path.removeprefix("MillionSongSubset/")).read_bytes()
        )
        assert place.read(file).metadata["track_id"] == file.track_id


@pytest.mark.parametrize(
    ("name", "mode"),
    [("s.tar.gz", "w:gz"), ("s.tgz", "w:gz"), ("s.tar.bz2", "w:bz2"), ("s.tar.xz", "w:xz")],
)
def test_a_compressed_tar_is_a_stream(whole, tmp_path, name, mode):
    path = pack(whole, tmp_path / name, mode)
    (place,) = pickle.loads(pickle.dumps(_open_places(path)))
    assert isinstance(place, _TarStream) and place.streams
    assert sorted(ids(place)) == IDS
    for file, content in place.stream():
        assert content == (whole / file.path.removeprefix("MillionSongSubset/")).read_bytes()
        assert file.size == len(content)


def test_what_an_archive_is_decides_and_not_its_name(whole, tmp_path):
    plain = pack(whole, tmp_path / "plain.tar.gz", "w")
    assert sorted(ids(_open_places(plain)[0])) == IDS


def test_a_stream_forgets_what_it_has_given(whole, tmp_path):
    path = pack(whole, tmp_path / "s.tar", "w")
    with tarfile.open(path) as archive:
        for _ in song_sources._members(archive):
            assert len(archive.members) == 0


def test_a_folder_of_archives_is_one_place_each(whole, tmp_path):
    pack(whole / "data", tmp_path / "B.tar.gz", "w:gz")
    pack(whole / "data", tmp_path / "A.tar", "w")
    (tmp_path / "unique_tracks.txt").touch()
    first, second = _open_places(tmp_path)
    assert first.address.endswith("A.tar") and second.address.endswith("B.tar.gz")
    assert ids(first) == sorted(ids(second)) == IDS[1:]


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_cut_off_gives_all_whole_songs_and_says_how_far(whole, tmp_path, mode):
    path = pack(whole, tmp_path / "s.tar.gz", mode)
    data, n_whole = path.read_bytes(), []
    for length in np.linspace(0, len(data) - 1, 25, dtype=int):
        path.write_bytes(data[:length])
        got = []
        try:
            got.extend(read_song(c, name=f.path) for f, c in _TarStream(str(path)).stream())
        except SongError as error:
            assert error.path == path
            assert f"cut off or damaged after {len(got)} songs, the last " in error.reason
            n_whole.append(len(got))
    assert n_whole == sorted(n_whole)
    assert n_whole[0] == 0 and n_whole[-1] >= 3


def test_a_damaged_stream(whole, tmp_path):
    path = pack(whole, tmp_path / "s.tar.gz", "w:gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(SongError, match=r"s\.tar\.gz: archive cut off or damaged after \d songs"):
        list(_TarStream(str(path)).stream())


def test_no_tar_at_all(tmp_path):
    for name, content in (
        ("a.tar", b"<html>404</html>" * 99),
        ("b.tar.gz", b"<html>"),
        ("c.tgz", b""),
    ):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlaceError, match=r"cannot read the archive .*a\.tar"):
        _open_places(tmp_path / "a.tar")[0].files()
    for name in ("b.tar.gz", "c.tgz"):
        with pytest.raises(SongError, match="after 0 songs, the last none"):
            list(_open_places(tmp_path / name)[0].stream())
    with pytest.raises(PlaceError, match="after 0 songs"):
        list(_TarStream(str(tmp_path / "gone.tgz")).stream())


def test_a_plain_tar_cut_off_lists_its_songs_and_warns(whole, tmp_path):
    path = pack(whole, tmp_path / "s.tar", "w")
    place = _TarPlace(str(path))
    last = max(place.files(), key=lambda file: file.offset)
    path.write_bytes(path.read_bytes()[: last.offset + 1_000])
    with pytest.warns(UserWarning, match="no end mark: it may be cut off after its 4 songs"):
        files = place.files()
    read, refused = [], []
    for file in files:
        try:
            read.append(place.read(file).metadata["track_id"])
        except SongError as error:
            refused.append((file.track_id, error.reason))
    assert len(read) == 3
    assert refused == [
        (last.track_id, f"the archive is cut off here: 1,000 of {last.size:,} bytes are left")
    ]


# Addresses


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, with pages of links; `failures` answers to file requests are errors."""

    failures = 0
    requests = 0


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.endswith(".h5") or "closed" in self.path:
            self.server.requests += 1
            if self.server.failures:
                self.server.failures -= 1
                self.send_error(503)
                return
        super().do_GET()


@pytest.fixture
def web(whole):
    """A web server on the loopback address: (address, server)."""
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(whole)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fsspec.filesystem("http").clear_instance_cache()
    yield f"http://127.0.0.1:{server.server_port}", server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(song_sources, "_WAIT_S", 0.001)


def test_songs_of_a_web_server(web):
    address, _ = web
    for given in (address, f"{address}/"):
        (place,) = pickle.loads(pickle.dumps(_open_places(given)))
        assert isinstance(place, _RemotePlace) and not place.streams
        assert ids(place) == IDS
        assert [file.path for file in place.files()][2] == "data/A/Z/Z/TRC.h5"
    (place,) = _open_places(f"{address}/data")
    assert [file.path for file in place.files()][1] == "A/Z/Z/TRC.h5"


def test_a_web_server_that_fails_now_and_then_is_asked_again(web):
    address, server = web
    place = _RemotePlace(address)
    file = place.files()[0]
    server.failures = song_sources._TRIES - 1
    assert place.read(file).metadata["track_id"] == "TRA"
    assert server.requests == song_sources._TRIES


def test_a_web_server_that_keeps_failing_is_not_the_songs_fault(web):
    address, server = web
    place = _RemotePlace(address)
    file = place.files()[0]
    server.failures = 10**6
    with pytest.raises(PlaceError, match=f"TRA.h5, tried {song_sources._TRIES} times.*503"):
        place.read(file)
    server.shutdown()
    server.server_close()
    with pytest.raises(PlaceError, match="tried 4 times"):
        place.read(file)
    with pytest.raises(PlaceError, match="cannot list"):
        _open_places(address)


def test_a_page_that_fails_hides_no_songs(web, whole):
    address, server = web
    (whole / "closed").mkdir()
    try:
        assert [file.track_id for file in _RemotePlace(address).files()] == IDS
        server.failures = 10**6
        with pytest.raises(PlaceError, match="cannot list"):
            _RemotePlace(address).files()
    finally:
        (whole / "closed").rmdir()


def test_a_song_gone_from_the_web_is_set_aside_at_once(web):
    address, server = web
    with pytest.raises(SongError, match="no longer at"):
        _RemotePlace(address).read(_SongFile("data/TRX.h5"))
    assert server.requests == 1


def test_archives_of_a_web_server_are_streams(web, whole, tmp_path):
    address, server = web
    (tmp_path / "up").mkdir()
    pack(whole, tmp_path / "up/B.tar.gz", "w:gz")
    pack(whole, tmp_path / "up/A.tar", "w")
    server.RequestHandlerClass = functools.partial(Handler, directory=str(tmp_path))
    places = _open_places(f"{address}/up")
    assert [type(place) for place in places] == [_TarStream, _TarStream]
    assert [place.address for place in places] == [f"{address}/up/A.tar", f"{address}/up/B.tar.gz"]
    assert all(sorted(ids(place)) == IDS for place in places)
    (place,) = _open_places(f"{address}/up/B.tar.gz")
    assert sorted(ids(place)) == IDS
    with pytest.raises(SourceError, match="no song files"):
        _open_places(f"{address}/up/nothing")


def test_a_large_archive_of_a_server_that_sends_no_parts(web, tmp_path):
    address, server = web
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for number in range(3):  # more than fsspec would fetch at once
            large = tarfile.TarInfo(f"TR{number}.h5")
            large.size = 3_000_000
            archive.addfile(large, io.BytesIO(bytes([number]) * large.size))
    server.RequestHandlerClass = functools.partial(Handler, directory=str(tmp_path))
    found = list(_TarStream(f"{address}/s.tar").stream())
    assert [(file.track_id, *{*content}) for file, content in found] == [
        ("TR0", 0), ("TR1", 1), ("TR2", 2),
    ]  # fmt: skip


def test_an_archive_that_the_network_breaks_off_is_a_fault_of_the_place(web, whole, tmp_path):
    address, server = web
    pack(whole, tmp_path / "s.tar.gz", "w")

    class Breaking(Handler):
        def copyfile(self, source, outputfile):
            outputfile.write(source.read()[:150_000])
            outputfile.flush()
            self.connection.shutdown(2)

    server.RequestHandlerClass = functools.partial(Breaking, directory=str(tmp_path))
    got = []
    with pytest.raises(PlaceError, match=r"after \d songs"):
        got.extend(file for file, _ in _TarStream(f"{address}/s.tar.gz").stream())
    assert len(got) < 4
    with pytest.raises(PlaceError, match="after 0 songs"):
        list(_TarStream(f"{address}/gone.tar.gz").stream())


def test_songs_of_an_object_store(whole):
    store = fsspec.filesystem("memory")
    for path in _find_songs(whole):
        store.pipe_file(f"/msd/{path.relative_to(whole).as_posix()}", path.read_bytes())
    store.pipe_file("/msd/readme.txt", b"")
    try:
        (place,) = _open_places("memory://msd")
        files = place.files()
        assert ids(place) == IDS and files[1].path == "data/B/TRB.h5"
        assert files[0].size == (whole / "TRA.h5").stat().st_size and files[0].changed
        store.pipe_file("/msd/TRA.h5", (whole / "TRA.h5").read_bytes()[:100])
        with pytest.raises(PlaceError, match="100 of"):  # as it was listed, it is longer
            place.read(files[0])
        store.rm("/msd/TRA.h5")
        with pytest.raises(SongError, match="no longer at memory://msd"):
            place.read(files[0])
        with pytest.raises(SourceError, match="no song files"):
            _open_places("memory://nothing")
    finally:
        store.rm("/msd", recursive=True)


def test_a_protocol_without_its_library_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(SourceError, match=r"Install s3fs.*pip install .*cloud"):
        _open_places("s3://bucket/msd")
    monkeypatch.undo()
    with pytest.raises(SourceError, match="Protocol not known: nosuch"):
        _open_places("nosuch://bucket")
