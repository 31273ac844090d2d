"""Regenerate `msd_genre/resources/audio_moments.json`:
moments of cepstra in a collection of sounds.

The timbre of a sound file is approximated by mapping moments of mel-frequency cepstral coefficients
to those of the Echo Nest's timbre (see `msd_genre.audio`). Give sound files of a hundred pieces or
more; files that cannot be analyzed are skipped:

    python scripts/fit_audio_moments.py --note "where they are from" FOLDER/*.ogg

The committed file was made from 40 s each of 108 pieces of free music of Debian's packages of games
(asc, drascula, frets on fire, hyperrogue, singularity, wesnoth).
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from msd_genre.inference.audio import (
    AudioError,
    _boundaries,
    _cepstra,
    _means,
    _Moments,
    _read_sound,
)  # fmt: skip
from msd_genre.workspace.paths import project_root
from msd_genre.workspace.runs import _write_json


def fit_moments(
    paths: Iterable[str | Path],  # sound files
    note: str,  # what collection this is
    into: Path,  # the JSON file to write
) -> _Moments:
    "Write the moments of the cepstral coefficients of a collection, and return them."
    means, deviations = [], []
    for path in tqdm(list(paths), desc="sounds", disable=None):
        try:
            sound = _read_sound(path)
        except AudioError:
            continue
        cepstra = _cepstra(sound)
        values = _means(cepstra, _boundaries(sound, cepstra.shape[1]))
        means.append(values.mean(axis=0))
        deviations.append(values.std(axis=0))
    if len(means) < 2:
        raise AudioError(f"{len(means)} sounds could be read: moments need two or more")
    found = _Moments(np.mean(means, axis=0), np.std(means, axis=0), np.median(deviations, axis=0))
    rounded = {name: values.round(3).tolist() for name, values in vars(found).items()}
    _write_json({"note": note, "pieces": len(means)} | rounded, into)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sounds", nargs="+", help="sound files")
    parser.add_argument("--note", required=True, help="what collection this is")
    options = parser.parse_args()
    path = project_root() / "msd_genre" / "resources" / "audio_moments.json"
    fit_moments(options.sounds, options.note, path)
    print(path)
