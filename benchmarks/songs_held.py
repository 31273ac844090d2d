"""Memory of a process that trains one network after the other, as a chapter does.

The reference holds the songs of each training, as TensorFlow does with whatever it took batches
from; ours lets go of them. Needs a run whose first three chapters are done, at best a large one:
`python benchmarks/songs_held.py --run-dir runs/rehearsal`. The networks go to a folder beside it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from record import write_record

from msd_genre.corpus.leaks import kept_songs
from msd_genre.models import inputs, training
from msd_genre.workspace.runs import Run, open_run

TRAININGS = 5
NEEDED = ("catalog.parquet", "split.parquet", "features", "lyrics", ".keys", "songs", "texts")


def beside(run_dir: Path, folder: str) -> Run:
    "A run that has what a training reads of another one, and nothing else."
    for name in ("params.yaml", "stamp.json"):
        (Path(folder) / name).write_bytes((run_dir / name).read_bytes())
    for name in NEEDED:
        if name != ".keys":
            (Path(folder) / name).symlink_to(run_dir / name)
    (Path(folder) / ".keys").mkdir()
    for path in (run_dir / ".keys").glob("*.json"):
        if not path.name.startswith("models"):
            (Path(folder) / ".keys" / path.name).write_bytes(path.read_bytes())
    return open_run(folder)


def measure(run_dir: Path, hold: bool) -> list[float]:
    "GB that this process holds after each training."
    load, held, seen = inputs.load_songs, [], []

    def holding(*given):
        held.append(load(*given))
        return held[-1]

    if hold:
        inputs.load_songs = holding
    with TemporaryDirectory(dir=run_dir.parent) as folder:
        run = beside(run_dir, folder)
        for number in range(TRAININGS):
            training.train(run, "baseline", "as_coded", protocol="artist", epochs=1,
                           batch_size=100, tag=f"n{number}", verbose=False)  # fmt: skip
            seen.append(round(psutil.Process().memory_info().rss / 1e9, 2))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", default="runs/rehearsal")
    parser.add_argument("--here", choices=["hold", "ours"], help="measure in this process")
    options = parser.parse_args()
    run_dir = Path(options.run_dir).resolve()
    if options.here:
        print(json.dumps(measure(run_dir, options.here == "hold")))
        return
    seen = {}
    for way in ("hold", "ours"):
        done = subprocess.run([sys.executable, __file__, "--here", way, "--run-dir", run_dir],
                              check=True, stdout=subprocess.PIPE, text=True)  # fmt: skip
        seen[way] = json.loads(done.stdout.splitlines()[-1])
        print(f"{way:5} GB after each training: {seen[way]}")
    write_record(
        "songs_held", reference=seen["hold"][-1], ours=seen["ours"][-1], unit="GB",
        n=len(kept_songs(open_run(run_dir))), faster_is="less", trainings=TRAININGS,
        what=f"memory after {TRAININGS} trainings in a process, holding their songs or not",
        after_each_gb=seen,
    )  # fmt: skip


if __name__ == "__main__":
    main()
