"""The song map with 30,000 songs in a real browser: first paint, and frames while panning.

The page is opened from a file in headless chromium without a graphics card: a computer with a
screen is faster. First paint is the time from the start of loading to the frame after all points
are drawn; beside it stands the processor time that all processes of the browser took for that,
which other work on the machine changes less. Panning is measured as the time between frames while
the mouse drags the map. The reference is the two seconds that a first paint may take.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
from playwright.sync_api import sync_playwright
from record import write_record

from msd_genre.inference.song_map import map_page

GENRES = ["Rock", "Pop", "Electronic", "Metal", "Rap", "Jazz", "RnB", "Country", "Latin", "Reggae",
          "Folk", "Blues", "Punk", "World", "New Age", "Vocal"]  # fmt: skip
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
LIMIT_S = 2.0
FRAMES = """() => new Promise((done) => {
    const times = []; let last = performance.now();
    const next = (now) => { times.push(now - last); last = now;
        if (window.stopFrames) done(times); else requestAnimationFrame(next); };
    requestAnimationFrame(next);
})"""


def page_of(n: int) -> str:
    "A map of invented songs, with names as long as real ones."
    rng = np.random.default_rng(0)
    genre = rng.choice(GENRES, n, p=np.arange(16, 0, -1) / 136)
    middles = {name: rng.normal(0, 40, 2) for name in GENRES}
    places = rng.normal([middles[name] for name in genre], 15.0)
    table = pd.DataFrame(places, columns=["x", "y"]).assign(
        artist_name=[f"The Invented Orchestra {i % 4000}" for i in range(n)],
        title=[f"A Song of Some Length, Part {i}" for i in range(n)],
        genre=genre, answer=rng.permutation(genre),
    )
    return map_page(table, places, "A measurement.")


def processor_s() -> float:
    "Seconds of processor time that the processes below this one have had."
    used = [p.cpu_times() for p in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in used)


def measure(path: Path, repeats: int) -> dict:
    "Seconds to the first paint of each opening; milliseconds of each frame of a drag."
    paints, busy, frames = [], [], []
    with sync_playwright() as started:
        where = next(filter(None, map(shutil.which, BROWSERS)))
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=where, args=arguments)
        for _ in range(repeats):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            before = processor_s()
            page.goto(path.as_uri())
            page.wait_for_function("window.songMap", timeout=60_000)
            paints.append(page.evaluate("window.songMap.ready") / 1000)
            busy.append(processor_s() - before)
            page.evaluate(f"window.frames_ = ({FRAMES})(); 0")
            page.mouse.move(500, 450)
            page.mouse.down()
            for step in range(20):
                page.mouse.move(500 + 8 * step, 450 + 4 * step)
            page.mouse.up()
            page.evaluate("window.stopFrames = true")
            frames += page.evaluate("window.frames_")[1:]
            page.close()
        browser.close()
    return {"first_paint_s": [round(s, 2) for s in paints], "busy_s": round(median(busy), 2),
            "frame_ms_median": round(median(frames), 1),
            "frame_ms_95": round(float(np.quantile(frames, 0.95)), 1), "frames": len(frames)}


def main() -> None:
    "Measure and keep."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "song_map.html"
        path.write_text(page_of(options.songs), encoding="utf-8")
        seen = measure(path, options.repeats)
        size = path.stat().st_size
    print(seen)
    write_record("song_map", LIMIT_S, median(seen["first_paint_s"]), "s to the first paint",
                 options.songs, "less", page_mb=round(size / 1e6, 1), **seen)


if __name__ == "__main__":
    main()
