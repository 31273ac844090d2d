"""The records of the benchmarks, and what measures a build."""

import json
import os
import sys
from pathlib import Path

import pytest

from msd_genre.report import site
from msd_genre.workspace import parameters

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["read_songs", "text_join", "build_scaling", "demo_size",
                                  "train", "neighbours", "song_map", "als",
                                  "songs_held"])  # fmt: skip
def test_a_record_says_what_was_measured_on_what(name):
    record = json.loads((ROOT / "results" / "benchmarks" / f"{name}.json").read_text())
    assert {"name", "reference", "ours", "unit", "ratio", "n", "machine", "date"} <= set(record)
    assert record["name"] == name and (ROOT / "benchmarks" / f"{name}.py").is_file()
    better = record["ours"] / record["reference"]
    better = better if "/" in record["unit"] else 1 / better  # a rate, or seconds
    assert record["ratio"] == pytest.approx(better, abs=0.01)


def test_training_is_compared_with_the_fastest_setup_of_keras():
    """By `fit` on arrays, with XLA for the LSTM alone; the ratio is that of the fastest."""
    record = json.loads((ROOT / "results" / "benchmarks" / "train.json").read_text())
    keras = {"cnn": {"arrays", "16 steps"},
             "lstm": {"arrays", "16 steps", "XLA", "XLA, 16 steps"}}  # fmt: skip
    for cell in record["cells"]:
        assert set(cell["seconds"]) == keras[cell["network"]] | {"fused"}
        fastest = min(cell["seconds"][setup] for setup in keras[cell["network"]])
        assert cell["seconds"][cell["best_keras"]] == fastest
        assert cell["ratio_seconds"] == pytest.approx(fastest / cell["seconds"]["fused"], abs=0.01)
    assert record["reference"] == record["cells"][0]["seconds"][record["cells"][0]["best_keras"]]


def test_a_build_is_measured_with_its_memory(demo_corpus, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from build_scaling import measure

    seen = measure(demo_corpus, workers=2)
    assert seen["songs"] > 100 and seen["catalog"] > 0 and seen["store"] > 0
    assert 50 < seen["worker_mb"] < 1500 and seen["main_mb"] > 50
    sys.modules.pop("build_scaling")


def test_the_rehearsal_differs_from_the_full_run_in_size_alone():
    def flat(name):
        return site._flat(parameters.read_params(ROOT / "params" / f"{name}.yaml"))

    full, rehearsal = flat("full"), flat("rehearsal")
    protocol = [name for name in full if name.split(".")[0] in ("catalog", "features")]
    protocol += [name for name in full if name.startswith("chapters.03_splits.")]
    other = [name for name in protocol if full[name] != rehearsal[name]]
    assert other == ["catalog.label_file"]
    sized = [name for name in full if name.endswith("batch_size")]
    assert len(sized) >= 5 and all(full[name] == rehearsal[name] for name in sized)
    given, taken = (parameters.read_params(ROOT / "params" / f"{name}.yaml")["chapters"]
                    for name in ("full", "rehearsal"))
    for chapter in set(given) - {"01_songs"}:  # what is not set would be the chapter's default
        assert set(given[chapter]) <= set(taken[chapter])


def test_the_rehearsal_tells_what_went_on_from_what_was_made_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import rehearsal

    def write(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        return path

    for shard in "ab":
        write(f".scratch/songs/pieces/shard-{shard}/arrays.h5")
    kept, lost = write(".keys/catalog.parquet.json"), write(".keys/lyrics.json")
    assert rehearsal.ripe(tmp_path, "catalog", 1536)
    assert not rehearsal.ripe(tmp_path, "catalog", 1537)
    before = {"signal": "SIGKILL", "attempt": {}, "units": rehearsal.shards(tmp_path),
              "artefacts": rehearsal.artefacts(tmp_path)}
    assert rehearsal.went_on(before, tmp_path, "catalog") is None
    write(".scratch/songs/pieces/shard-c/arrays.h5")
    os.utime(lost, ns=(1, 1))
    seen = rehearsal.went_on(before, tmp_path, "catalog")
    assert (seen["complete"], seen["unchanged"]) == (2, 2)
    assert seen["artefacts"] == 2 and seen["made_again"] == [lost.stem] and kept.exists()
    sys.modules.pop("rehearsal")


@pytest.mark.parametrize("said, epoch", [("going on after epoch 1\n", 1), ("epoch 1/2", 0)])
def test_the_rehearsal_reads_after_which_epoch_a_training_went_on(
    said, epoch, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import rehearsal

    (tmp_path / "chapters").mkdir()
    cells = [{"outputs": [{"text": said.splitlines(keepends=True)}]}, {}]
    (tmp_path / "chapters" / "05_cnn.ipynb").write_text(json.dumps({"cells": cells}))
    assert rehearsal.went_on_after(tmp_path, "05_cnn") == epoch
    sys.modules.pop("rehearsal")
