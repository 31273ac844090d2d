"""The scan: the same rows wherever the songs lie, whoever reads them, and however often it dies."""

import http.server
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from msd_genre.corpus import catalog, features, scan
from msd_genre.files import hdf5, song_file, song_sources
from msd_genre.workspace import runs

SLOW = Path(__file__).parents[1] / "data" / "slow_worker.py"


def make_run(folder, data, songs=None, **options):
    """A run with shards of few songs, so that a hundred songs are many shards."""
    params = {"seed": 1, "data": {"folder": str(data), "songs_at": songs},
              "catalog": {"min_segments": 0},
              "features": {"n_frames": 40, "shard_songs": 4} | options}
    return runs.create_run(params, folder)


def build(run, **how):
    table = catalog.build_catalog(run, **how)
    return table, features.build_store(run)


def shards(folder):
    """When and as which file each shard was written."""
    found = Path(folder).glob("**/shard-*/arrays.h5")
    return {p.parent.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in found}


@pytest.fixture(scope="module")
def built(demo_corpus, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("scan") / "run", demo_corpus)
    return run, *build(run)


def test_shards_hold_every_song_once_with_its_own_values(built, demo_corpus):
    run, _, _ = built
    table = run.read("songs/metadata.parquet")
    files = sorted(demo_corpus.glob("data/**/TR*.h5"))
    assert len(table) + len(run.read("songs/rejected.parquet")) == len(files)
    assert table["shard"].nunique() > 10
    for row in table.sample(12, random_state=1).itertuples():
        song = song_file.read_song(demo_corpus / row.path)
        with scan.h5py.File(run.path("songs") / row.shard / "arrays.h5") as file:
            n = min(40, len(song.segments.timbre))
            assert (file["timbre"][row.row, :n] == song.segments.timbre[:n].astype("f4")).all()
            assert not file["timbre"][row.row, n:].any()
            summary = scan._summarize(song.segments, song.metadata["key"])
            assert (file["summary"][row.row] == summary).all()
        assert {k: getattr(row, k) for k in ("title", "tempo_bpm")} == {
            k: song.metadata[k] for k in ("title", "tempo_bpm")
        }


def test_a_shard_ends_where_the_ids_say_so_that_one_more_song_changes_one_shard():
    recipe = scan._Recipe(300, 0, 8, False, "")
    files = [(song_sources._SongFile(f"TR{n:016X}.h5", 1, ""),) for n in range(400)]
    names = [[recipe.name([f for (f,) in shard]) for shard in scan._split(some, recipe)]
             for some in (files, files[:200] + files[201:])]
    assert len(set(names[0]) - set(names[1])) == 1
    sizes = [len(shard) for shard in scan._split(files, recipe)]
    assert sum(sizes) == 400 and max(sizes) <= 32 and 4 < np.mean(sizes) < 16


def test_processes_make_the_same_bytes(built, demo_corpus, tmp_path):
    run = make_run(tmp_path / "run", demo_corpus)
    build(run, workers=2)
    for name in ("songs", "catalog.parquet", "features"):
        assert run.digest(name) == built[0].digest(name)


def test_a_changed_file_is_noticed_and_only_its_shard_is_read_again(demo_corpus, tmp_path):
    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    run = make_run(tmp_path / "run", corpus)
    table, _ = build(run)
    before = shards(run.dir)
    changed = corpus / table["path"][len(table) // 2]
    other = corpus / table["path"][3]
    with hdf5.h5py.File(changed, "a") as file:
        file["analysis/segments_timbre"][0, 0] = 123.0
    store = build(run)[1]
    after = shards(run.dir)
    mine = run.read("songs/metadata.parquet").set_index("track_id")["shard"]
    assert set(after) - set(before) == {mine[changed.stem]}
    assert {k: v for k, v in after.items() if k in before}.items() <= before.items()
    if changed.stem in store.track_ids:
        assert store.timbre[store.rows([changed.stem])[0], 0, 0] == 123.0
    other.unlink()
    assert other.stem not in set(build(run)[0]["track_id"])
    assert len(set(shards(run.dir)) - set(after)) <= 2


def test_broken_songs_and_bad_options_are_told(demo_corpus, tmp_path):
    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    files = sorted(corpus.glob("data/**/TR*.h5"))
    files[2].write_bytes(b"no song")
    files[3].unlink()
    files[3].mkdir()
    run = make_run(tmp_path / "run", corpus)
    table, _ = build(run)
    aside = catalog.set_aside(run).set_index("file")["reason"]
    assert "not an HDF5 file" in aside[files[2].relative_to(corpus).as_posix()]
    assert "folder" in aside[files[3].relative_to(corpus).as_posix()]
    assert not {files[2].stem, files[3].stem} & set(table["track_id"])
    with pytest.raises(scan.ScanError, match=r"'n_frame'.*there is n_frames, offset, shard_songs"):
        catalog.build_catalog(make_run(tmp_path / "bad", corpus, n_frame=3))


# Where songs may lie


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serving(folder):
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def packed(demo_corpus, tmp_path_factory):
    """The text files alone, and the songs as archives beside them."""
    folder = tmp_path_factory.mktemp("packed")
    for part in demo_corpus.iterdir():
        if part.name != "data":
            (shutil.copytree if part.is_dir() else shutil.copy)(part, folder / part.name)
    for name, mode in (("songs.tar", "w"), ("songs.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as archive:
            archive.add(demo_corpus / "data", "MillionSongSubset/data")
    return folder


@pytest.mark.parametrize("where", ["songs.tar", "songs.tar.gz", "http"])
def test_archives_and_addresses_give_the_rows_of_the_folder(
    built, packed, demo_corpus, tmp_path, where
):
    _, table, store = built
    with serving(demo_corpus / "data") as address:
        place = f"{address}/" if where == "http" else str(packed / where)
        run = make_run(tmp_path / "run", packed, songs=place)
        mine, kept = build(run)
    drop = ["path"]
    assert mine.drop(columns=drop).equals(table.drop(columns=drop))
    assert (kept.track_ids == store.track_ids).all()
    for name in scan._ARRAYS:
        assert (getattr(kept, name)[:] == getattr(store, name)[:]).all(), name
    assert len(run.read("songs/rejected.parquet")) == len(built[0].read("songs/rejected.parquet"))


def test_an_archive_that_breaks_off_gives_what_is_whole_and_says_so(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "packed")
    (folder / "songs.tar").unlink()
    archive = folder / "songs.tar.gz"
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    run = make_run(tmp_path / "run", folder, songs=str(archive))
    table, _ = build(run)
    assert 20 < len(table) < 100
    assert catalog.set_aside(run)["file"].str.endswith("songs.tar.gz").sum() == 1


# What dies


def scan_slowly(corpus, folder):
    """In a process of its own: a build that takes a few seconds."""
    read = scan._read_shard

    def slowly(*args):
        time.sleep(0.03)
        return read(*args)

    scan._read_shard = slowly
    build(make_run(folder, corpus))


@pytest.mark.slow
def test_a_build_killed_at_twenty_moments_ends_with_the_same_bytes(built, demo_corpus, tmp_path):
    """No shard that was whole is written a second time, and nothing half-made stays behind."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["msd_genre.corpus.features", "distributed"])
    folder, moments = tmp_path / "run", np.random.default_rng(3)

    def start():
        process = processes.Process(target=scan_slowly, args=(demo_corpus, folder))
        process.start()
        return process

    killed, seen = 0, {}
    while killed < 20:
        process = start()
        process.join(moments.uniform(0.1, 2.5))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        now = shards(folder)
        assert seen.items() <= now.items(), "a whole shard was made again"
        seen = now
        if process.exitcode == 0:  # complete: begin anew, until it was killed often enough
            shutil.rmtree(folder)
            seen = {}
    process = start()
    process.join()
    assert process.exitcode == 0 and seen.items() <= shards(folder).items()
    run = runs.open_run(folder)
    for name in ("songs", "catalog.parquet", "features"):
        assert run.digest(name) == runs.file_digest(run.dir / name) == built[0].digest(name)
    left = {p.name for p in run.dir.iterdir()} - {p.name for p in built[0].dir.iterdir()}
    assert not left and not list((run.dir / ".scratch").iterdir())


def test_a_build_killed_just_before_its_shards_are_in_place_reads_no_song_again(built, tmp_path):
    run = runs.open_run(shutil.copytree(built[0].dir, tmp_path / "run"))
    seen = shards(run.dir)
    (run.dir / ".keys" / "songs.json").unlink()
    (run.dir / ".scratch" / "songs").mkdir(parents=True)
    (run.dir / "songs").rename(run.dir / ".scratch" / "songs" / "unfinished-1")
    build(run)
    assert shards(run.dir) == seen and run.digest("songs") == built[0].digest("songs")
    assert not list((run.dir / ".scratch").iterdir())


def dask(*words):
    module = f"distributed.cli.dask_{words[0]}"
    return subprocess.Popen(
        [sys.executable, "-m", module, *words[1:]], stderr=subprocess.PIPE, text=True
    )


def test_a_cluster_of_which_a_worker_is_killed_makes_the_same_bytes(built, demo_corpus, tmp_path):
    """A real scheduler and two worker processes on the loopback address."""
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    line = next(line for line in scheduler.stderr if "Scheduler at:" in line)
    address = line.split()[-1]
    options = ("--nthreads", "1", "--no-dashboard", "--preload", str(SLOW), "--no-nanny",
               "--local-directory", str(tmp_path))
    workers = [dask("worker", address, *options) for _ in range(2)]
    for process in (scheduler, *workers):
        threading.Thread(target=process.stderr.read, daemon=True).start()
    run, died = make_run(tmp_path / "run", demo_corpus), []

    def kill_one():
        while len(shards(run.dir)) < 3:
            time.sleep(0.02)
        workers[0].kill()
        died.append(len(shards(run.dir)))

    thread = threading.Thread(target=kill_one)
    try:
        thread.start()
        build(run, scheduler=address)
        thread.join()
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
    assert died and died[0] < len(shards(built[0].dir)), "the worker died too late to matter"
    for name in ("songs", "catalog.parquet", "features"):
        assert run.digest(name) == built[0].digest(name)


def test_a_scheduler_that_does_not_answer_is_told(demo_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_PATIENCE", "1s")
    run = make_run(tmp_path / "run", demo_corpus)
    with pytest.raises(scan.ScanError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        catalog.build_catalog(run, scheduler="tcp://127.0.0.1:9")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here: the full disk was not tried")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_is_whole_is_kept(
    built, demo_corpus, small_disk, tmp_path, monkeypatch
):
    run = make_run(small_disk / "run", demo_corpus, n_frames=300)
    with pytest.raises(scan.ScanError, match=r"songs need .* GB .* are free: make room"):
        catalog.build_catalog(run)
    monkeypatch.setattr(scan, "_check_disk", lambda *_: None)
    with pytest.raises(scan.ScanError, match=r"the disk is full.* kept.*same command"):
        catalog.build_catalog(run)
    whole = shards(run.dir)
    assert whole and not (run.dir / "songs").is_dir()
    assert not list(run.dir.glob(".scratch/**/.shard-*"))
    for name in whole:
        with scan.h5py.File(next(run.dir.glob(f"**/{name}")) / "arrays.h5") as file:
            assert sorted(file) == sorted(scan._ARRAYS)
