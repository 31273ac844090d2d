"""A registry's entries are read by name, and each has a digest of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from msd_genre.workspace.digests import _value_digest, file_digest
from msd_genre.workspace.registry import Registry, RegistryError, _codes_of


@dataclass(frozen=True)
class Entry:
    name: str
    compute: Callable
    title: str = ""


@pytest.fixture
def registry():
    made = Registry("score", "tests:REGISTRY")
    made.add(Entry("file", file_digest))
    made.add(Entry("value", _value_digest))
    return made


def test_an_unknown_name_lists_those_that_exist(registry):
    with pytest.raises(RegistryError, match=r"no score .none.; there is file, value"):
        registry["none"]
    assert "none" not in registry and list(registry) == ["file", "value"] and len(registry) == 2


def test_another_module_cannot_take_a_name(registry):
    with pytest.raises(RegistryError, match=r"in msd_genre.workspace.digests already"):
        registry.add(Entry("file", print))
    registry.add(Entry("file", file_digest, "again"))
    assert registry["file"].title == "again"


def test_an_entry_without_functions_cannot_be_replaced_by_another(registry):
    @dataclass(frozen=True)
    class Plain:
        name: str
        page: str

    registry.add(Plain("plain", "one"))
    registry.add(Plain("plain", "one"))
    with pytest.raises(RegistryError, match="score 'plain' is declared already: choose another"):
        registry.add(Plain("plain", "two"))


def test_an_entry_changes_alone(registry):
    before = {name: registry.digest(name) for name in ("file", "value", None)}
    registry.add(Entry("file", file_digest, "A title"))
    assert registry.digest("file") != before["file"]
    assert registry.digest("value") == before["value"] and registry.digest(None) == before[None]
    registry.add(Entry("third", file_digest))
    assert registry.digest(None) != before[None]
    assert registry.digest("none") is None
    assert _codes_of(registry["file"]) == [file_digest]


def test_what_a_chapter_reads_is_traced(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("MSD_GENRE_TRACE", str(tmp_path / "trace"))
    registry["file"]
    assert "value" in registry
    list(registry)
    lines = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [line["entry"] for line in lines] == ["file", None]
    assert {line["registry"] for line in lines} == {"tests:REGISTRY"}
    registry["file"]
    assert len((tmp_path / "trace").read_text().splitlines()) == 2, "a line for each entry"
    registry.add(Entry("file", file_digest, "again"))
    registry["file"]
    *_, last = map(json.loads, (tmp_path / "trace").read_text().splitlines())
    assert last["entry"] == "file" and last["digest"] != lines[0]["digest"]


def test_a_chapter_depends_on_a_selection_and_not_on_all_names(registry, tmp_path, monkeypatch):
    registry.add(Entry("file", file_digest, "Files"))
    monkeypatch.setenv("MSD_GENRE_TRACE", str(tmp_path / "trace"))
    assert registry.select("title") == ["file"]
    line = json.loads((tmp_path / "trace").read_text())
    registry.add(Entry("untitled", file_digest))
    assert registry.digest(line["entry"]) == line["digest"]
    registry.add(Entry("titled", file_digest, "Also"))
    assert registry.digest(line["entry"]) != line["digest"]
