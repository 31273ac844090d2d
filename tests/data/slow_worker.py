"""Preloaded by Dask workers of a test, so that a build takes long enough to be disturbed."""

import time

from msd_genre.corpus import scan


def slowed(read):
    def slowly(*args):
        time.sleep(0.1)
        return read(*args)

    return slowly


if scan._read_shard.__name__ != "slowly":  # Dask loads this file twice
    scan._read_shard = slowed(scan._read_shard)
