"""Nearest songs among a million in 50 dimensions: the index against every distance computed.

The vectors are drawn as an embedding is made: genres in 20 hidden dimensions, mapped to 50 by a
layer with ReLU. The queries are new draws, one at a time and on one thread, as a person asks. Time
of a query is the median over the queries; recall is the share of the true ten nearest that are
found. The reference is the exact search. Vectors without any structure (a normal distribution in
50 dimensions) are measured too: no embedding is like that, and it is the hardest there is.
"""

import argparse
from statistics import median
from time import perf_counter

import faiss
import numpy as np
import pandas as pd
from record import write_record

from msd_genre.inference.index import _PROBED, build_index, nearest

GENRES, HIDDEN, DIMENSIONS, K = 16, 20, 50, 10


def embedded(n: int, seed: int) -> np.ndarray:  # (n, 50) float32
    "Vectors like those of a network's last layer but one."
    layout, rng = np.random.default_rng(0), np.random.default_rng(seed)
    middles = layout.normal(0, 2, (GENRES, HIDDEN))
    layer = layout.normal(0, HIDDEN**-0.5, (HIDDEN, DIMENSIONS))
    hidden = middles[rng.integers(0, GENRES, n)] + rng.normal(size=(n, HIDDEN))
    return np.maximum(hidden @ layer, 0).astype(np.float32)


def structureless(n: int, seed: int) -> np.ndarray:  # (n, 50) float32
    "Vectors in which nothing is near anything."
    return np.random.default_rng(seed).normal(size=(n, DIMENSIONS)).astype(np.float32)


def ask(index: faiss.Index, queries: np.ndarray) -> tuple[float, np.ndarray]:
    "Median milliseconds of a query, and the rows that were found."
    seconds, rows = [], []
    for query in queries:
        start = perf_counter()
        rows.append(nearest(index, query[None], K)[1][0])
        seconds.append(perf_counter() - start)
    return 1e3 * median(seconds), np.array(rows)


def measure(kind: str, vectors: np.ndarray, queries: np.ndarray) -> list[dict]:
    "Build time, query time and recall: exact, and of the index that the package builds."
    table, truth = [], None
    for name, exact in (("exact", True), ("ours", False)):
        start = perf_counter()
        index = build_index(vectors, exact)
        built = perf_counter() - start
        ms, rows = ask(index, queries)
        truth = rows if exact else truth
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(rows, truth, strict=True)])
        table.append({"vectors": kind, "index": name, "build_s": round(built, 1),
                      "query_ms": round(ms, 3), "recall_at_10": round(float(recall), 4)})
        print(table[-1], flush=True)
    return table


def main() -> None:
    "Measure and keep."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=1_000_000, help="vectors in the index")
    parser.add_argument("--queries", type=int, default=1_000, help="how many are asked")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    table = []
    for kind, draw in (("like an embedding", embedded), ("without structure", structureless)):
        table += measure(kind, draw(options.songs, 1), draw(options.queries, 2))
    print(pd.DataFrame(table).to_string(index=False))
    exact, ours = table[:2]
    write_record("neighbours", exact["query_ms"], ours["query_ms"], "ms a query", options.songs,
                 "less", dimensions=DIMENSIONS, k=K, queries=options.queries, cells_probed=_PROBED,
                 recall_at_10=ours["recall_at_10"], build_s=ours["build_s"], table=table)


if __name__ == "__main__":
    main()
