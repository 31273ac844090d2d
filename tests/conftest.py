"""What tests share: a small fictional MSD, and real songs where the machine has them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo_corpus(tmp_path_factory):
    """Folder of 120 fictional songs in the real formats. Do not write into it."""
    from msd_genre.demo import write_demo

    return write_demo(tmp_path_factory.mktemp("demo") / "demo", n_songs=120, seed=1, n_jobs=1)


@pytest.fixture(scope="session")
def real_msd():
    """Folder of real songs, laid out like the MSD subset."""
    if "MSD_GENRE_DATA" not in os.environ:
        pytest.skip("MSD_GENRE_DATA is not set: tests on real songs skipped")
    return Path(os.environ["MSD_GENRE_DATA"])
