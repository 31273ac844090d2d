"""`make hooks` in a repository of its own: quiet merges, conflicts that open, clean commits."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
MODULE, CHAPTER = "nbs/api/files/03_text.ipynb", "nbs/report/02_lyrics.ipynb"


def git_in(folder):
    """A function that runs git in a folder, with this environment and nobody's own settings."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    who = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
           for part, value in (("NAME", "a"), ("EMAIL", "a@b.c"))}  # fmt: skip
    plain = {"PATH": paths, "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"} | who

    def git(*words):
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True,
                              env=os.environ | plain)  # fmt: skip

    git.folder = folder
    return git


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A git repository with one module, one chapter and the hooks."""
    folder = tmp_path_factory.mktemp("repository")
    for name in [".gitconfig", ".gitattributes", ".gitignore", ".githooks", "settings.ini",
                 MODULE, CHAPTER, "msd_genre/files/text.py", "msd_genre/__init__.py"]:  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    git = git_in(folder)
    git("init", "-q", "-b", "main")
    subprocess.run([Path(sys.executable).parent / "nbdev_export"], cwd=folder, check=True)
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    lines = (ROOT / "Makefile").read_text().splitlines()
    hooks = next(line for line in lines if "include.path" in line)
    git(*hooks.split()[1:])
    return folder


@pytest.fixture
def repository(start, tmp_path):
    """A copy of that repository; call it to run git in it."""
    return git_in(shutil.copytree(start, tmp_path / "copy"))


def change(git, name, edit, message=None):
    """Edit the cells of a notebook, and commit it if there is a message."""
    path = git.folder / name
    notebook = nbformat.read(path, 4)
    edit(notebook.cells)
    nbformat.write(notebook, path)
    if message:
        git("add", "-A")
        done = git("commit", "-m", message)
        assert done.returncode == 0, done.stderr


def prose(cells):
    """The cells of words, which need no export."""
    return [cell for cell in cells if cell.cell_type == "markdown"]


def on_two_branches(git, mine, theirs):
    """Commit one edit here and another on a branch; what merging that says."""
    git("checkout", "-q", "-b", "theirs")
    change(git, CHAPTER, theirs, "theirs")
    git("checkout", "-q", "main")
    change(git, CHAPTER, mine, "mine")
    return git("merge", "-m", "both", "theirs")


def test_edits_of_different_cells_merge_without_a_word(repository):
    merged = on_two_branches(repository, lambda cells: prose(cells)[0].update(source="# Mine"),
                             lambda cells: prose(cells)[-1].update(source="Theirs."))  # fmt: skip
    assert merged.returncode == 0, merged.stdout + merged.stderr
    sources = [c.source for c in nbformat.read(repository.folder / CHAPTER, 4).cells]
    assert "# Mine" in sources and "Theirs." in sources
    assert not [source for source in sources if "<<<<<<<" in source]


def test_a_conflict_opens_with_both_sides_and_waits_to_be_decided(repository):
    merged = on_two_branches(repository, lambda cells: prose(cells)[1].update(source="Mine."),
                             lambda cells: prose(cells)[1].update(source="Theirs."))  # fmt: skip
    assert merged.returncode == 1 and CHAPTER in merged.stdout
    notebook = nbformat.read(repository.folder / CHAPTER, 4)
    nbformat.validate(notebook)
    marks = ("`<<<", "`===", "`>>>")
    at = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith(marks)]
    assert [notebook.cells[i].source for i in range(at[0], at[-1] + 1)] == [
        "`<<<<<<< HEAD`", "Mine.", "`=======`", "Theirs.", "`>>>>>>> theirs`"]  # fmt: skip
    repository("add", CHAPTER)
    refused = repository("commit", "-m", "both")
    assert refused.returncode == 1 and "delete one side" in refused.stderr
    change(repository, CHAPTER, lambda cells: cells.__delitem__(slice(at[0], at[1] + 1)))
    change(repository, CHAPTER, lambda cells: cells.pop(at[0] + 1), "theirs it is")
    sources = [c.source for c in nbformat.read(repository.folder / CHAPTER, 4).cells]
    assert "Theirs." in sources and "Mine." not in sources


def test_figures_stay_in_the_chapter_and_out_of_git(repository):
    def run(cells):
        shown = nbformat.v4.new_output("stream", text="a figure")
        next(c for c in cells if c.cell_type == "code").update(outputs=[shown], execution_count=7)

    change(repository, CHAPTER, run)
    assert "a figure" in (repository.folder / CHAPTER).read_text()
    assert not repository("diff").stdout and not repository("add", "-A").stderr
    assert "nothing to commit" in repository("commit", "-m", "x").stdout
    assert "a figure" in (repository.folder / CHAPTER).read_text()


def test_a_commit_waits_until_what_it_cleans_and_exports_is_added(repository):
    def edit(cells):
        code = next(c for c in cells if c.source.startswith("#| export"))
        code.source += "\n\nADDED = 1"
        code.metadata["scrolled"] = True

    change(repository, MODULE, edit)
    repository("add", "-A")
    refused = repository("commit", "-m", "x")
    assert refused.returncode == 1
    assert MODULE in refused.stderr and "msd_genre/files/text.py" in refused.stderr
    assert "ADDED = 1" in (repository.folder / "msd_genre" / "files" / "text.py").read_text()
    assert "scrolled" not in (repository.folder / MODULE).read_text()
    repository("add", "-A")
    assert repository("commit", "-m", "x").returncode == 0


def test_what_git_keeps_of_a_chapter_is_the_file_as_it_is_stored():
    for path in sorted((ROOT / "nbs" / "report").glob("*.ipynb")):
        kept = subprocess.run([ROOT / ".githooks" / "without_outputs"], input=path.read_bytes(),
                              capture_output=True, check=True).stdout  # fmt: skip
        assert kept == path.read_bytes(), path.name
