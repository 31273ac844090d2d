"""Training an epoch: our way beside the write-up's layers written plainly in Keras, in one process.

Arrays of the shape of songs (19,000 rows of 300 segments), the networks as coded, batches of 10 and
of 64. Both sides make the same updates of the same networks in the same order; they take turns, and
the median of the rounds is kept. A round may take a part of the epoch (`--songs`), since a step
costs the same wherever it stands; seconds are given for the whole epoch. Processor time is kept
beside the clock's, since other work on the machine changes the one less than the other; and beside
the CNN, what the products of its matrices cost by themselves. Then one process a side holds
`--corpus` songs, trains for some steps and reports the most memory it had.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from record import medians, write_record

EPOCH, GENRES, WORDS = 19_000, 18, 300  # songs, outputs and length of a lyric vector, as coded
CASES = [("cnn", 10), ("cnn", 64), ("lstm", 10), ("lstm", 64)]


def invented(n: int):
    "Songs as `training.Songs` has them; row by row random numbers of the real range."
    from msd_genre.training import Songs

    rng, rows = np.random.default_rng(1), np.arange(n)
    inputs = {"chroma": rng.random((n, 300, 12), dtype=np.float32),
              "timbre": rng.standard_normal((n, 300, 12), dtype=np.float32),
              "lyrics": rng.standard_normal((n, WORDS), dtype=np.float32)}  # fmt: skip
    inputs["timbre"] *= 50
    names = [f"genre {i:02d}" for i in range(GENRES)]
    genres = np.array(names)[rng.integers(0, GENRES, n)]
    parts = {"train": rows, "validation": rows[:256]}
    return Songs(names, rows.astype(str), genres, parts, inputs, None, None)


class Side:
    "One way of training one network; `epoch` goes on from where it was."

    def __init__(self, side: str, name: str, size: int, songs):
        import keras

        from msd_genre import training

        self.side, self.size, self.songs = side, size, songs
        self.plan = training.Plan(name, "as_coded", batch_size=size)
        self.model = training.compile_model(songs, self.plan)
        self.model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy",
                           metrics=["accuracy"], jit_compile=False)  # fmt: skip
        started, used = time.perf_counter(), time.process_time()
        if side == "ours":
            self.program = layers.fused_program(self.model)
            self.program.take(self.model)
        self.epoch(np.arange(size))  # traces and compiles
        self.start_s = time.perf_counter() - started, time.process_time() - used

    def epoch(self, rows: np.ndarray) -> float:
        "Learn from these rows; the loss."
        from msd_genre.training import Batches

        if self.side == "ours":
            return self.program.epoch(self.songs, rows, self.size)["loss"]
        batches = Batches(self.songs, rows, self.size)
        return self.model.fit(batches, shuffle=False, verbose=0).history["loss"][0]

    def measure(self, rows: np.ndarray) -> dict:
        "Seconds of an epoch, by the clock and of processor time."
        started, used = time.perf_counter(), time.process_time()
        loss = self.epoch(rows)
        share = EPOCH / len(rows)
        return {"seconds": (time.perf_counter() - started) * share,
                "cpu_s": (time.process_time() - used) * share, "loss": loss}  # fmt: skip


def compare(name: str, size: int, songs, n: int, rounds: int) -> dict:
    "Both sides in turn over the first `n` songs."
    sides = {side: Side(side, name, size, songs) for side in ("plain", "ours")}
    order = np.random.default_rng(2).permutation(len(songs.track_ids))[:n]
    runs = {side: [] for side in sides}
    for _ in range(rounds):
        for side, one in sides.items():
            runs[side].append(one.measure(order))
    cell = {"network": name, "batch": size, "songs": n, "rounds": rounds}
    for value in ("seconds", "cpu_s"):
        seen = {side: [run[value] for run in own] for side, own in runs.items()}
        middle = medians(seen)
        cell |= {f"{side}_{value}": round(middle[side], 2) for side in seen}
        cell[f"ratio_{value}"] = round(middle["plain"] / middle["ours"], 2)
        cell[f"runs_{value}"] = {side: [round(v, 2) for v in own] for side, own in seen.items()}
    if name == "cnn":
        cell["products_s"] = products(sides["plain"].model, size)
    cell["loss"] = {side: [round(run["loss"], 4) for run in own] for side, own in runs.items()}
    cell["start_s"] = {side: [round(v, 1) for v in one.start_s] for side, one in sides.items()}
    return cell


def products(model, size: int) -> dict[str, float]:
    """Seconds of an epoch that numpy takes for the products of matrices alone, by layer.

    Forward, for the gradient of the weights and, but behind an input, for that of what came in: a
    program that does the layers as they are written cannot go far below.
    """
    import keras

    rng, took = np.random.default_rng(4), {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv1D | keras.layers.Dense):
            continue
        n_in, n_out = int(np.prod(layer.kernel.shape[:-1])), layer.kernel.shape[-1]
        rows = size * int(np.prod(layer.output.shape[1:-1]))
        sizes = ((rows, n_in), (n_in, n_out), (rows, n_out))
        x, kernel, gradient = (rng.standard_normal(one, dtype=np.float32) for one in sizes)
        behind_input = any(layer.input is one for one in model.inputs)
        runs = []
        for _ in range(30):
            started = time.perf_counter()
            _ = x @ kernel, x.T @ gradient, None if behind_input else gradient @ kernel.T
            runs.append(time.perf_counter() - started)
        took[layer.name] = round(float(np.median(runs)) * EPOCH / size, 2)
    return took


def hold(side: str, n: int) -> None:
    "Train on so many songs for some steps and print the most memory that this process had, in GB."
    one = Side(side, "cnn", 10, invented(n))
    one.epoch(np.random.default_rng(3).permutation(n)[:2_000])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux: KiB
    print(json.dumps(round(peak, 2)))


def memory(n: int) -> dict[str, float]:
    "The most memory of each side, in GB, each in a process of its own."
    found = {}
    for side in ("plain", "ours"):
        done = subprocess.run([sys.executable, __file__, "--hold", side, "--corpus", str(n)],
                              check=True, capture_output=True, text=True)  # fmt: skip
        found[side] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--songs", type=int, default=EPOCH, help="of the epoch, in a CNN's round")
    options.add_argument("--lstm-songs", type=int, default=2_000, help="in an LSTM's round")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--corpus", type=int, default=32_648, help="songs held for the memory")
    options.add_argument("--cases", nargs="+", help="such as cnn-10; default: all, and recorded")
    options.add_argument("--hold", choices=["plain", "ours"], help=argparse.SUPPRESS)
    given = options.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if given.hold:
        return hold(given.hold, given.corpus)
    songs, cells = invented(max(given.songs, given.lstm_songs)), []
    for name, size in CASES:
        if given.cases and f"{name}-{size}" not in given.cases:
            continue
        n = given.lstm_songs if name == "lstm" else given.songs
        cells.append(compare(name, size, songs, n, given.rounds))
        print({k: v for k, v in cells[-1].items() if not isinstance(v, dict)}, flush=True)
    if given.cases:
        print("nothing recorded: only a run of all cases is")
        return None
    peak_gb = memory(given.corpus)
    columns = ["network", "batch", "plain_seconds", "ours_seconds", "ratio_seconds", "plain_cpu_s",
               "ours_cpu_s", "ratio_cpu_s"]  # fmt: skip
    print("\n" + pd.DataFrame(cells)[columns].to_string(index=False))
    print(f"most memory at {given.corpus:,} songs: {peak_gb}")
    main_case = cells[0]
    write_record("train", reference=main_case["plain_seconds"], ours=main_case["ours_seconds"],
                 unit="s", n=EPOCH, faster_is="less", cells=cells, peak_gb=peak_gb,
                 corpus=given.corpus, load=[round(v, 1) for v in os.getloadavg()])  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
