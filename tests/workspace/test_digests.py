"""The digest of code changes with what it uses, however that is imported, and with nothing else."""

# ruff: noqa: E501 - the files of a small package, a line each

import sys

import pytest

from msd_genre.workspace import digests

FILES = {
    "__init__.py": "def __getattr__(name):\n    if name == 'load':\n        from .upper.read import load\n"
    "        return load\n\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    "    from .upper.read import load as load\n",
    "lower/__init__.py": "",
    "lower/text.py": "SIZE = 3\n\ndef parse(x):\n    'Parse.'\n    return x * SIZE  # three\n\n"
    "def unrelated(x):\n    return x\n",
    "upper/__init__.py": "",
    "upper/read.py": "from ..lower.text import parse as p\n\ndef load(x):\n    return p(x)\n\n"
    "def other(x):\n    return x\n",
}
WAYS = {
    "relative": ("upper/way.py", "from ..lower import text\n\ndef way(x):\n    return text.parse(x)\n"),
    "absolute": ("upper/way.py", "from toy.lower.text import parse\n\ndef way(x):\n    return parse(x)\n"),
    "dotted": ("upper/way.py", "import toy.lower.text\n\ndef way(x):\n    return toy.lower.text.parse(x)\n"),
    "in a function": ("upper/way.py", "def way(x):\n    from ..lower.text import parse\n    return parse(x)\n"),
    "the public API": ("upper/way.py", "import toy as t\n\ndef way(x):\n    return t.load(x)\n"),
    "in a block": ("upper/way.py", "try:\n    from ..lower.text import parse\nexcept ImportError:\n"
                   "    raise\n\nclass way:\n    def go(self, x):\n        return parse(x)\n"),
    "a default": ("upper/way.py", "from ..lower.text import parse\n\ndef way(x, f=parse):\n    return f(x)\n"),
    "a decorator": ("upper/way.py", "from ..lower.text import parse\n\n@parse\ndef way(x):\n    return x\n"),
    "a default of its own name": ("upper/way.py", "from ..lower.text import parse\n\ndef way(x, parse=parse):\n    return parse(x)\n"),
    "a loop over its own name": ("upper/way.py", "from ..lower.text import parse\n\ndef way(x):\n    return [parse for parse in parse(x)]\n"),
    "an annotation": ("upper/way.py", "from ..lower.text import parse\n\ndef way(x: parse):\n    return x\n"),
    "a module as a value": ("upper/way.py", "from ..lower import text\n\ndef way(x):\n    return dir(text)\n"),
}  # fmt: skip


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package of two subpackages, whose code counts."""
    for name, text in FILES.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(digests, "_FOLLOWED", {"msd_genre", "toy"})
    digests._origin.cache_clear()
    yield tmp_path / "toy"
    digests._origin.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[name]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("way", WAYS, ids=list(WAYS))
def test_a_change_is_followed_through_every_form_of_import(toy, way):
    name, text = WAYS[way]
    (toy / name).write_text(text)
    before = digests.code_digest("toy.upper.way:way")
    edit(toy / "lower" / "text.py", "SIZE = 3", "SIZE = 30")
    assert digests.code_digest("toy.upper.way:way") != before


def test_what_is_not_used_does_not_count(toy):
    before = digests.code_digest("toy.upper.read:load")
    edit(toy / "lower" / "text.py", "'Parse.'", "'Parse a text.'")
    edit(toy / "lower" / "text.py", "# three", "# thrice")
    edit(toy / "lower" / "text.py", "def unrelated(x):\n    return x", "def unrelated(x):\n    return 1")
    edit(toy / "upper" / "read.py", "def other", "def another")
    assert digests.code_digest("toy.upper.read:load") == before
    edit(toy / "lower" / "text.py", "x * SIZE", "SIZE * x")
    assert digests.code_digest("toy.upper.read:load") != before


def test_a_docstring_can_come_and_go(toy):
    before = digests.code_digest("toy.upper.read:load")
    edit(toy / "lower" / "text.py", "    'Parse.'\n", "")
    assert digests.code_digest("toy.upper.read:load") == before


def test_a_name_of_a_function_is_not_that_of_its_module(toy):
    local = "from ..lower import text\n\ndef way(text, parse):\n    return [text for text in parse(text.nothing)]\n"
    (toy / "upper" / "way.py").write_text(local)
    before = digests.code_digest("toy.upper.way:way")
    edit(toy / "lower" / "text.py", "SIZE = 3", "SIZE = 30")
    assert digests.code_digest("toy.upper.way:way") == before


def test_statements_that_bind_nothing_belong_to_their_module(toy):
    before = digests.code_digest("toy.upper.read:load")
    with (toy / "lower" / "text.py").open("a") as file:
        file.write("\nprint('a side effect')\n")
    assert digests.code_digest("toy.upper.read:load") != before


@pytest.mark.parametrize("text, message", [
    ("from ..lower.nothing import f\n\ndef way(x):\n    return f(x)\n", "imports toy.lower.nothing"),
    ("import toy.nothing\n\ndef way(x):\n    return x\n", "imports toy.nothing"),
    ("def way(x):\n    from .. import nothing\n    return nothing.f(x)\n", "toy has no nothing"),
    ("import toy as t\n\ndef way(x):\n    return t.nothing(x)\n", "toy has no nothing"),
    ("from ..lower.text import *\n\ndef way(x):\n    return parse(x)\n", "import names"),
])  # fmt: skip
def test_an_import_that_cannot_be_resolved_is_an_error(toy, text, message):
    (toy / "upper" / "way.py").write_text(text)
    with pytest.raises(digests.CodeError, match=message):
        digests.code_digest("toy.upper.way:way")


def test_a_function_that_is_in_no_file_is_an_error():
    names = {}
    exec("def f(x):\n    return x", names)
    names["f"].__module__ = "__main__"
    with pytest.raises(digests.CodeError, match="has no source"):
        digests.code_digest(names["f"])


def test_every_definition_of_the_package_can_be_followed():
    for module in ("msd_genre.cli", "msd_genre.report.site", "msd_genre.inference.new_song", "msd_genre"):
        assert digests.code_digest(module)
