"""Rules of the project: imports, what stays out of git, what the notebooks keep."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
API = sorted((ROOT / "nbs" / "api").rglob("[!.]*.ipynb"))
CHAPTERS = sorted((ROOT / "nbs" / "report").glob("*.ipynb"))
SIDEBAR = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["sidebar"]["contents"]
ORDER = [Path(entry["contents"]).parent.name if isinstance(entry, dict) else Path(entry).stem
         for section in SIDEBAR if section.get("section") == "API"
         for entry in section["contents"]]  # subpackages, and the command, from the bottom up


def name_of(notebook):
    """The module that a notebook exports, such as `files.layout`."""
    below = notebook.relative_to(ROOT / "nbs" / "api").parts[:-1]
    return ".".join([*below, notebook.stem.partition("_")[2] or notebook.stem])


def module_path(name):
    return ROOT.joinpath("msd_genre", *name.split(".")).with_suffix(".py")


MODULES = [name_of(path) for path in API]
TRACKED = [
    ROOT / line
    for line in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    if (ROOT / line).is_file()
]  # fmt: skip


def imports(name):
    """Dotted names that a module imports, anywhere in it."""
    package = f"msd_genre.{name}".rpartition(".")[0]
    for node in ast.walk(ast.parse(module_path(name).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from [source, *(f"{source}.{alias.name}" for alias in node.names)]


def own_imports(name):
    """Modules of the package that a module imports."""
    return {one.removeprefix("msd_genre.") for one in imports(name)} & set(MODULES)


def names_in_strings(name):
    """Modules of the package that a string in a module names, where it is no docstring."""
    tree = ast.parse(module_path(name).read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
             and isinstance(node.value, str) and id(node) not in prose]  # fmt: skip
    return {other for text in texts for other in MODULES
            if re.search(rf"\bmsd_genre\.{re.escape(other)}\b", text)}  # fmt: skip


def test_the_sidebar_lists_every_subpackage():
    assert list(dict.fromkeys(ORDER)) == ORDER
    assert set(ORDER) == {module.partition(".")[0] for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_subpackages_below_its_own(module):
    place = ORDER.index(module.partition(".")[0])
    above = {other for other in own_imports(module) | names_in_strings(module)
             if ORDER.index(other.partition(".")[0]) > place}  # fmt: skip
    assert not above


def used_submodules(name):
    """Submodules of other packages that a module uses and does not import by name."""
    nodes = [*ast.walk(ast.parse(module_path(name).read_text()))]
    aliases = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    bound = {alias.asname or alias.name.partition(".")[0]:
             alias.name if alias.asname else alias.name.partition(".")[0] for alias in aliases}
    used = {f"{bound[node.value.id]}.{node.attr}" for node in nodes
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in bound}
    imported = {alias.name for alias in aliases}
    return {one for one in used if not any(f"{name}.".startswith(f"{one}.") for name in imported)}


def test_a_module_imports_what_it_uses_of_pyarrow():
    """So that it works alone: `import pyarrow` has no `csv` until something imports that."""
    used = {one for module in MODULES for one in used_submodules(module)}
    names = [one.removeprefix("pyarrow.") for one in used if re.fullmatch(r"pyarrow\.\w+", one)]
    code = f"import pyarrow; print([name for name in {names} if not hasattr(pyarrow, name)])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert names and run.stdout == "[]\n"


def test_no_modules_import_each_other():
    TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("package", ORDER)
def test_a_subpackage_is_small_enough_to_know(package):
    inside = [module for module in MODULES if module.partition(".")[0] == package]
    assert len(inside) <= 8 or package == "datasets"
    for module in inside:
        lines = map(str.strip, module_path(module).read_text().splitlines())
        assert sum(bool(line) and line[0] != "#" for line in lines) <= 500, module


@pytest.mark.parametrize("path", API, ids=name_of)
def test_an_exported_cell_has_one_idea(path):
    """About 40 lines, but for a class or a table that is longer as a whole."""
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("#| export"):
            tree = ast.parse(source)
            several = len([node for node in tree.body if isinstance(node, DEFINITIONS)]) > 1
            assert source.count("\n") < 45 or not several, source[:200]


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def test_paths_of_artifacts_are_spelled_once():
    spelled = re.compile(r'"(catalog\.parquet|split\.parquet|results\.csv|lyrics/\w+\.\w+)"')
    found = {module for module in MODULES
             for line in module_path(module).read_text().splitlines()
             if spelled.search(line.partition("#")[0])}  # fmt: skip
    assert found == {"workspace.artifacts"}


def test_the_runner_of_the_report_holds_no_science():
    own = set().union(*(own_imports(f"report.{name}") for name in ("chapters", "site", "preview")))
    assert {one.partition(".")[0] for one in own} == {"workspace", "report"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_at_run_time_needs_the_development_tools(module):
    tops = {name.split(".")[0] for name in imports(module)}
    assert not tops & {"nbdev", "fastcore", "execnb", "pytest", "tables"}


def test_tensorflow_is_loaded_where_networks_are_and_nowhere_else():
    heavy = ("models.fused", "models.networks", "models.inputs", "models.training",
             "models.tuning", "analysis.explain", "cli")
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


def defaults(path):
    """The parameters of a chapter with their values."""
    cells = json.loads(path.read_text())["cells"]
    tagged = next(c for c in cells if "parameters" in c["metadata"].get("tags", []))
    assigned = ast.parse("".join(tagged["source"])).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}


def test_a_chapter_by_hand_has_the_parameters_of_the_demo():
    """So *Run All* on a finished demo run shows what its report shows, and trains nothing again."""
    demo = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())
    own = {path.stem: defaults(path) for path in CHAPTERS}
    assert {one["run_dir"] for one in own.values()} == {f"runs/{demo['run']}"}
    assert {one["seed"] for one in own.values()} == {demo["seed"]}
    for name, given in demo["chapters"].items():
        assert {key: own[name][key] for key in given} == given, name


def test_the_other_runs_name_whatever_the_demo_sets():
    """What a chapter has by default is the demo's choice, and must not become theirs unseen."""
    demo, *others = (yaml.safe_load((ROOT / "params" / f"{name}.yaml").read_text())["chapters"]
                     for name in ("demo", "full", "rehearsal", "sample", "sample_terms"))
    for other in others:
        lacking = {(name, key) for name, given in demo.items() for key in given
                   if key not in (other.get(name) or {})}  # fmt: skip
        assert not lacking - SAME_EVERYWHERE


SAME_EVERYWHERE = {  # the demo's value is the one for any run
    ("01_songs", "three_songs"),  # where they are not there, others are drawn
    ("03_splits", "min_songs"), ("13_new_song", "n_nearest"), ("10_embedding", "n_songs"),
    ("04_baseline", "more_seeds"), ("07_results", "more_seeds")}  # fmt: skip


NOT_SCORES = {  # numbers that a chapter may type: choices, none of them a result
    "95 %": "the level of the intervals",
    "95%": "the same",
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


def text_of(path):
    """All that stands in a notebook's cells."""
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


@pytest.mark.parametrize("number", range(len(CHAPTERS)), ids=[path.stem for path in CHAPTERS])
def test_a_chapter_ends_with_what_it_means_its_limits_and_the_next_one(number):
    text = text_of(CHAPTERS[number])
    assert 0 < text.index("## What it means") < text.index("## Limits")
    last = "".join(json.loads(CHAPTERS[number].read_text())["cells"][-1]["source"])
    following = CHAPTERS[number + 1].name if number + 1 < len(CHAPTERS) else "song_map.html"
    assert f"]({following})" in last.rpartition("## Limits")[2]


def test_the_glossary_has_what_the_chapters_ask_of_it_and_no_more():
    """Each entry names the chapter that links to it first."""
    entries = re.findall(r"^### .+? \{#([\w-]+)\}\n\n(.+?)(?=^#|\Z)",
                         text_of(ROOT / "nbs" / "guides" / "glossary.ipynb"), re.M | re.S)
    first = re.compile(r"First in \[.*?\]\(\.\./report/(.+?)\)")
    named = {word: first.search(said)[1] for word, said in entries}
    assert len(named) == len(entries)
    asked = {}
    for path in CHAPTERS:
        for word in re.findall(r"glossary\.ipynb#([\w-]+)", text_of(path)):
            asked.setdefault(word, path.name)
    assert named == asked


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
    differ = [module for module in MODULES
              if module_path(module).read_text() != (tmp_path / module_path(module).relative_to(
                  ROOT)).read_text()]  # fmt: skip
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


DEVCONTAINER = {"name", "image", "hostRequirements", "postCreateCommand", "postAttachCommand",
                "forwardPorts", "portsAttributes", "customizations"}  # fmt: skip


def test_the_cloud_gets_the_same_environment_and_the_same_page():
    """What can be said of Codespaces and Binder without them: names, and that files are there."""
    space = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert set(space) <= DEVCONTAINER
    makefile = (ROOT / "Makefile").read_text()
    commands = f"{space['postCreateCommand']} {space['postAttachCommand']}"
    for verb in ("hooks", "lab"):
        assert verb in commands.split() and f"\n{verb}:" in makefile
    assert set(space["portsAttributes"]) == {str(port) for port in space["forwardPorts"]}
    binder = ROOT / ".binder"
    included = (binder / "requirements.txt").read_text().removeprefix("-r ").strip()
    assert (binder / included).resolve() == ROOT / "requirements.lock"
    assert re.fullmatch(r"python-3\.1[123]\n", (binder / "runtime.txt").read_text())
    for script in ("postBuild", "start"):
        subprocess.run(["sh", "-n", binder / script], check=True)
        assert os.access(binder / script, os.X_OK)
    config = (ROOT / ".jupyter" / "jupyter_server_config.py").read_text()
    page = re.search(r'default_url = "/lab/tree/(.+)"', config)[1]
    assert (ROOT / page).is_file()


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
