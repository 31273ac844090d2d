"""The how-to guides: what they show is taken from their pages and executed as it stands."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from click.testing import CliRunner

from msd_genre import catalog, cli

ROOT = Path(__file__).parent.parent
SONG = "data/demo-2000-1/data/A/A/B/TRAABNQ0FACADE57AD.h5"


def blocks(guide, language):
    """The blocks of a language in a guide, in its order."""
    cells = nbformat.read(ROOT / "nbs" / "guides" / f"{guide}.ipynb", 4).cells
    found = [re.findall(rf"```{language}\n(.*?)```", c.source, re.S) for c in cells]
    return [block for one in found for block in one]


def named(text, names):
    """A text with the names replaced that its guide asks to replace."""
    for said, ours in names.items():
        text = text.replace(said, str(ours))
    return text


def ask(line, names, monkeypatch):
    """What a line prints: commands of the package in this process, which has TensorFlow already."""
    words = shlex.split(named(line, names))
    if words[0] == "msd-genre":
        done = CliRunner().invoke(cli.main, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.output
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
        return ""
    return subprocess.run(["bash", "-c", named(line, names)], check=True, text=True,
                          capture_output=True).stdout  # fmt: skip


# ---- a new song


@pytest.fixture
def new_song_names(own_run, demo_corpus):
    kept = catalog.kept(own_run.read("catalog.parquet"))
    song = demo_corpus / kept["path"][0]
    return {"runs/demo": own_run.dir, SONG: song, "data/demo-2000-1/data/A/A": song.parent.parent}


def test_a_new_song_is_judged_as_the_guide_says(new_song_names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = {}
    for block in blocks("a_new_song", "bash"):
        if "<<" in block:
            subprocess.run(["bash", "-c", block], check=True)
            continue
        for line in block.splitlines():
            if "sound.flac" not in line:  # it has a test of its own
                said[line] = ask(line, new_song_names, monkeypatch)
    answers = {line: text for line, text in said.items() if line.startswith("msd-genre predict")}
    assert len(answers) == 4
    for line, text in answers.items():
        away = "my_model" in line
        assert ("nearest songs" in text) == (not away)
        assert ("no segments" in text) == (".h5" not in line)
        assert "%" in text and "no lyrics" not in text
    assert any("on the map: x" in text for text in answers.values())
    whole = capsys.readouterr().out.strip()  # of the example
    assert whole and whole in next(text for line, text in answers.items() if "my_model" in line)
    assert len(said[next(line for line in said if "--playlist" in line)].splitlines()) == 7
    assert "README.md" in said["ls my_model"]
    shown = [line for line in blocks("a_new_song", "text")[0].splitlines() if line.strip()]
    kinds = [r" +\d+\.\d%  \w+", r" +\d+\.\d\d  .+ - .+ \(\w+; near by .*\)", "on the map: x .*",
             "Note: .*", "nearest songs, with their distance:", ".+ - .+"]  # fmt: skip
    assert all(any(re.fullmatch(kind, line) for kind in kinds) for line in shown)
    for code in blocks("a_new_song", "python"):
        exec(named(code, new_song_names), {})
    out = capsys.readouterr().out
    assert len(out.splitlines()) > 2 and "dtype" in out


def test_a_sound_is_judged_as_the_guide_says(own_run, tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile", reason="the extra `audio` is not installed")
    monkeypatch.chdir(tmp_path)
    t = np.arange(3 * 22_050) / 22_050
    soundfile.write("sound.flac", 0.3 * np.sin(2 * np.pi * 440 * t) * np.exp(-(t % 0.5) * 4), 22_050)
    (line,) = [line for block in blocks("a_new_song", "bash") for line in block.splitlines()
               if "sound.flac" in line]  # fmt: skip
    text = ask(line, {"runs/demo": own_run.dir}, monkeypatch)
    assert text.startswith("sound.flac") and "approximation" in text and "no lyrics" in text
