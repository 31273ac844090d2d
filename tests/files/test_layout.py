"""Where the raw files lie: songs in folders, archives and at addresses; text files, also packed."""

import gzip
from pathlib import Path

import pytest

from msd_genre.files import layout
from msd_genre.files.layout import _describe, _require, find_layout
from msd_genre.workspace.paths import SourceError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    "names, songs",
    [
        (["data/A/B/C/TR1.h5", "songs.tar.gz"], "data"),
        (["songs.tar.gz", "labels/x.cls"], "songs.tar.gz"),
        (["songs.tgz"], "songs.tgz"),
        (["songs.tar"], "songs.tar"),
        (["a.tar.gz", "b.tar"], "."),
        (["A/B/C/TR1.h5"], "."),
        (["deeper/songs.tar.gz"], "."),
        (["songs.zip"], "."),
    ],
)
def test_where_the_songs_are_looked_for(tmp_path, names, songs):
    touch(tmp_path, *names)
    assert find_layout(tmp_path).songs == tmp_path / songs


def test_songs_may_lie_elsewhere(tmp_path):
    touch(tmp_path / "msd", "data/TR1.h5", "x.cls")
    touch(tmp_path, "elsewhere/songs.tar.gz")
    for place in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "songs.tar.gz"):
        layout = find_layout(tmp_path / "msd", songs=str(place))
        assert layout.songs == place and isinstance(layout.songs, Path)
        assert list(layout.labels) == ["x"]
    for address in ("s3://bucket/msd", "https://example.org/songs.tar.gz"):
        layout = find_layout(tmp_path / "msd", songs=address)
        assert layout.songs == address
        table = _describe(layout)
        assert table["file"].tolist()[0] == address and len(table) == 9
    with pytest.raises(SourceError, match=r"no songs at .*nowhere: give a folder, an archive"):
        find_layout(tmp_path / "msd", songs=tmp_path / "nowhere")


def test_the_songs_of_the_folder_are_not_searched_for_texts(tmp_path):
    touch(tmp_path, "data/stray.cls", "own/songs/x.h5", ".fetch/half.cls", "tagtraum/a.cls")
    assert list(find_layout(tmp_path).labels) == ["a"]
    touch(tmp_path, "own/stray.cls")
    assert list(find_layout(tmp_path, songs=tmp_path / "own").labels) == ["a"]


def test_text_files_may_be_packed(tmp_path):
    touch(tmp_path, "l/a.cls", "l/b.cls.gz", "l/a.cls.gz", "m/mxm_dataset_train.txt.gz")
    touch(tmp_path, "m/mxm_dataset_test.txt", "t/train_triplets.txt.gz", "unique_tracks.txt.gz")
    with gzip.open(tmp_path / "sid_mismatches.txt.gz", "wb") as packed:
        packed.write(b"x")
    layout = find_layout(tmp_path)
    assert layout.labels == {"a": tmp_path / "l/a.cls", "b": tmp_path / "l/b.cls.gz"}
    assert layout.lyrics["train"].name == "mxm_dataset_train.txt.gz"
    assert layout.lyrics["test"].name == "mxm_dataset_test.txt"
    assert layout.triplets == {"train": tmp_path / "t/train_triplets.txt.gz"}
    lists = layout.files["lists"]
    assert lists["unique_tracks"].name == "unique_tracks.txt.gz"
    assert lists["mismatches"].suffix == ".gz"
    assert len(layout.text_files()) == 7


def test_the_full_list_of_tracks_comes_before_that_of_the_subset(tmp_path):
    touch(tmp_path, "AdditionalFiles/subset_unique_tracks.txt", "z/unique_tracks.txt.gz")
    lists = find_layout(tmp_path).files["lists"]
    assert lists["unique_tracks"] == tmp_path / "z/unique_tracks.txt.gz"


def test_what_is_missing_names_the_command_that_gets_it(tmp_path):
    for source, name in [("labels", "tagtraum"), ("lyrics", "lyrics"), ("plays", "plays")]:
        with pytest.raises(SourceError, match=f"msd-genre fetch {name} --into "):
            _require(find_layout(tmp_path), source)
    with pytest.raises(SourceError, match=r"no folder .*msd-genre fetch"):
        find_layout(tmp_path / "none")


def test_the_real_folder(real_msd):
    layout = find_layout(real_msd)
    assert layout.songs == real_msd / "data"
    assert set(layout.lyrics) == {"train", "test"} and set(layout.triplets) == {"train", "visible"}
    assert layout.files["lists"]["unique_tracks"].name == "unique_tracks.txt"
    assert len(layout.text_files()) == 8


def test_every_dataset_is_declared_with_its_source_and_its_citation():
    """One entry has what `sources`, `fetch`, and errors need."""
    bib = (Path(__file__).parents[2] / "nbs" / "references.bib").read_text()
    for name, row in layout._DOWNLOADS.items():
        assert {"title", "terms", "page", "citation", "source", "roles", "files"} == set(row), name
        assert f"{{{row['citation']}," in bib, name
    assert list(layout.SOURCES) == ["songs", "labels", "lyrics", "plays", "lists"]
