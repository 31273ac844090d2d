"""Time and memory of a build as the number of songs grows: what a song costs must not grow with it.

Each build (`scan`, join, feature store) runs in a process of its own with 1 worker and with one a
core, on demo songs written beforehand. The reference is the smallest corpus, ours the largest, both
with all cores; a ratio of 1 or more says that a song costs no more among many. Memory is the
largest that any worker process had, and that the process which hands out the work had.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import pandas as pd
import psutil
from record import write_record

from msd_genre.synthetic.write import write_demo
from msd_genre.workspace.paths import project_root


def build(data: Path, folder: Path, workers: int) -> None:
    "Build a run and print the seconds of its parts."
    from msd_genre.corpus import catalog, features
    from msd_genre.workspace.runs import create_run

    run = create_run({"seed": 1, "data": {"folder": str(data)}}, folder)
    start = perf_counter()
    table = catalog.build_catalog(run, workers=workers)
    joined = perf_counter()
    features.build_store(run)
    print(json.dumps({"songs": len(table), "catalog": joined - start,
                      "store": perf_counter() - joined}))  # fmt: skip


def measure(data: Path, workers: int) -> dict:
    "One build in a process of its own: seconds, and the most memory of it and of a worker, in MB."
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--build", str(data), folder, str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        most = {"main": 0, "worker": 0}
        while process.poll() is None:
            try:
                own = psutil.Process(process.pid)
                seen = {"main": [own], "worker": own.children(recursive=True)}
                for name, processes in seen.items():
                    most[name] = max([most[name], *(p.memory_info().rss for p in processes)])
            except psutil.NoSuchProcess:
                pass
            sleep(0.1)
        said = json.loads(process.stdout.read())
        if process.returncode:
            raise SystemExit(f"the build of {data} failed")
    return said | {f"{name}_mb": round(size / 1e6) for name, size in most.items()}


def main() -> None:
    "Write the songs, build them, print and keep the table."
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", nargs="+", type=int, default=[1000, 4000, 16000])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--folder", type=Path, default=project_root() / "data",
                         help="where the demo songs are written, once")  # fmt: skip
    options.add_argument("--build", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.build:
        return build(Path(given.build[0]), Path(given.build[1]), int(given.build[2]))
    cores = len(os.sched_getaffinity(0))
    cells = []
    for n in given.sizes:
        data = write_demo(given.folder / f"scaling-{n}", n_songs=n, seed=1)
        for workers in sorted({1, cores}):
            runs = [measure(data, workers) for _ in range(given.repeats)]
            seconds = median(run["catalog"] + run["store"] for run in runs)
            cells.append({
                "songs": n, "workers": workers, "seconds": round(seconds, 2),
                "songs_per_s": round(n / seconds, 1), "ms_per_song": round(1e3 * seconds / n, 3),
                "worker_mb": max(run["worker_mb"] for run in runs),
                "main_mb": max(run["main_mb"] for run in runs),
                "runs": [round(run["catalog"] + run["store"], 2) for run in runs],
            })  # fmt: skip
            print({name: value for name, value in cells[-1].items() if name != "runs"}, flush=True)
    table = pd.DataFrame(cells)
    print("\n" + table.drop(columns="runs").to_string(index=False))
    all_cores = table[table["workers"] == cores].set_index("songs")["songs_per_s"]
    fewest, most = all_cores.index.min(), all_cores.index.max()
    write_record("build_scaling", reference=float(all_cores[fewest]), ours=float(all_cores[most]),
                 unit="songs/s", n=int(most), reference_n=int(fewest), workers=cores, cells=cells,
                 free_disk_gb=round(shutil.disk_usage(given.folder).free / 1e9))


if __name__ == "__main__":
    main()
