"""Songs a second on one core: `read_song` beside PyTables, the field's own way, and beside h5py.

Every method gets the same: the three segment arrays whole and the metadata fields of the catalog,
from the same files, in one process, with a warm cache, nothing of a file kept. PyTables opens a
file once and reads one column a field. The methods take turns, `--repeats` times; medians count.
The floor is what no reader can avoid: reading a file's bytes and inflating the chunks that hold
what is asked for. The profile says where the time of a song goes.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import h5py
import tables
from isal import isal_zlib
from record import medians, write_record

from msd_genre.files import hdf5, hdf5_bytes, song_file, song_schema, song_sources
from msd_genre.synthetic.write import write_demo

ARRAYS = [f"analysis/{name}" for name in song_schema._SEGMENT_ARRAYS]
TABLES = list(dict.fromkeys(table for table, _ in song_schema.METADATA_FIELDS.values()))


def by_pytables(path: str) -> None:
    "One column a field, each array whole; the file is opened once."
    with tables.open_file(path) as file:
        for array in ARRAYS:
            file.get_node(f"/{array}")[:]
        for table, field in song_schema.METADATA_FIELDS.values():
            getattr(file.get_node(f"/{table}").cols, field)[0]


def by_h5py(path: str) -> None:
    "As one writes it: arrays and the rows of the tables whole."
    with h5py.File(path) as file:
        for array in ARRAYS:
            file[array][:]
        rows = {table: file[table][0] for table in TABLES}
    for table, field in song_schema.METADATA_FIELDS.values():
        rows[table][field].item()


def by_our_plain_way(path: str) -> None:
    "What `read_song` does with a file of another layout."
    data = Path(path).read_bytes()
    with hdf5._plain_datasets(data) as dataset:
        song_file._song(dataset, path, False)


def opened(path: str) -> None:
    "The file opened by HDF5's low-level call, and closed."
    h5py.h5f.open(path.encode(), h5py.h5f.ACC_RDONLY).close()


def chunks(data: bytes) -> list[bytes]:
    "The stored chunks of all that is read of a song."
    dataset, found = hdf5_bytes._raw_datasets(data), []
    for name in ARRAYS + TABLES:
        raw = dataset(name)
        places = hdf5_bytes._chunks(data, raw.tree, len(raw.shape))
        found += [data[at : at + size] for size, _, _, at in places]
    return found


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def inflate(stored: list[bytes]) -> None:
    for chunk in stored:
        isal_zlib.decompress(chunk)


def datasets(data: bytes) -> None:
    dataset = hdf5_bytes._raw_datasets(data)
    for name in ARRAYS + TABLES:
        dataset(name)[...]


METHODS = {
    "PyTables": by_pytables,
    "h5py": by_h5py,
    "ours, plain way": by_our_plain_way,
    "ours, float64": song_file.read_song,
    "open only": opened,
}


def seconds(function: Callable, arguments: list) -> float:
    "How long a function takes for all arguments."
    start = perf_counter()
    for argument in arguments:
        function(argument)
    return perf_counter() - start


def measure(paths: list[str], repeats: int) -> tuple[dict, dict]:
    "Method -> songs/s of each repeat; stage of our reader -> microseconds a song of each repeat."
    contents = [read_bytes(path) for path in paths]
    stored = [chunks(data) for data in contents]
    rates = {name: [] for name in [*METHODS, "floor"]}
    profile = {}
    for _ in range(repeats):
        for name, method in METHODS.items():
            rates[name].append(len(paths) / seconds(method, paths))
        stage = {
            "read the bytes": seconds(read_bytes, paths),
            "find the chunks": seconds(chunks, contents),
            "inflate": seconds(inflate, stored),
        }
        floor = stage["read the bytes"] + stage["inflate"]
        rates["floor"].append(len(paths) / floor)
        stage["unshuffle"] = seconds(datasets, contents) - stage["find the chunks"]
        stage["unshuffle"] -= stage["inflate"]
        whole = len(paths) / rates["ours, float64"][-1]
        stage["check, decode, put together"] = whole - sum(stage.values())
        for name, value in stage.items():
            profile.setdefault(name, []).append(value / len(paths) * 1e6)
    return rates, profile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("MSD_GENRE_DATA"), help="folder of songs")
    parser.add_argument("--songs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if not options.data:
            print("No --data and no MSD_GENRE_DATA: measured on fictional songs, written now.")
            write_demo(temporary, n_songs=options.songs)
        paths = []
        for path in song_sources._find_songs(options.data or temporary):
            try:
                song_file.read_song(path)
            except song_schema.SongError:
                continue  # the fictional corpus has some broken files
            paths.append(str(path))
        paths = paths[: options.songs]
        rates, profile = measure(paths, options.repeats)

    typical = medians(rates)
    print(f"\n{len(paths)} songs, {'real' if options.data else 'fictional'}, one core")
    for name, rate in sorted(typical.items(), key=lambda item: item[1]):
        times = rate / typical["PyTables"]
        print(f"  {name:16} {rate:9,.0f} songs/s  {1e6 / rate:8,.0f} µs a song  {times:7.2f} x")
    print("\nWhere the time of `read_song` goes, µs a song")
    for name, value in medians(profile).items():
        print(f"  {name:28} {value:7.0f}")
    write_record(
        "read_songs",
        reference=typical["PyTables"],
        ours=typical["ours, float64"],
        unit="songs/s",
        n=len(paths),
        reference_name="PyTables",
        fictional=not options.data,
        cores=1,
        methods={name: round(rate, 1) for name, rate in typical.items()},
        runs={name: [round(rate, 1) for rate in values] for name, values in rates.items()},
        profile={name: round(value, 1) for name, value in medians(profile).items()},
        profile_unit="microseconds a song",
    )


if __name__ == "__main__":
    main()
