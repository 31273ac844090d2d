"""Training an epoch: the fused training next to the best that Keras itself offers, in one process.

Arrays of the shape of songs (19,000 rows of 300 segments), the networks as coded, batches of 10 and
of 64. Keras trains by `fit` on arrays in memory, plainly and with 16 steps per execution; the LSTM
also with XLA, which makes the CNN slower. All sides make the same updates of the same networks in
the same order; they take turns, and the median of the rounds is kept. The ratio is that of the
fastest Keras setup. A round may take a part of the epoch (`--rows`), since the cost of a step does
not depend on its place; seconds are given for the whole epoch. Processor time is recorded next to
wall time, since other work on the machine changes it less; and for the CNN, the time that the
products of its matrices take by themselves. Then one process per side loads `--corpus` songs,
trains for some steps and reports its peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from record import medians, write_record

EPOCH, GENRES, WORDS = 19_000, 18, 300  # songs, outputs and length of a lyric vector, as coded
CASES = [("cnn", 10), ("cnn", 64), ("lstm", 10), ("lstm", 64)]
ROWS = {"cnn": EPOCH, "lstm": 5_000}  # of a round
KERAS = {  # setup -> how Keras compiles the network
    "arrays": {},
    "16 steps": {"steps_per_execution": 16},
    "XLA": {"jit_compile": True},
    "XLA, 16 steps": {"jit_compile": True, "steps_per_execution": 16},
}
FUSED = "fused"


def setups(network: str) -> list[str]:
    "Return the sides of a comparison; Keras with XLA for the LSTM only."
    return [*(one for one in KERAS if network == "lstm" or "XLA" not in one), FUSED]


def invented(n: int):
    "Songs as `training.Songs` has them; row by row random numbers of the real range."
    from msd_genre.models.inputs import Songs

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
    "One way of training one network; `measure` continues from the last state."

    def __init__(self, setup: str, network: str, size: int, songs, rows: int):
        import keras

        from msd_genre.models import fused, training
        from msd_genre.models import inputs as inputs_module

        self.size, self.songs, self.program = size, songs, None
        self.model = training._compile_model(
            songs, inputs_module.Plan(network, "as_coded", batch_size=size))
        options = {"jit_compile": False} | KERAS.get(setup, {})
        self.model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy",
                           metrics=["accuracy"], **options)  # fmt: skip
        started, used = time.perf_counter(), time.process_time()
        if setup == FUSED:
            self.program = fused._fused_program(self.model)
            self.program.load_from(self.model)
        whole_calls = 16 * size  # then the last batch: all shapes are traced and compiled
        self.measure(np.arange(min(rows, whole_calls + rows % size)))
        self.start_s = time.perf_counter() - started, time.process_time() - used

    def measure(self, rows: np.ndarray) -> dict:
        "Train on these rows; return wall and processor seconds of a whole epoch, and the loss."
        import keras

        inputs, labels, marks = self.songs.inputs, self.songs.labels, []

        def mark(*_: object) -> None:
            marks.append((time.perf_counter(), time.process_time()))

        if self.program is None:  # what `fit` does once before its first epoch is not counted
            x, y = {name: array[rows] for name, array in inputs.items()}, labels[rows]
            clock = keras.callbacks.LambdaCallback(on_epoch_begin=mark, on_epoch_end=mark)
            logs = self.model.fit(x, y, batch_size=self.size, shuffle=False, verbose=0,
                                  callbacks=[clock]).history  # fmt: skip
            loss = logs["loss"][0]
        else:
            mark()
            loss = self.program.epoch(inputs, labels, rows, self.size)["loss"]
            mark()
        (started, used), (ended, worked) = marks
        whole = EPOCH / len(rows)
        return {"seconds": (ended - started) * whole, "cpu_s": (worked - used) * whole,
                "loss": loss}  # fmt: skip


def compare(network: str, size: int, songs, n: int, rounds: int) -> dict:
    "Measure all sides in turn on `n` songs; `best_keras` is the fastest setup by wall time."
    sides = {setup: Side(setup, network, size, songs, n) for setup in setups(network)}
    order = np.random.default_rng(2).permutation(len(songs.track_ids))[:n]
    runs = {setup: [] for setup in sides}
    for _ in range(rounds):
        for setup, side in sides.items():
            runs[setup].append(side.measure(order))
    cell = {"network": network, "batch": size, "rows": n, "rounds": rounds}
    for value in ("seconds", "cpu_s"):
        each = {setup: [round(run[value], 2) for run in own] for setup, own in runs.items()}
        cell |= {value: medians(each), f"runs_{value}": each}
    seconds = cell["seconds"]
    best = min((setup for setup in sides if setup != FUSED), key=lambda setup: seconds[setup])
    cell["best_keras"] = best
    for value in ("seconds", "cpu_s"):
        cell[f"ratio_{value}"] = round(cell[value][best] / cell[value][FUSED], 2)
    if network == "cnn":
        cell["products_s"] = products(sides[best].model, size)
    cell["loss"] = {setup: [round(run["loss"], 4) for run in own] for setup, own in runs.items()}
    cell["start_s"] = {setup: [round(v, 1) for v in side.start_s] for setup, side in sides.items()}
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


def hold(setup: str, n: int) -> None:
    "Train on `n` songs for some steps and print the peak memory of this process in GB."
    side = Side(setup, "cnn", 10, invented(n), n)
    side.measure(np.random.default_rng(3).permutation(n)[:2_000])
    status = Path("/proc/self/status").read_text()  # `getrusage` would include the parent's peak
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps(round(peak_kib * 1024 / 1e9, 2)))


def memory(n: int) -> dict[str, float]:
    "Return the peak memory of each side of the CNN in GB, each in its own process."
    peaks = {}
    for setup in ("arrays", FUSED):
        done = subprocess.run([sys.executable, __file__, "--hold", setup, "--corpus", str(n)],
                              check=True, capture_output=True, text=True)  # fmt: skip
        peaks[setup] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, help=f"in a round; default {ROWS}")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--corpus", type=int, default=32_648, help="songs loaded for the memory")
    options.add_argument("--cases", nargs="+", help="such as cnn-10; default: all, and recorded")
    options.add_argument("--hold", choices=["arrays", FUSED], help=argparse.SUPPRESS)
    given = options.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if given.hold:
        return hold(given.hold, given.corpus)
    songs, cells = invented(given.rows or max(ROWS.values())), []
    for network, size in CASES:
        if given.cases and f"{network}-{size}" not in given.cases:
            continue
        cells.append(compare(network, size, songs, given.rows or ROWS[network], given.rounds))
        print({k: v for k, v in cells[-1].items() if not isinstance(v, dict)}, flush=True)
    table = pd.DataFrame([{"network": cell["network"], "batch": cell["batch"], **cell["seconds"],
                           "ratio": cell["ratio_seconds"]} for cell in cells])  # fmt: skip
    print("\n" + table.to_string(index=False))
    if given.cases:
        print("nothing recorded: only a run of all cases is")
        return None
    peak_gb = memory(given.corpus)
    print(f"peak memory with {given.corpus:,} songs: {peak_gb}")
    first = cells[0]
    write_record("train", reference=first["seconds"][first["best_keras"]],
                 ours=first["seconds"][FUSED], unit="s", n=EPOCH, faster_is="less", cells=cells,
                 peak_gb=peak_gb, corpus=given.corpus,
                 load=[round(v, 1) for v in os.getloadavg()])  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
