"""ALS at the Taste Profile's real shape: seconds an iteration and memory, on invented plays.

The shape is that of train_triplets.txt: 1,019,318 users, 384,546 songs, 48,373,586 pairs of them.
The reference is an iteration on one core, of the same plays.

`--engine spark --master spark://host:7077 --shared <folder>` measures Spark's ALS instead; nothing
is then recorded, for it says something of a cluster and not of this machine.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
from record import write_record
from scipy import sparse
from text_join import distinct_pairs

from msd_genre.analysis.listeners import als

SHAPE = {"users": 1_019_318, "songs": 384_546, "triplets": 48_373_586}


def invented_plays(scale: float, seed: int = 1) -> sparse.csr_array:
    "Plays of users by songs as `text_join` invents them: unequal users, a long tail, no tastes."
    rng = np.random.default_rng(seed)
    n_users, n_songs = (max(50, round(SHAPE[name] * scale)) for name in ("users", "songs"))
    wanted = round(SHAPE["triplets"] * scale)
    share = rng.lognormal(0, 1.0, n_users)
    drawn = np.maximum(share * (1.15 * wanted / share.sum()), 1).astype(int)
    keys = distinct_pairs(rng, np.repeat(np.arange(n_users), drawn), n_songs, 0.9)
    others = np.flatnonzero(np.diff(keys // n_songs) == 0) + 1  # each user keeps one song
    keys = np.delete(keys, rng.choice(others, max(len(keys) - wanted, 0), replace=False))
    rows, columns = keys // n_songs, (keys % n_songs).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_users))]).astype(np.int32)
    plays = np.minimum(rng.zipf(2.2, len(keys)), 9_667).astype(np.int32)
    return sparse.csr_array((plays, columns, ends), shape=(n_users, n_songs))


def peak_gb() -> float:
    "The most memory that this process has had."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux: KiB


def measure(options: argparse.Namespace) -> dict:
    "What a fresh process does."
    start = time.perf_counter()
    counts = invented_plays(options.scale)
    made = time.perf_counter() - start
    held, took = peak_gb(), {"one": [], "all": []}
    settings = {name: getattr(options, name) for name in ("rank", "engine", "master", "shared")}
    start = time.perf_counter()
    for cores, n_threads, iterations in (("one", 1, 1), ("all", 0, options.iterations)):
        als(counts, **settings, iterations=iterations, n_threads=n_threads,
            each_iteration=lambda number, seconds, cores=cores: took[cores].append(seconds))
    return {
        "shape": [*counts.shape, counts.nnz], "making_s": round(made, 1),
        "both_s": round(time.perf_counter() - start, 1),
        "one_core_iteration_s": [round(one, 2) for one in took["one"]],
        "iterations_s": [round(one, 2) for one in took["all"]],
        "matrix_peak_gb": round(held, 2), "als_peak_gb": round(peak_gb(), 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the real sizes")
    parser.add_argument("--rank", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--engine", default="implicit")
    parser.add_argument("--master", default="local[*]", help="of Spark")
    parser.add_argument("--shared", help="a folder that all workers of the cluster see")
    parser.add_argument("--here", action="store_true", help="measure in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options)))
        return
    command = [sys.executable, __file__, "--here", *sys.argv[1:]]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    users, songs, pairs = result["shape"]
    print(f"{users:,} users, {songs:,} songs, {pairs:,} pairs; rank {options.rank}")
    for name, value in result.items():
        print(f"{name:16} {value}")
    if options.scale != 1 or options.engine != "implicit":
        print("nothing recorded: only a run at the real sizes on this machine is")
        return
    write_record(
        "als", reference=result["one_core_iteration_s"][0],
        ours=float(np.median(result["iterations_s"])), unit="s", n=pairs, faster_is="less",
        rank=options.rank, what="an iteration of ALS on all cores, and on one", **result,
    )  # fmt: skip


if __name__ == "__main__":
    main()
