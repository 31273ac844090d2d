"""The benchmark of the text files: the sizes of its files, and that both sides read the same."""

import importlib.util
import json
from pathlib import Path

import pytest

from msd_genre.datasets.musixmatch import read_counts
from msd_genre.datasets.plays import read_triplets

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "text_join.py"


@pytest.fixture(scope="module")
def text_join():
    spec = importlib.util.spec_from_file_location("text_join", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(text_join, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    text_join.write_files(folder, scale=0.002)
    return folder


def test_our_join_is_that_of_pandas(text_join, folder):
    ours, seconds = text_join.read_and_join("ours", folder)
    theirs, _ = text_join.read_and_join("pandas", folder)
    text_join.same_tables(ours, theirs)
    assert len(ours) == 2_000 and list(seconds) == ["tracks", "labels", "lyrics", "plays", "join"]
    assert ours["genre"].notna().sum() == 561 and ours["words"].notna().sum() == 475
    theirs.loc[7, "genre"] = "Polka"
    with pytest.raises(AssertionError):
        text_join.same_tables(ours, theirs)


def test_the_files_have_the_sizes_and_the_forms_of_the_real_ones(text_join, folder):
    size = json.loads((folder / "sizes.json").read_text())
    triplets, aside = read_triplets([folder / "train_triplets.txt"])
    assert aside.empty and 0.9 * size["triplets"] < len(triplets) <= size["triplets"]
    assert triplets["user"].nunique() == size["users"]
    assert triplets["user"].str.fullmatch("[0-9a-f]{40}").all()
    assert triplets["song_id"].str.fullmatch("SO[A-Z]{5}[0-9A-F]{11}").all()
    lyrics, aside = read_counts({"train": folder / "mxm_train.txt"})
    assert aside.empty and lyrics.counts.shape == (size["train"], 5_000)
    assert abs(lyrics.counts.nnz / size["train"] - text_join.PAIRS_A_ROW) < 8
    assert text_join.sizes(1.0) == text_join.SIZES
