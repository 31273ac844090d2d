"""The records of the benchmarks, and what measures a build."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["read_songs", "text_join", "build_scaling", "demo_size",
                                  "train", "neighbours", "song_map", "als"])  # fmt: skip
def test_a_record_says_what_was_measured_on_what(name):
    record = json.loads((ROOT / "results" / "benchmarks" / f"{name}.json").read_text())
    assert {"name", "reference", "ours", "unit", "ratio", "n", "machine", "date"} <= set(record)
    assert record["name"] == name and (ROOT / "benchmarks" / f"{name}.py").is_file()
    better = record["ours"] / record["reference"]
    better = better if "/" in record["unit"] else 1 / better  # a rate, or seconds
    assert record["ratio"] == pytest.approx(better, abs=0.01)


def test_a_build_is_measured_with_its_memory(demo_corpus, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from build_scaling import measure

    seen = measure(demo_corpus, workers=2)
    assert seen["songs"] > 100 and seen["catalog"] > 0 and seen["store"] > 0
    assert 50 < seen["worker_mb"] < 1500 and seen["main_mb"] > 50
    sys.modules.pop("build_scaling")
