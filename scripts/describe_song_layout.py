"""Regenerate `msd_genre/resources/song_layout.json`: the HDF5 layout of a song file, as data.

The description names each group and dataset by its path, with the types, extents, chunks, filters
and attributes, but nothing of the song itself. Run it on one song file of the Million Song
Dataset; all of them have the same layout:

    python scripts/describe_song_layout.py FOLDER/data/A/B/C/TRABCDE128F0000001.h5
"""

import argparse
import json
from pathlib import Path

import h5py

from msd_genre.workspace.paths import project_root

# Attributes whose value differs from file to file: described by their type alone.
SONG_SPECIFIC_ATTRIBUTES = frozenset({"EXTDIM"})


def type_code(
    hdf5_type: h5py.h5t.TypeID,  # type of a dataset, an attribute or a compound's field
) -> str | list:  # "<i4", "<f8", "S32"; for a compound a list of [field, code] in order
    "Return an HDF5 type as a code. Raises `TypeError` for a type that no song file has."
    if isinstance(hdf5_type, h5py.h5t.TypeCompoundID):
        members = range(hdf5_type.get_nmembers())
        return [
            [hdf5_type.get_member_name(i).decode(), type_code(hdf5_type.get_member_type(i))]
            for i in members
        ]
    if isinstance(hdf5_type, h5py.h5t.TypeStringID) and not hdf5_type.is_variable_str():
        padding = hdf5_type.get_strpad()
        suffix = "" if padding == h5py.h5t.STR_NULLTERM else f" padding {padding}"
        return f"S{hdf5_type.get_size()}{suffix}"
    if isinstance(hdf5_type, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)):
        return hdf5_type.dtype.str
    raise TypeError(f"found an HDF5 type {hdf5_type.dtype}, expected numbers, fixed text or both")


def _describe_attributes(node: h5py.Group | h5py.Dataset) -> dict:
    "Map the name of each attribute to its type and, unless it belongs to one song, its value."
    attributes = {}
    for name in sorted(node.attrs):
        attribute = {"type": type_code(node.attrs.get_id(name).get_type())}
        if name not in SONG_SPECIFIC_ATTRIBUTES:
            value = node.attrs[name]
            attribute["value"] = value.decode() if isinstance(value, bytes) else value.item()
        attributes[name] = attribute
    return attributes


def _describe(node: h5py.Group | h5py.Dataset) -> dict:
    "Describe a group or a dataset; `None` in `maxshape` means unlimited."
    if isinstance(node, h5py.Group):
        return {"kind": "group", "attributes": _describe_attributes(node)}
    return {
        "kind": "dataset",
        "type": type_code(node.id.get_type()),
        "maxshape": list(node.maxshape),
        "chunks": list(node.chunks) if node.chunks else None,
        "filters": {
            "shuffle": node.shuffle,
            "compression": node.compression,
            "compression_opts": node.compression_opts,
            "fletcher32": node.fletcher32,
        },
        "attributes": _describe_attributes(node),
    }


def describe_layout(
    path: Path | str,  # an HDF5 song file
) -> dict:  # path of each node -> its description
    "Describe a song file apart from the song in it."
    with h5py.File(path) as file:
        layout = {"/": _describe(file)}
        file.visititems(lambda name, node: layout.update({f"/{name}": _describe(node)}))
    return layout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("song", type=Path, help="a song file of the Million Song Dataset")
    layout = describe_layout(parser.parse_args().song)
    path = project_root() / "msd_genre" / "resources" / "song_layout.json"
    path.write_text(json.dumps(layout, indent=1) + "\n", encoding="utf-8")
    print(path)
