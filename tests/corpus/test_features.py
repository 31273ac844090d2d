"""The feature store: what the song files hold, nothing broken in it, and a build that goes on."""

import hashlib
import shutil

import h5py
import numpy as np
import pytest

from msd_genre.corpus import catalog, features
from msd_genre.files import song_file
from msd_genre.workspace import runs


def make_run(folder, data, **frames):
    run = runs.create_run(
        {"seed": 1, "data": {"folder": str(data)}, "features": frames}, folder / "run"
    )
    catalog.build_catalog(run)
    return run


@pytest.fixture(scope="module")
def built(demo_corpus, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("store"), demo_corpus)
    return run, features.build_store(run)


def test_a_row_is_the_beginning_of_its_song(built, demo_corpus):
    run, store = built
    table = catalog.kept(run.read("catalog.parquet"))
    assert store.track_ids.tolist() == table["track_id"].tolist()
    for row in (0, store.n // 2, store.n - 1):
        segments = song_file.read_song(demo_corpus / table["path"][row]).segments
        assert (store.chroma[row] == segments.chroma[:300].astype("f4")).all()
        assert (store.timbre[row] == segments.timbre[:300].astype("f4")).all()
        assert (store.start_s[row] == segments.start_s[:300].astype("f4")).all()
        mean = dict(zip(store.summary_names, store.summary[row], strict=True))["timbre mean 1"]
        assert mean == np.float32(segments.timbre[:, 0].mean())
    assert store.summary.shape == (store.n, len(store.summary_names))
    assert store.rows(store.track_ids[[3, 1, 3]]).tolist() == [3, 1, 3]
    with pytest.raises(features.FeatureError, match="1 tracks are not in the store"):
        store.rows(np.array(["TRNOBODY"]))


def test_a_recording_is_known_by_its_frames_to_the_bit(built, demo_corpus, tmp_path):
    """Two song files with the same segments have one digest, one changed value makes another."""
    store = built[1]
    assert len(set(store.recordings)) == store.n
    row = b"".join(getattr(store, name)[5].tobytes() for name in ("chroma", "timbre", "start_s"))
    assert store.recordings[5] == hashlib.blake2b(row, digest_size=16).hexdigest()

    corpus = shutil.copytree(demo_corpus, tmp_path / "corpus")
    paths = catalog.kept(built[0].read("catalog.parquet"))["path"]
    source = h5py.File(corpus / paths[2])
    for number in (5, 7):
        with h5py.File(corpus / paths[number], "r+") as file:
            for name in [name for name in source["analysis"] if name.startswith("segments")]:
                del file["analysis"][name]
                source.copy(f"analysis/{name}", file["analysis"])
            if number == 7:
                file["analysis/segments_timbre"][299, 11] += 1
    source.close()
    changed = features.build_store(make_run(tmp_path, corpus)).recordings
    assert changed[5] == changed[2] == store.recordings[2] and changed[7] != changed[2]
    assert (changed == store.recordings).sum() == store.n - 2


def test_a_song_that_ends_before_the_cut_begins_is_no_recording(built, demo_corpus, tmp_path):
    n_segments = catalog.kept(built[0].read("catalog.parquet"))["n_segments"].to_numpy()
    offset = int(np.median(n_segments))
    store = features.build_store(make_run(tmp_path, demo_corpus, offset=offset))
    assert ((store.recordings == "") == (n_segments <= offset)).all()
    assert 0 < (store.recordings == "").sum() < store.n


def test_a_store_of_an_older_version_says_that_it_has_no_digests(built, tmp_path):
    shutil.copy(built[1].file.filename, tmp_path / "store.h5")
    with h5py.File(tmp_path / "store.h5", "r+") as file:
        del file["recording"]
    with pytest.raises(features.FeatureError, match=r"holds no digests .* run `msd-genre report"):
        _ = features.open_store(tmp_path).recordings


def test_the_cut_is_a_parameter(demo_corpus, tmp_path, built):
    store = features.build_store(make_run(tmp_path, demo_corpus, n_frames=50, offset=20))
    assert (store.timbre[:] == built[1].timbre[:, 20:70]).all()


def test_a_song_whose_values_are_broken_gets_no_row(built, demo_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(demo_corpus, corpus)
    bad = catalog.kept(built[0].read("catalog.parquet")).iloc[3]
    with h5py.File(corpus / bad["path"], "r+") as file:
        file["analysis/segments_timbre"][7, 2] = np.nan
    run = make_run(tmp_path, corpus)
    store = features.build_store(run)
    assert bad["track_id"] not in store.track_ids
    aside = run.read("songs/rejected.parquet").set_index("track_id")["reason"]
    assert "finite" in aside[bad["track_id"]]
    assert len(aside) == len(built[0].read("songs/rejected.parquet")) + 1
    assert (store.chroma[:].max(axis=2) > 0).all(), "a row of zeros"


def test_a_song_that_changed_without_changing_its_size_is_read_again(demo_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(demo_corpus, corpus)
    run = make_run(tmp_path, corpus)
    store = features.build_store(run)
    path = corpus / catalog.kept(run.read("catalog.parquet"))["path"][0]
    before, size = store.timbre[0, 0, 0], path.stat().st_size
    store.file.close()
    with h5py.File(path, "r+") as file:
        timbre = file["analysis/segments_timbre"]
        timbre[0, 0] = timbre[0, 0] + 1
    content = path.read_bytes()[:size]
    path.write_bytes(content + b"\0" * (size - len(content)))
    assert path.stat().st_size == size
    catalog.build_catalog(run)
    assert features.build_store(run).timbre[0, 0, 0] != before


def test_lyrics_stand_in_the_order_of_the_store(built):
    from msd_genre.datasets.musixmatch import read_counts

    run, store = built
    features.build_lyrics(run)
    counts = run.read("lyrics/counts.npz")
    layout = catalog.data_layout(run)
    raw, _ = read_counts(layout.lyrics)
    row = {track: i for i, track in enumerate(raw.track_ids)}
    for i in (0, store.n - 1):
        theirs = raw.counts[[row[store.track_ids[i]]]].toarray()
        assert (counts[[i]].toarray() == theirs).all() and theirs.sum() > 0
    assert run.read("lyrics/stems.parquet")["stem"].tolist() == raw.stems


def test_a_join_that_kept_nothing_is_an_error(demo_corpus, tmp_path):
    run = runs.create_run(
        {"seed": 1, "data": {"folder": str(demo_corpus)}, "catalog": {"min_segments": 10_000}},
        tmp_path / "run",
    )
    catalog.build_catalog(run)
    with pytest.raises(features.FeatureError, match="kept no song"):
        features.build_store(run)
    with pytest.raises(features.FeatureError, match="no feature store"):
        features.open_store(tmp_path)


# ---- lyrics


def bare(demo_corpus, tmp_path, *texts):
    """Song files and labels, with these other texts of the demo; a run that asks for no lyrics."""
    corpus = tmp_path / "corpus"
    for name in ("data", "tagtraum"):
        shutil.copytree(demo_corpus / name, corpus / name)
    for name in texts:
        shutil.copy(demo_corpus / "musixmatch" / name, corpus)
    options = {"lyrics": None, "drop_mismatches": False}
    params = {"seed": 1, "data": {"folder": str(corpus)}, "catalog": options}
    run = runs.create_run(params, tmp_path / "run")
    return run, catalog.kept(catalog.build_catalog(run)), features.build_store(run)


def test_a_run_without_lyrics_has_rows_of_zeros(demo_corpus, tmp_path):
    run, kept, store = bare(demo_corpus, tmp_path)
    assert not kept["has_lyrics"].any() and kept["plays"].isna().all()
    features.build_lyrics(run)
    counts = run.read("lyrics/counts.npz")
    assert counts.shape == (store.n, 2) and counts.nnz == 0
    assert (run.read("lyrics/stem_vectors.npy") == 0).all()


def test_lyrics_that_are_there_are_read_where_none_are_asked_for(demo_corpus, tmp_path):
    texts = "mxm_dataset_train.txt", "mxm_reverse_mapping.txt"
    run, kept, store = bare(demo_corpus, tmp_path, *texts)
    assert 0 < kept["has_lyrics"].sum() < len(kept) == store.n
    features.build_lyrics(run)
    sung = run.read("lyrics/counts.npz").sum(axis=1) > 0
    assert sung.tolist() == kept["has_lyrics"].tolist()


def test_a_track_id_may_be_longer_than_the_msds(demo_corpus, tmp_path):
    run, kept, _ = bare(demo_corpus, tmp_path)
    old = kept["track_id"][0]
    for name in ("songs/metadata.parquet", "catalog.parquet"):
        table = run.read(name)
        table["track_id"] = table["track_id"].replace(old, f"{old}XYZ")
        table.to_parquet(run.dir / name)
    ids = catalog.kept(run.read("catalog.parquet"))["track_id"].sort_values()
    where = run.read("songs/metadata.parquet")[["track_id", "shard", "row"]]
    features._gather(ids.to_frame().merge(where), run.path("songs"), tmp_path / "store.h5")
    assert features.open_store(tmp_path).track_ids.tolist() == ids.tolist()
