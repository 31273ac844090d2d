"""Time and memory of writing the demo as the number of songs grows: memory must not grow with it.

Each corpus is written by `msd-genre demo write` with all cores, into a scratch folder that is
removed afterwards. The reference is the smallest corpus, ours the largest, that of the published
size; a ratio of 1 or more says that a song costs no more among many. Both are counted in seconds
of processor time, which a busy machine changes less than seconds by the clock. Memory is the most
that the process which hands out the work had, that any worker had, and that all had together. A
few songs, as tests write them, are timed inside one process that has imported the package.
"""

import argparse
import os
import resource
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

FEW = 24


def processor_s() -> float:
    "Seconds of processor time that finished processes below this one have had."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    n_songs: int,
    folder: Path,  # written, measured and removed
) -> dict:  # seconds by the clock and of processor time, most memory in MB, size in GB
    "One corpus, written by the command in a process of its own."
    command = [Path(sys.executable).parent / "msd-genre", "demo", "write", folder,
               "--songs", str(n_songs), "--seed", "1"]  # fmt: skip
    start, used, most = perf_counter(), processor_s(), {"main": 0, "worker": 0, "all": 0}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            own = psutil.Process(process.pid)
            main, *workers = [p.memory_info().rss for p in (own, *own.children(recursive=True))]
            seen = {"main": main, "worker": max(workers, default=0), "all": main + sum(workers)}
            most = {name: max(most[name], size) for name, size in seen.items()}
        except psutil.NoSuchProcess:
            pass
        sleep(0.1)
    seconds, used = perf_counter() - start, processor_s() - used
    if process.returncode:
        raise SystemExit(f"writing {n_songs} songs to {folder} failed")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return {"songs": n_songs, "seconds": round(seconds, 1),
            "processor_s": round(used, 1),
            "songs_per_processor_s": round(n_songs / used, 1), "gb": round(size / 1e9, 2),
            **{f"{name}_mb": round(memory / 1e6) for name, memory in most.items()}}


def few_songs(folder: Path, repeats: int) -> list[float]:
    "Seconds of each writing of a few songs; the first pays for what is made once."
    seconds = []
    for i in range(repeats):
        start = perf_counter()
        write_demo(folder / f"few-{i}", FEW, seed=i)
        seconds.append(round(perf_counter() - start, 3))
    return seconds


def main() -> None:
    "Write, measure, print and keep the table."
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", nargs="+", type=int, default=[2000, 8000, 32648])
    options.add_argument("--repeats", type=int, default=5, help="of the few songs")
    options.add_argument("--folder", type=Path, default=project_root() / "data",
                         help="where the songs are written, and removed")  # fmt: skip
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        few = few_songs(Path(scratch), given.repeats)
        print(f"{FEW} songs: {few[0]:.2f} s, then {median(few[1:]):.2f} s", flush=True)
        cells = []
        for n_songs in given.sizes:
            cells.append(measure(n_songs, Path(scratch) / "demo"))
            print(cells[-1], flush=True)
    table = pd.DataFrame(cells).set_index("songs")
    print("\n" + table.to_string())
    fewest, most = table.index.min(), table.index.max()
    rates = table["songs_per_processor_s"]
    write_record("demo_size", reference=float(rates[fewest]), ours=float(rates[most]),
                 unit="songs/processor s", n=int(most), reference_n=int(fewest),
                 workers=len(os.sched_getaffinity(0)), cells=cells,
                 few={"songs": FEW, "first_s": few[0], "s": median(few[1:]), "runs": few})


if __name__ == "__main__":
    main()
