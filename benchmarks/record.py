"""What every benchmark writes: `results/benchmarks/<name>.json`, and the table that it prints."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from msd_genre.workspace.runs import _write_json

RECORDS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"


def machine() -> str:
    "The processor and how many of it, without a name of the machine itself."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    model = ", ".join(sorted(models)) or platform.processor() or "unknown processor"
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {system}"


def write_record(
    name: str,  # of the benchmark, as its script is called
    reference: float,  # median of the reference, in `unit`
    ours: float,  # median of ours, in `unit`
    unit: str,  # such as "songs/s" or "s"
    n: int,  # how many songs, rows or runs `unit` counts
    faster_is: str = "more",  # "less" where `unit` is a time
    **more: object,  # plain values: profile, cores, memory, every single run
) -> dict:  # as written
    "Keep a measurement; `ratio` says how many times as fast ours is."
    ratio = ours / reference if faster_is == "more" else reference / ours
    record = {
        "name": name, "reference": reference, "ours": ours, "unit": unit, "ratio": round(ratio, 2),
        "n": n, "machine": machine(), "date": datetime.now(UTC).date().isoformat(), **more,
    }  # fmt: skip
    RECORDS.mkdir(parents=True, exist_ok=True)
    _write_json(record, RECORDS / f"{name}.json")
    both = f"{ours:,.1f} {unit} against {reference:,.1f} {unit}"
    print(f"\n{name}: {both}, {ratio:.2f} times as fast")
    return record


def medians(
    runs: dict[str, list[float]],  # what was measured -> every run of it
) -> dict[str, float]:  # what was measured -> its median
    "The median of each."
    return {name: median(values) for name, values in runs.items()}
