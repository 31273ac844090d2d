"""Rules of the house: who imports whom, what stays out of git, what the notebooks keep."""

import ast
import json
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
API = sorted((ROOT / "nbs" / "api").glob("*.ipynb"))
CHAPTERS = sorted((ROOT / "nbs" / "report").glob("*.ipynb"))
MODULES = [path.stem.split("_", 1)[1] for path in API]
TRACKED = [
    ROOT / line
    for line in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    if (ROOT / line).is_file()
]  # fmt: skip


def imports(path):
    """Modules that a Python file imports, as dotted names; the package's own as `.name`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            if (node.module or "").startswith("msd_genre."):  # nbdev leaves long ones absolute
                dots, node.module = ".", node.module.removeprefix("msd_genre.")
            yield from [dots + node.module] if node.module else (
                dots + alias.name for alias in node.names
            )


@pytest.mark.parametrize("number, module", list(enumerate(MODULES)), ids=MODULES)
def test_a_module_imports_only_from_those_above_it(number, module):
    own = {name[1:] for name in imports(ROOT / "msd_genre" / f"{module}.py") if name[0] == "."}
    assert own <= set(MODULES[:number])


def test_the_runner_of_the_report_holds_no_science():
    own = {name[1:] for name in imports(ROOT / "msd_genre" / "report.py") if name[0] == "."}
    assert own <= {"sources", "runs", "parameters", "costs", "preview"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_at_run_time_needs_the_development_tools(module):
    tops = {name.split(".")[0] for name in imports(ROOT / "msd_genre" / f"{module}.py")}
    assert not tops & {"nbdev", "fastcore", "execnb", "pytest", "tables"}


def test_tensorflow_is_loaded_where_networks_are_and_nowhere_else():
    heavy = ("layers", "models", "training", "search", "explain", "cli")
    light = [m for m in MODULES if m not in heavy]
    code = f"import sys; {'; '.join(f'import msd_genre.{m}' for m in light)}; " \
        "print([m for m in ('tensorflow', 'keras', 'torch', 'jax') if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_one_cell_of_parameters_and_defines_nothing(path):
    cells = json.loads(path.read_text())["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    source = "".join(tagged[0]["source"])
    assert all(isinstance(node, ast.Assign) for node in ast.parse(source).body)
    assert [node.targets[0].id for node in ast.parse(source).body][:2] == ["run_dir", "seed"]
    for cell in cells:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            assert not [node for node in ast.walk(tree) if isinstance(node, kinds)]
            assert not cell["outputs"], "chapters are stored as they are before a run"


NOT_SCORES = {  # numbers that a chapter may type: choices, none of them a result
    "95 %": "the level of the intervals",
    "30 %": "the share that the write-up's code cut off for validation",
    "0.01": "the write-up's penalty",
    "0.001": "the write-up's learning rate",
}


def said(cell):
    """The words of a chapter's cell: its Markdown, or the texts in its code."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    if "parameters" in cell["metadata"].get("tags", []):
        return []
    texts = [node.value for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if not re.fullmatch(r"[+,]?(\.\d+)?[%fgde]?", text)]


def typed_scores(cells):
    """Numbers in the words that look like results: a decimal fraction, a percentage, points."""
    number = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+)?\s?(?:%|per cent|points)|\d*\.\d+)(?!\w)")
    found = [match.group() for cell in cells for text in said(cell)
             for match in number.finditer(text)]
    return [one for one in found if re.sub(r"\s", " ", one) not in NOT_SCORES]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_score_is_typed_into_a_chapter(path):
    """Every result in the words comes from the run or from `published`."""
    assert not typed_scores(json.loads(path.read_text())["cells"])


def test_a_typed_score_is_found():
    text = "It is right for 55 % of them, 7 points more."
    words = {"cell_type": "markdown", "metadata": {}, "source": [text]}
    code = {"cell_type": "code", "metadata": {}, "source": ['f"a macro-F1 of 0.31, {x:.0%}"']}
    assert typed_scores([words, code]) == ["55 %", "7 points", "0.31"]


def test_cleaning_keeps_the_parameters_tag(tmp_path):
    """nbdev_clean drops every cell tag unless settings.ini allows it; papermill only warns then."""
    chapter = tmp_path / "nbs" / CHAPTERS[0].name
    chapter.parent.mkdir()
    chapter.write_bytes(CHAPTERS[0].read_bytes())
    (tmp_path / "settings.ini").write_bytes((ROOT / "settings.ini").read_bytes())
    clean = Path(sys.executable).parent / "nbdev_clean"
    subprocess.run([clean, "--fname", str(chapter)], cwd=tmp_path, check=True)
    assert '"parameters"' in chapter.read_text()


def test_the_modules_are_what_the_notebooks_export(tmp_path):
    shutil.copytree(ROOT / "nbs" / "api", tmp_path / "nbs" / "api")
    shutil.copy(ROOT / "settings.ini", tmp_path)
    subprocess.run([Path(sys.executable).parent / "nbdev_export"], cwd=tmp_path, check=True)
    differ = [
        module
        for module in MODULES
        if (tmp_path / "msd_genre" / f"{module}.py").read_text()
        != (ROOT / "msd_genre" / f"{module}.py").read_text()
    ]
    assert not differ, f"run nbdev_export: {differ} were edited by hand, or not exported"


def test_no_address_of_a_registry_and_no_path_of_a_machine_is_committed():
    forbidden = re.compile(
        r"(?:(?<![\w.])|(?<=\\[nt]))/(?:root|work|tmp/work)/\w"  # where one machine keeps things
        r"|files\.python" + r"hosted\.org|registry\.npm" + r"js\.org|index-" + r"url"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in TRACKED
        if path.suffix not in (".png", ".npy", ".npz")
        for match in forbidden.finditer(path.read_text(errors="replace"))
    ]
    assert not found


def test_no_song_is_committed():
    assert not [path for path in TRACKED if path.suffix in (".h5", ".hdf5", ".keras")]
    assert not [path for path in TRACKED if path.stat().st_size > 1_500_000]


def test_environment_yml_names_what_conda_has():
    rattler = pytest.importorskip("rattler", reason="py-rattler is not installed")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    specs = [d for d in environment["dependencies"] if isinstance(d, str)]
    names = {rattler.MatchSpec(spec).name.normalized for spec in specs}
    assert {"python", "quarto"} <= names
    assert environment["channels"] == ["conda-forge"]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "-r requirements.lock" in pip


def test_the_lock_holds_everything_that_the_package_asks_for():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional, own_risk = project["optional-dependencies"], ("cloud", "spark")
    extras = {name: wanted for name, wanted in optional.items() if name not in own_risk}
    asked = [*project["dependencies"], *chain(*extras.values())]
    locked = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        one = Requirement(line)
        locked.setdefault(canonicalize_name(one.name), []).append(one)
    for wanted in map(Requirement, asked):
        if wanted.name != "msd_genre":
            versions = [str(one.specifier).removeprefix("==") for one in
                        locked[canonicalize_name(wanted.name)]]
            assert all(wanted.specifier.contains(version) for version in versions), wanted


def test_the_readme_is_the_front_page():
    """`make readme` makes it; text and tables must be those of nbs/index.ipynb."""
    readme = (ROOT / "README.md").read_text()
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text())["cells"]
    for cell in cells:
        texts = ["".join(cell["source"])] if cell["cell_type"] == "markdown" else [
            "".join(o["data"]["text/markdown"]) for o in cell["outputs"]
            if "text/markdown" in o.get("data", {})
        ]
        for text in texts:
            expected = re.sub(r"\]\((report|guides|api)/", r"](nbs/\1/", text)
            assert expected.strip() in readme, expected[:200]
    assert readme.index("make report") < 4_000, "the two commands come first"
    for link in re.findall(r"\]\(((?!http)[^)#]+)", readme):
        assert (ROOT / link).exists(), link
