"""An edit of one function makes stale what depends on it, and nothing else."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from msd_genre.report import chapters
from msd_genre.workspace import digests, runs

ROOT = Path(__file__).parents[2]
EDITS = {  # an edited function -> the artifacts, as a pattern, and the chapters that become stale
    "workspace.costs:cost_table": ("", ""),
    "files.text:_read_fields": (
        r"texts/(labels|lyrics|mismatches)|lyrics|collaborative/plays-.*", "02 09 12"),
    "datasets.plays:play_bins": ("popularity/.*", "11"),
    "datasets.labels:_why_no_label": ("texts/labels", "09"),
    "synthetic.plan:make_plan": ("", ""),
    "corpus.splits:_resample": (r"split\.parquet", "03 08"),
    "corpus.catalog:funnel": ("", "01"),
    "models.classical:_facts": ("models/year_language-.*", "04"),
    "models.networks:_transformer_branch": ("models/transformer-.*", ""),
    "evaluation.comparison:spread": (
        r"(results|differences|steps|spread)\.csv|scores/(?!10_retrieval).*",
        "04 05 06 07 08 09 10"),
    "analysis.clusters:_medoids": ("embedding/clusters", "10"),
    "figures.maps:value_map": ("", "11"),
    "inference.index:build_index": ("(pages|spaces)/.*", "13"),
    "inference.song_map:_looks": ("pages/.*", "13"),
    "report.site:_stage_site": ("", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package, which the fingerprints are taken from."""
    copy = shutil.copytree(ROOT / "msd_genre", tmp_path_factory.mktemp("edited") / "msd_genre")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "_origin", lambda top: copy / "__init__.py")
        yield copy


def edited(path, name):
    """The text of a module with one more statement in one of its functions."""
    text = path.read_text()
    (function,) = [node for node in ast.parse(text).body if getattr(node, "name", "") == name]
    lines, last = text.splitlines(), function.body[-1]
    lines.insert(last.lineno - 1, " " * last.col_offset + "edited = True")
    return "\n".join(lines) + "\n"


def stale_after(run, package, name):
    """Artifacts and chapters of a run that are stale after an edit of `module:function`."""
    module, _, function = name.partition(":")
    path = package.joinpath(*module.split(".")).with_suffix(".py")
    before = path.read_text()
    try:
        path.write_text(edited(path, function))
        plan = chapters._plan_chapters(run)
        return set(runs.stale(run)), {one.name[:2] for one in plan if chapters._changes(one, run)}
    finally:
        path.write_text(before)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_makes_stale_what_depends_on_it(demo_run, package, name):
    artifacts, pages = EDITS[name]
    made = set(demo_run.sidecars())
    expected = {one for one in made if re.fullmatch(artifacts, one)}
    assert stale_after(demo_run, package, name) == (expected, set(pages.split()))
