"""Reading and joining the text files at their real sizes, against pandas.

Fictional files of the real sizes are written (ids in the real form, counts as Zipf's law has them):
a list of 1,000,000 tracks, 280,831 labels, 237,662 bags of words, 48,373,586 triplets. Then our
readers and pandas each read all of them and join them with the list of tracks, in a fresh process
that reports its seconds and the most memory that it held. The two tables must be equal.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record import medians, write_record

from msd_genre.datasets.labels import read_labels
from msd_genre.datasets.musixmatch import read_counts
from msd_genre.datasets.plays import play_counts, read_unique_tracks

SIZES = {
    "tracks": 1_000_000, "songs": 999_056, "labels": 280_831, "train": 210_519, "test": 27_143,
    "stems": 5_000, "triplets": 48_373_586, "users": 1_019_318, "played_songs": 384_546,
}  # fmt: skip
PAIRS_A_ROW = 76  # stems of a track's lyrics, the real files' mean
GENRES = [
    "Rock", "Pop", "Electronic", "Rap", "Jazz", "Latin", "RnB", "Country", "Metal", "Reggae",
    "Blues", "Folk", "Punk", "World", "New Age",
]  # fmt: skip
PART = 2_000_000  # triplets that are written in one piece


def sizes(scale: float) -> dict[str, int]:
    "The real sizes times `scale`; the number of stems is the format's, and stays."
    return {name: n if name == "stems" else max(int(n * scale), 20) for name, n in SIZES.items()}


def digits(numbers: np.ndarray, alphabet: str, width: int) -> np.ndarray:
    "The numbers to the base of the alphabet's length: (n, width) uint8."
    letters = np.frombuffer(alphabet.encode(), np.uint8)
    places = len(letters) ** np.arange(width - 1, -1, -1, dtype=np.uint64)
    return letters[(numbers[:, None] // places % np.uint64(len(letters))).astype(np.intp)]


def scattered(n: int, bits: int, step: int) -> np.ndarray:
    "The numbers from 0 to n-1, each sent to another one below 2**bits (`step` is odd)."
    return np.arange(n, dtype=np.uint64) * np.uint64(step) & np.uint64(2**bits - 1)


def as_texts(letters: np.ndarray) -> pa.StringArray:
    "Rows of letters as an array of texts."
    n, width = letters.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(letters))]
    return pa.Array.from_buffers(pa.string(), n, buffers)


def identifiers(kind: str, n: int) -> pa.StringArray:
    "`TR...` or `SO...` as the real ones look: five letters and eleven hexadecimal digits."
    start = np.tile(np.frombuffer(kind.encode(), np.uint8), (n, 1))
    letters = digits(scattered(n, 23, 5_654_321), "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 5)
    tail = digits(scattered(n, 44, 9_876_543_211_235), "0123456789ABCDEF", 11)
    return as_texts(np.hstack([start, letters, tail]))


def write_lines(file: BinaryIO, columns: list, separator: str) -> None:
    "A line for each element of the columns: texts or whole numbers."
    texts = [pa.array(column).cast(pa.string()) for column in columns]
    lines = pc.binary_join_element_wise(*texts, separator)
    lines = pc.binary_join_element_wise(lines, "", "\n")
    file.write(lines.buffers()[2])


def pick(values: list[str] | pa.Array, places: np.ndarray) -> pa.Array:
    "The values at some places."
    return pa.array(values).take(pa.array(places))


def zipf(rng: np.random.Generator, n: int, size: int, power: float) -> np.ndarray:
    "`size` numbers from 0 to n-1, k with a chance that falls as (k + 10) ** -power."
    chances = np.cumsum((np.arange(n) + 10.0) ** -power)
    drawn = np.searchsorted(chances / chances[-1], rng.random(size))
    return np.minimum(drawn, n - 1)


def distinct_pairs(
    rng: np.random.Generator, rows: np.ndarray, n_columns: int, power: float
) -> np.ndarray:  # sorted keys row * n_columns + column, each once
    "A column drawn for each row that is given; the same pair is kept once."
    keys = rows.astype(np.int64) * n_columns + zipf(rng, n_columns, len(rows), power)
    keys.sort()
    return keys[np.concatenate([[True], np.diff(keys) > 0])]


def write_tracks(path: Path, tracks: pa.Array, songs: pa.Array, rng: np.random.Generator) -> None:
    "unique_tracks.txt; a few songs stand for two tracks."
    n = len(tracks)
    song = np.concatenate([np.arange(len(songs)), rng.integers(0, len(songs), n)])[:n]
    words = ["Nalu", "Bero", "Tiva", "Soma", "Kiru", "Olen", "Fadi", "Mue", "Rask", "Zé"]
    names = [f"{a} {b}" for a in words for b in words]
    artists, titles = (pick(names, rng.integers(0, len(names), n)) for _ in range(2))
    with path.open("wb") as file:
        write_lines(file, [tracks, pick(songs, song), artists, titles], "<SEP>")


def write_labels(path: Path, tracks: pa.Array, n: int, rng: np.random.Generator) -> None:
    "A .cls file; every eighth row has a minority genre."
    chosen = np.sort(rng.choice(len(tracks), n, replace=False))
    genres = pick(GENRES, zipf(rng, len(GENRES), n, 2.0))
    both = [f"{genre}\t{minority}" for genre in GENRES for minority in GENRES]
    genres = pc.if_else(np.arange(n) % 8 == 0, pick(both, rng.integers(0, len(both), n)), genres)
    with path.open("wb") as file:
        file.write(b"# invented labels\n# trackId, majority-genre, minority-genre?\n")
        write_lines(file, [pick(tracks, chosen), genres], "\t")


def write_lyrics(path: Path, tracks: pa.Array, n_stems: int, rng: np.random.Generator) -> None:
    "A musiXmatch file with a row for each track."
    n = len(tracks)
    drawn = np.maximum(rng.lognormal(np.log(PAIRS_A_ROW), 0.5, n), 1).astype(int)
    keys = distinct_pairs(rng, np.repeat(np.arange(n), drawn), n_stems, 1.0)
    counts = np.minimum(rng.zipf(2.2, len(keys)), 500)
    numbers = [pa.array(column).cast(pa.string()) for column in (keys % n_stems + 1, counts)]
    starts = np.searchsorted(keys, np.arange(n + 1) * n_stems).astype(np.int32)
    pairs = pa.ListArray.from_arrays(starts, pc.binary_join_element_wise(*numbers, ":"))
    with path.open("wb") as file:
        stems = ",".join(f"stem{i}" for i in range(n_stems))
        file.write(f"# invented bags of words\n%{stems}\n".encode())
        write_lines(file, [tracks, np.arange(n) + 1, pc.binary_join(pairs, ",")], ",")


def write_triplets(path: Path, songs: pa.Array, size: dict, rng: np.random.Generator) -> None:
    "train_triplets.txt: a user's rows stand together, as in the real file."
    n, n_songs = size["triplets"], len(songs)
    share = rng.lognormal(0, 1.0, size["users"])
    drawn = np.maximum(share * (1.15 * n / share.sum()), 1).astype(int)
    keys = distinct_pairs(rng, np.repeat(np.arange(size["users"]), drawn), n_songs, 0.9)
    others = np.flatnonzero(np.diff(keys // n_songs) == 0) + 1  # each user keeps one row
    keys = np.delete(keys, rng.choice(others, max(len(keys) - n, 0), replace=False))
    steps = 7_777_777_777_777, 987_654_321_987_653, 31_415_926_535_897, 2_718_281_828_459
    numbers = [scattered(size["users"], 40, step) for step in steps]
    users = as_texts(np.hstack([digits(number, "0123456789abcdef", 10) for number in numbers]))
    with path.open("wb") as file:
        for start in range(0, len(keys), PART):
            part = keys[start : start + PART]
            plays = np.minimum(rng.zipf(2.2, len(part)), 9_667)
            names = pick(users, part // n_songs), pick(songs, part % n_songs)
            write_lines(file, [*names, plays], "\t")


def write_files(folder: Path, scale: float = 1.0, seed: int = 1) -> None:
    "All text files; the folder is complete once `sizes.json` is in it."
    size, rng = sizes(scale), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tracks, songs = identifiers("TR", size["tracks"]), identifiers("SO", size["songs"])
    write_tracks(folder / "unique_tracks.txt", tracks, songs, rng)
    write_labels(folder / "invented_cd2.cls", tracks, size["labels"], rng)
    with_lyrics = rng.permutation(size["tracks"])[: size["train"] + size["test"]]
    parts = {"train": with_lyrics[: size["train"]], "test": with_lyrics[size["train"] :]}
    for split, rows in parts.items():
        write_lyrics(folder / f"mxm_{split}.txt", tracks.take(pa.array(rows)), size["stems"], rng)
    played = songs.take(pa.array(rng.permutation(size["songs"])[: size["played_songs"]]))
    write_triplets(folder / "train_triplets.txt", played, size, rng)
    (folder / "sizes.json").write_text(json.dumps({"scale": scale, "seed": seed, **size}))


# Ours


def our_tracks(folder: Path) -> pd.DataFrame:
    return read_unique_tracks(folder / "unique_tracks.txt")[0]


def our_labels(folder: Path) -> pd.DataFrame:
    return read_labels(folder / "invented_cd2.cls")[0]


def our_lyrics(folder: Path) -> pd.DataFrame:
    lyrics, _ = read_counts({split: folder / f"mxm_{split}.txt" for split in ("train", "test")})
    words = lyrics.counts.sum(axis=1)
    return pd.DataFrame({"track_id": lyrics.track_ids, "split": lyrics.split, "words": words})


def our_plays(folder: Path) -> pd.DataFrame:
    return play_counts([folder / "train_triplets.txt"])[0]


# The same with pandas, as it is mostly done; nothing is checked


def pandas_tracks(folder: Path) -> pd.DataFrame:
    names = ["track_id", "song_id", "artist_name", "title"]
    path = folder / "unique_tracks.txt"
    return pd.read_csv(path, sep="<SEP>", engine="python", names=names, quoting=csv.QUOTE_NONE)


def pandas_labels(folder: Path) -> pd.DataFrame:
    names = ["track_id", "genre", "genre_minority"]
    return pd.read_csv(folder / "invented_cd2.cls", sep="\t", comment="#", names=names)


def pandas_lyrics(folder: Path) -> pd.DataFrame:
    rows = []
    for split in ("train", "test"):
        with (folder / f"mxm_{split}.txt").open() as file:
            for line in file:
                if line[0] not in "#%":
                    track, _, *pairs = line.rstrip("\n").split(",")
                    bag = {int(i): int(n) for i, n in (pair.split(":") for pair in pairs)}
                    rows.append((track, split, sum(bag.values())))
    return pd.DataFrame(rows, columns=["track_id", "split", "words"])


def pandas_plays(folder: Path) -> pd.DataFrame:
    names = ["user", "song_id", "plays"]
    triplets = pd.read_csv(folder / "train_triplets.txt", sep="\t", names=names)
    songs = triplets.groupby("song_id")
    return songs.agg(plays=("plays", "sum"), listeners=("user", "nunique")).reset_index()


READERS: dict[str, dict[str, Callable[[Path], pd.DataFrame]]] = {
    "ours": {"tracks": our_tracks, "labels": our_labels, "lyrics": our_lyrics, "plays": our_plays},
    "pandas": {
        "tracks": pandas_tracks, "labels": pandas_labels, "lyrics": pandas_lyrics,
        "plays": pandas_plays,
    },
}  # fmt: skip


def join(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    "A row for each track of the list, sorted by track id."
    joined = (
        tables["tracks"]
        .merge(tables["labels"], how="left", on="track_id")
        .merge(tables["lyrics"], how="left", on="track_id")
        .merge(tables["plays"], how="left", on="song_id")
    )
    return joined.sort_values("track_id", ignore_index=True)


def read_and_join(side: str, folder: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    "The joined table, and seconds by step."
    tables, seconds = {}, {}
    for name, read in READERS[side].items():
        start = time.perf_counter()
        tables[name] = read(folder)
        seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
    joined = join(tables)
    seconds["join"] = time.perf_counter() - start
    return joined, seconds


def same_tables(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    "Raises where the two sides did not read and join the same; whole numbers may be floats."
    assert len(ours) == len(theirs) and ours["genre"].notna().any() and ours["plays"].notna().any()
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)


def measure(side: str, folder: Path, memory_gb: float) -> dict:  # as `one_side` gives it
    "One side in a fresh process."
    command = [sys.executable, __file__, "--side", side, "--folder", folder, "--memory", memory_gb]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def one_side(side: str, folder: Path, memory_gb: float) -> dict:
    "What the fresh process does; the table is left in the folder, to be compared."
    limit = int(memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = time.process_time()
    joined, seconds = read_and_join(side, folder)
    cpu_s = time.process_time() - before  # of all threads: other work on the machine adds little
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux: KiB
    joined.to_parquet(folder / f"{side}.parquet")
    return {
        "seconds": sum(seconds.values()), "cpu_s": round(cpu_s, 1), "peak_gb": round(peak, 2),
        "steps": seconds,
    }  # fmt: skip


def compare(folder: Path, scale: float, n_runs: int, memory_gb: float) -> None:
    "Write the files unless they are there, measure both sides, compare, record."
    written = folder / "sizes.json"
    if not written.is_file() or json.loads(written.read_text())["scale"] != scale:
        start = time.perf_counter()
        write_files(folder, scale)
        print(f"files written in {time.perf_counter() - start:.0f} s")
    ours = [measure("ours", folder, memory_gb) for _ in range(n_runs)]
    theirs = measure("pandas", folder, memory_gb)
    same_tables(*(pd.read_parquet(folder / f"{side}.parquet") for side in READERS))
    steps = medians({name: [run["steps"][name] for run in ours] for name in ours[0]["steps"]})
    print(f"{'':8}{'ours':>10}{'pandas':>10}")
    for name in steps:
        print(f"{name:8}{steps[name]:9.1f}s{theirs['steps'][name]:9.1f}s")
    peak = {"ours": max(run["peak_gb"] for run in ours), "pandas": theirs["peak_gb"]}
    print(f"{'memory':8}{peak['ours']:8.2f}GB{peak['pandas']:8.2f}GB")
    seconds = [round(run["seconds"], 2) for run in ours]
    if scale != 1:
        print("nothing recorded: only a run at the real sizes is")
        return
    write_record(
        "text_join", reference=round(theirs["seconds"], 2),
        ours=medians({"ours": seconds})["ours"], unit="s", n=sizes(scale)["tracks"],
        faster_is="less", scale=scale, rows=sizes(scale), peak_gb=peak, runs=seconds,
        cpu_s={"ours": [run["cpu_s"] for run in ours], "pandas": theirs["cpu_s"]},
        seconds_by_step={
            "ours": {name: round(s, 2) for name, s in steps.items()},
            "pandas": {name: round(s, 2) for name, s in theirs["steps"].items()},
        },
        bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir())
               if path.suffix in (".txt", ".cls")},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the real sizes")
    parser.add_argument("--folder", type=Path, help="keeps the files (4 GB); default: a temporary")
    parser.add_argument("--runs", type=int, default=3, help="of ours; pandas runs once")
    parser.add_argument("--memory", type=float, default=20.0, help="GB that a side may address")
    parser.add_argument("--side", choices=READERS, help="only this side, in this process")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_side(options.side, options.folder, options.memory)))
    elif options.folder:
        compare(options.folder, options.scale, options.runs, options.memory)
    else:
        with TemporaryDirectory() as folder:
            compare(Path(folder), options.scale, options.runs, options.memory)


if __name__ == "__main__":
    main()
