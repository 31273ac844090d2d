"""The package by itself: what its wheel holds and asks for, and that it works alone."""

import ast
import email
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import msd_genre

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def new_libraries(statement):
    """Top-level modules outside the standard library that a statement loads in a fresh Python."""
    code = (
        "import json, sys; before = set(sys.modules); exec(sys.argv[1]); "
        "print(json.dumps([name for name in set(sys.modules) - before if '.' not in name]))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, statement], capture_output=True, text=True, check=True
    )
    return set(json.loads(seen.stdout.splitlines()[-1])) - sys.stdlib_module_names


def test_importing_the_package_loads_nothing_else():
    assert new_libraries("import msd_genre") == {"msd_genre"}


def test_the_help_of_every_command_loads_nothing_but_click():
    statement = "\n".join([
        "from msd_genre.cli import main",
        "for words in [], *([name] for name in main.commands), ['demo', 'write'], ['demo', 'fit']:",
        "    main([*words, '--help'], standalone_mode=False)",
    ])  # fmt: skip
    assert new_libraries(statement) == {"msd_genre", "click"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, made from what git would commit."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "msd_genre", source / "msd_genre", ignore=ignored)
    made = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout[-2_000:] + made.stderr[-2_000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's files, as pip would lay them."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(installed):
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "msd_genre").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    there = {path.relative_to(installed).as_posix() for path in installed.rglob("*")
             if path.is_file() and not path.parts[len(installed.parts)].endswith(".dist-info")}
    assert there == here
    assert {"msd_genre/py.typed", "msd_genre/resources/demo_parameters.json"} <= there


def test_the_metadata_say_what_pyproject_says(installed):
    (info,) = installed.glob("*.dist-info")
    about = email.message_from_string((info / "METADATA").read_text(encoding="utf-8"))
    assert about["Version"] == PROJECT["version"] == msd_genre.__version__
    assert set(about.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    core = {Requirement(text) for text in about.get_all("Requires-Dist") if "extra ==" not in text}
    assert core == {Requirement(text) for text in PROJECT["dependencies"]}
    assert "msd-genre = msd_genre.cli:main" in (info / "entry_points.txt").read_text()
    assert (info / "licenses" / "LICENSE").is_file()


def with_all_below(names):
    """Distributions that a plain install of these brings, as far as they are installed here."""
    seen, todo = set(), [Requirement(name) for name in names]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if (key := (name, frozenset(wanted.extras))) in seen:
            continue
        seen.add(key)
        try:
            below = map(Requirement, requires(name) or [])
        except PackageNotFoundError:
            continue
        todo += [one for one in below if not one.marker or any(
            one.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))]  # fmt: skip
    return {name for name, _ in seen}


def test_what_a_plain_install_brings_is_told_from_what_it_does_not():
    core = with_all_below(PROJECT["dependencies"])
    assert {"numpy", "cloudpickle"} <= core  # named, and asked for by what is named
    assert not core & {"nbdev", "fastcore", "nbformat", "papermill", "ipython", "librosa", "pytest"}


BARE = """
import json, sys
installed, absent = sys.argv[1], set(json.loads(sys.argv[2]))


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
sys.path.insert(0, installed)
import msd_genre.cli
assert msd_genre.__file__.startswith(installed), msd_genre.__file__
for words in json.loads(sys.argv[3]):
    msd_genre.cli.main(words, standalone_mode=False)
exec(sys.argv[4])
"""


@pytest.fixture
def in_empty_environment(installed, tmp_path):
    """A function that runs commands by the wheel's files, with nothing but its requirements."""
    core = with_all_below(PROJECT["dependencies"])
    absent = [name for name, whose in packages_distributions().items()
              if name != "msd_genre" and not {canonicalize_name(one) for one in whose} & core]
    assert {"nbdev", "fastcore", "nbformat", "papermill"} <= set(absent)

    def work(*commands, then=""):
        return subprocess.run(
            [sys.executable, "-I", "-c", BARE, str(installed), json.dumps(absent),
             json.dumps(commands), then],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip

    return work


def test_songs_are_written_and_read_without_a_checkout_or_any_extra(in_empty_environment, tmp_path):
    (tmp_path / "mine.yaml").write_text("data:\n")
    seen = in_empty_environment(
        ["--help"], ["demo", "write", "songs", "--songs", "30"], ["sources", "songs"], ["fetch"],
        ["build", "mine.yaml", "--data", "songs"],
        then="from msd_genre.files.song_file import read_song\nfrom pathlib import Path\n"
        "path = max(Path('songs', 'data').rglob('*.h5'), key=lambda one: one.stat().st_size)\n"
        "print('read', read_song(path).metadata['track_id'] == path.stem)",
    )  # fmt: skip
    assert seen.returncode == 0, seen.stderr[-2_000:]
    assert "30 fictional songs in songs" in seen.stdout
    assert "read True" in seen.stdout
    assert (tmp_path / "runs" / "mine" / "catalog.parquet").is_file()


def test_what_needs_the_notebook_tools_names_their_extra(in_empty_environment, tmp_path):
    (tmp_path / "mine.yaml").write_text("data:\n")
    seen = in_empty_environment(["report", "mine.yaml"])
    assert "comes with the extra `report`" in seen.stderr
    assert not (tmp_path / "runs").exists()


def test_the_guide_names_every_extra_and_every_public_name():
    """Execute nbs/guides/the_package.ipynb again where this fails; CONTRIBUTING says how."""
    cells = json.loads((ROOT / "nbs" / "guides" / "the_package.ipynb").read_text())["cells"]
    shown = [one["data"]["text/markdown"] for cell in cells for one in cell.get("outputs", [])
             if "text/markdown" in one.get("data", {})]  # fmt: skip
    extras, names = "".join(shown[0]), "".join(shown[-1])
    assert not [extra for extra in PROJECT["optional-dependencies"] if f"`{extra}`" not in extras]
    for page in (ROOT / "nbs" / "api").rglob("[!.]*.ipynb"):
        place = page.relative_to(ROOT / "nbs" / "api")
        module = place.parent / (page.stem.partition("_")[2] or page.stem)
        tree = ast.parse((ROOT / "msd_genre" / module).with_suffix(".py").read_text())
        listed = next(ast.literal_eval(node.value) for node in tree.body
                      if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets))
        section = names.partition(f"](../api/{place.as_posix()})")[2].partition("[**")[0]
        assert not [name for name in listed if f"`{name}`" not in section], module
