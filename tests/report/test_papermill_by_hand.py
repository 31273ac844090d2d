"""The commands of the guide "Chapters by hand", taken from its page and executed as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "nbs" / "guides" / "papermill_by_hand.ipynb"


def blocks():
    """The shell blocks of the guide, in its order."""
    cells = nbformat.read(GUIDE, 4).cells
    return [code for cell in cells for code in re.findall(r"```bash\n(.*?)```", cell.source, re.S)]


def shell(code, names):
    """What a block prints, with the names replaced that the guide asks to replace."""
    for said, ours in names.items():
        code = code.replace(said, str(ours))
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=ROOT, text=True,
                          capture_output=True, env=os.environ | {"PATH": paths})  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("word", ["cp -r", "--help-notebook", "for seed", "for chapter",
                                  "--dry-run", "verify"])  # fmt: skip
def test_the_guide_shows_each_command_once(word):
    assert sum(word in block for block in blocks()) == 1


def test_every_parameter_that_the_guide_gives_is_one_of_the_chapter():
    """papermill only warns of another."""
    seen = set()
    for block in blocks():
        if given := set(re.findall(r"-p (\w+)", block)):
            for stem in re.findall(r"\b0\d_[a-z]+\b(?=[ ;.])", block):
                known = papermill.inspect_notebook(ROOT / "nbs" / "report" / f"{stem}.ipynb")
                assert given <= set(known), (stem, given)
                seen.add(stem)
    assert seen == {"04_baseline", "05_cnn"}


def test_the_commands_of_the_guide_do_what_it_says(own_run, tmp_path):
    """On the smallest demo; the run that is copied stays as it was."""
    mine = tmp_path / "mine"
    names = {"runs/demo": own_run.dir, "runs/mine": mine,
             "params/demo.yaml": ROOT / "tests" / "data" / "smallest.yaml"}  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in own_run.dir.rglob("*")}
    printed = {block: shell(block, names) for block in blocks()}
    said = {word: next(text for block, text in printed.items() if word in block)
            for word in ("--help-notebook", "for seed", "for chapter", "--dry-run", "verify")}
    assert "learning_rate" in said["--help-notebook"]
    by_hand = {path.name for path in (mine / "by_hand").iterdir()}
    assert by_hand == {
        "04_one_epoch.ipynb", "04_seed2.ipynb", "04_seed3.ipynb", "04_seed2.csv", "04_seed3.csv",
        "04_baseline_faster.ipynb", "05_cnn_faster.ipynb", "04_baseline_faster.csv",
        "05_cnn_faster.csv"}  # fmt: skip
    for word, files in (("for seed", ("seed2", "seed3")), ("for chapter", ("04_b", "05_c"))):
        assert all(name in said[word] for name in files) and "macro_f1" in said[word]
    by_hand = (mine / "by_hand" / "04_one_epoch.ipynb").read_text()
    assert "parameters that differ from those of the run" in by_hand
    assert "    epochs = 2\\n" in by_hand and "    batch_size" not in by_hand
    assert (mine / "models" / "baseline-as_written-artist-f0-s3").is_dir()
    plan = dict(line.split(maxsplit=1) for line in said["--dry-run"].splitlines()[:-1])
    assert plan["03_splits"] == "reused"
    assert plan["04_baseline"].startswith("runs: ") and "has changed" in plan["04_baseline"]
    assert plan["07_results"].startswith("runs: ") and "has changed" in plan["07_results"]
    assert re.search(r"results\.csv .*has changed .*NO", said["verify"])
    assert "is not what the report made" in said["verify"]
    assert before == {path: path.stat().st_mtime_ns for path in own_run.dir.rglob("*")}
