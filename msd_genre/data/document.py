"""Documentation pages by nbdev: `python document.py NBS OUT` for each notebook of NBS but chapters.

nbdev's own `proc_nbs` fills in signatures by running a notebook's exported cells and every other
cell with an import in it, examples too. Here they come from the installed module, and nothing of
the notebook runs. A page that is newer than its notebook and its module is left as it is.

Run in a process of its own by `report.documentation`: nothing in the package imports nbdev.
"""

import ast
import dataclasses
import importlib
import importlib.util
import re
import sys
from pathlib import Path

from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev import processors
from nbdev.processors import FilterDefaults, _default_exp, _is_showdoc, exec_show_docs


def documented_names(cell, shown):
    "Names that a cell defines for others, and the methods of its classes; nbdev wants the last first."
    names = []
    for node in cell.parsed_() or []:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if any(re.search(r"\.(command|group)\(", ast.unparse(one)) for one in node.decorator_list):
            continue  # click's: its signature is its --help
        names.append(node.name)
        if isinstance(node, ast.ClassDef):
            names += [f"{node.name}.{one.name}" for one in node.body
                      if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")
                      and not one.decorator_list and ast.get_docstring(one)]  # fmt: skip
    return [name for name in reversed(names) if name not in shown]


processors._def_names = documented_names


def keep_text(notebook):
    "nbdev takes the whole first cell for title and subtitle: what follows gets a cell of its own."
    first = notebook.cells[0]
    head = re.match(r"\s*#[^\n]*\n(\s*>[^\n]*(\n|$))*", first.source + "\n")
    if first.cell_type == "markdown" and head and (rest := first.source[head.end():].strip()):
        first.source = first.source[:head.end()]
        notebook.cells.insert(1, mk_cell(rest, "markdown"))


def shorten_defaults(module):
    "Let an object with many fields stand in a signature by its class, not by all of them."
    for function in vars(module).values():
        for default in getattr(function, "__defaults__", None) or ():
            if dataclasses.is_dataclass(default) and len(repr(default)) > 80:
                type(default).__repr__ = lambda self: f"{type(self).__name__}(...)"


class ShowDocs(exec_show_docs):
    "Signatures of a module's names, from the module."

    def begin(self):
        super().begin()
        if module := _default_exp(self.nb):
            self.module = importlib.import_module(f"msd_genre.{module}")
            shorten_defaults(self.module)
            self.k.user_ns.update(vars(self.module))

    def __call__(self, cell):
        if not _is_showdoc(cell):
            return
        self.k.cell(cell)
        while isinstance(self.k.exc, NameError) and not hasattr(self.module, self.k.exc.name):
            # A type that the module names without importing it stands for itself.
            setattr(self.module, self.k.exc.name, type(self.k.exc.name, (), {}))
            self.k.cell(cell)
        if self.k.exc:
            raise RuntimeError(f"no documentation from `{cell.source}`") from self.k.exc


class Pages(FilterDefaults):
    "nbdev's processors with signatures from the module."

    def base_procs(self):
        return [ShowDocs if proc is exec_show_docs else proc for proc in super().base_procs()]


def module_file(source: Path) -> Path:
    "The module that a notebook exports, or the notebook where it exports none."
    name = source.stem.partition("_")[2]
    found = importlib.util.find_spec(f"msd_genre.{name}") if name.isidentifier() else None
    return Path(found.origin) if found and found.origin else source


def main(nbs: Path, out: Path) -> None:
    tools = max(Path(file).stat().st_mtime for file in (__file__, "settings.ini"))
    for source in sorted(nbs.rglob("*.ipynb")):
        name = source.relative_to(nbs)
        target = out / name
        if name.parts[0] == "report" or any(part[0] in "._" for part in name.parts):
            continue
        newest = max(tools, source.stat().st_mtime, module_file(source).stat().st_mtime)
        if target.is_file() and target.stat().st_mtime > newest:
            continue
        notebook = read_nb(source)
        keep_text(notebook)
        Pages()(notebook)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nb(notebook, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
