"""The full run rehearsed on fictional songs: killed twice on the way, and what it took.

Runs `msd-genre report params/rehearsal.yaml`, kills all of its processes with SIGKILL while the
songs are read and while a network is trained, starts it again each time, and looks whether what
was complete is made a second time. The first kill comes as soon as a third of the shards are there,
the second after the first epoch of the CNN. Then the record goes to results/rehearsal: what
`msd-genre record` keeps, the kills, the sizes of the corpus and of the run, and the trainings.

It needs 35 GB of disk. Stopped at any point, the same command goes on.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
from record import machine

from msd_genre.corpus.catalog import funnel, kept, set_aside
from msd_genre.report.chapters import record_run
from msd_genre.workspace.costs import read_costs
from msd_genre.workspace.paths import project_root
from msd_genre.workspace.runs import Run, _write_json, open_run

STEPS = ("catalog", "05_cnn")  # in which it is killed
TRAINED = "models/cnn-as_written-artist-f0-s1"


def times(paths: list[Path]) -> dict[str, int]:
    "When files were written, by their path."
    return {path.as_posix(): path.stat().st_mtime_ns for path in sorted(paths)}


def shards(run_dir: Path) -> dict[str, int]:
    "The shards of songs that are whole, by name."
    found = [*run_dir.glob(".scratch/songs/pieces/shard-*/arrays.h5"),
             *run_dir.glob("songs/shard-*/arrays.h5")]
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def epochs(run_dir: Path) -> dict[str, int]:
    "The epochs of the CNN that are kept to go on from."
    folder = run_dir / ".scratch" / TRAINED.replace("/", "__")
    return {path.parent.name: path.stat().st_mtime_ns
            for path in folder.glob("*/epoch-*/history.json")}


def artefacts(run_dir: Path) -> dict[str, int]:
    "When each artefact of the run was made."
    return times([path for path in (run_dir / ".keys").glob("*.json")
                  if path.name != "raw_files.json"])


def ripe(run_dir: Path, step: str, n_songs: int) -> bool:
    "Whether the moment to kill the run has come."
    if step == "catalog":
        return len(shards(run_dir)) >= n_songs / 256 / 3
    return bool(epochs(run_dir)) and not (run_dir / TRAINED).exists()


def start(params: str, log: Path) -> subprocess.Popen:
    "The report, in a session of its own so that all of its processes can be killed."
    command = [str(Path(sys.executable).with_name("msd-genre")), "report", params]
    with log.open("a") as file:
        file.write(f"\n$ {' '.join(['msd-genre', *command[1:]])}\n")
        file.flush()
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def until(done: Callable[[], bool], process: subprocess.Popen) -> bool:
    "Wait; whether it came to that before the process ended."
    while process.poll() is None:
        if done():
            return True
        time.sleep(0.25)
    return False


def kill(process: subprocess.Popen, run_dir: Path, step: str) -> dict:
    "Kill it with all of its processes; what was complete then."
    tree = psutil.Process(process.pid)  # a kernel has a session of its own, workers have parents
    for one in [tree, *tree.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)
    units = shards(run_dir) if step == "catalog" else epochs(run_dir)
    return {"step": step, "signal": "SIGKILL", "units": units, "artefacts": artefacts(run_dir),
            "attempt": read_costs(open_run(run_dir))[step][-1]}


def went_on(before: dict, run_dir: Path, step: str) -> dict | None:
    "What of that is there unchanged, once the next of its kind has been made; None: not yet."
    now = shards(run_dir) if step == "catalog" else epochs(run_dir)
    if not set(now) - set(before["units"]):
        return None
    kept_units = [name for name, when in before["units"].items() if now.get(name) == when]
    known = artefacts(run_dir)
    again = [Path(name).stem for name, when in before["artefacts"].items()
             if known.get(name) != when]
    return {"step": step, "signal": before["signal"], "attempt": before["attempt"],
            "complete": len(before["units"]), "unchanged": len(kept_units),
            "unit": "shards of songs" if step == "catalog" else "epochs of the CNN",
            "artefacts": len(before["artefacts"]), "made_again": again}


def rehearse(params: str, run_dir: Path, n_songs: int) -> None:
    "Run the report to its end, with the kills that have not been done yet."
    notes, log = run_dir / "kills.json", run_dir / "rehearsal.log"
    run_dir.mkdir(parents=True, exist_ok=True)
    seen = json.loads(notes.read_text()) if notes.is_file() else {}
    process = start(params, log)
    for step in STEPS:
        if "unit" in seen.get(step, {}):
            continue
        if step not in seen:
            if not until(lambda step=step: ripe(run_dir, step, n_songs), process):
                break
            seen[step] = kill(process, run_dir, step)
            _write_json(seen, notes)
            print(f"killed in {step}", flush=True)
            process = start(params, log)
        until(lambda step=step: went_on(seen[step], run_dir, step) is not None, process)
        if found := went_on(seen[step], run_dir, step):
            seen[step] = found
            _write_json(seen, notes)
            print(f"went on in {step}: {len(found['made_again'])} artefacts made again", flush=True)
    if code := process.wait():
        raise SystemExit(f"the report ended with {code}; see {log}")


def went_on_after(run_dir: Path, chapter: str) -> int:
    "The epoch after which a training of a chapter says that it went on; 0: it began anew."
    cells = json.loads((run_dir / "chapters" / f"{chapter}.ipynb").read_text())["cells"]
    said = "".join(line for cell in cells for output in cell.get("outputs", [])
                   for line in output.get("text", []))
    return int((re.search(r"going on after epoch (\d+)", said) or ["", 0])[1])


def folder_gb(folder: Path) -> float:
    "What the files of a folder hold, 1e9 bytes."
    return round(sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 1e9, 2)


def sizes(run: Run) -> dict:
    "How large the corpus and the run are, and what was lost on the way."
    data = Path(run.params["data"]["folder"])
    catalog, aside = run.read("catalog.parquet"), set_aside(run)
    plays = run.read("texts/plays/plays.parquet")
    steps = funnel(catalog, unreadable=int((aside["source"] == "songs").sum()))
    parts = {path.name: folder_gb(path) if path.is_dir() else round(path.stat().st_size / 1e9, 3)
             for path in sorted(run.dir.iterdir()) if not path.name.startswith(".")}
    return {
        "song_files": len(catalog) + int((aside["source"] == "songs").sum()),
        "songs_kept": len(kept(catalog)), "funnel": steps.to_dict("list"),
        "set_aside": len(aside), "listeners": run.params["data"]["listeners"],
        "triplets": int(plays["listeners"].sum()), "songs_played": len(plays),
        "corpus_gb": folder_gb(data), "songs_gb": folder_gb(data / "data"),
        "run_gb": round(sum(parts.values()), 2),
        "parts_gb": {name: gb for name, gb in parts.items() if gb >= 0.05},
    }


def trainings(run: Run) -> pd.DataFrame:
    "What each network cost: seconds and processor seconds of the last epoch, rows, parameters."
    rows = []
    for place in ("models", "longer/models"):  # popularity keeps no costs
        for path in sorted((run.dir / place).glob("*/cost.json")):
            cost = json.loads(path.read_text())
            last = cost.get("last_epoch", {})
            rows.append({"training": f"{place.partition('/')[0]}/{path.parent.name}",
                         "seconds": cost.get("seconds"), "epoch_s": last.get("seconds"),
                         "epoch_processor_s": last.get("processor_s"),
                         "rows": cost.get("train_rows"), "parameters": cost.get("parameters"),
                         "way": cost.get("way")})
    return pd.DataFrame(rows)


def keep(run_dir: Path) -> Path:
    "Write the record of a run as far as it is."
    run = open_run(run_dir)
    folder = project_root() / "results" / run.params["run"]
    folder.mkdir(parents=True, exist_ok=True)
    record_run(run, folder)
    kills = json.loads((run_dir / "kills.json").read_text())
    for step in {*STEPS[1:]} & {*kills}:  # each state of a training takes the place of the last
        kills[step]["unchanged"] = went_on_after(run_dir, step)
    _write_json(list(kills.values()), folder / "kills.json")
    _write_json(sizes(run) | {"machine": machine()}, folder / "sizes.json")
    trainings(run).to_csv(folder / "trainings.csv", index=False)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", default="params/rehearsal.yaml")
    parser.add_argument("--run-dir", default="runs/rehearsal")
    parser.add_argument("--songs", type=int, default=51_582, help="song files of the corpus")
    parser.add_argument("--record", action="store_true", help="write the record alone")
    options = parser.parse_args()
    run_dir = project_root() / options.run_dir
    if not options.record:
        rehearse(options.params, run_dir, options.songs)
    print(keep(run_dir))


if __name__ == "__main__":
    main()
