"""Documentation pages by nbdev: `python document.py NBS OUT` for each notebook of NBS but chapters.

nbdev's own `proc_nbs` fills in signatures by running a notebook's exported cells and every other
cell with an import in it, examples too, and shows types and defaults as Python has evaluated them.
Here a signature is shown as it is written in the module, with its comments, and nothing of the
notebook runs. A page that is newer than its notebook and its module is left as it is.

Run in a process of its own by `report.documentation`: nothing in the package imports nbdev.
"""

import ast
import gc
import importlib
import inspect
import os
import re
import sys
import textwrap
from functools import cache
from pathlib import Path

from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev import processors, showdoc
from nbdev.config import get_config
from nbdev.processors import FilterDefaults, _default_exp, _is_showdoc, exec_show_docs

from msd_genre.workspace.digests import _imported_modules, _module_path


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


def narrow(line, width=78):
    "A line of a signature whose comment, if it is long, goes on below itself."
    code, mark, comment = line.partition("  # ")
    if len(line) <= width or not mark or len(code) > width - 30:
        return [line]
    start = code + mark
    return textwrap.wrap(comment, width, initial_indent=start, subsequent_indent=" " * len(code) + mark)


def head_of(node, lines):
    "A function's lines up to its body, without `self`; decorators are left out."
    last = max(node.lineno, node.body[0].lineno - 1)
    kept = [line for line in lines[node.lineno - 1:last] if line.strip() not in ("self,", "cls,")]
    return [re.sub(r"\((self|cls)(, |(?=\)))", "(", line) for line in kept]


def fields_of(node, lines):
    "The lines of a class that say what fields it has, and how it is made."
    shown = []
    for one, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and not getattr(one.target, "id", "_").startswith("_"):
            last = one.end_lineno
            while last < (after.lineno - 1 if after else len(lines)) and "#" in lines[last]:
                last += 1  # a comment may go on below its field
            shown += lines[one.lineno - 1:last]
        elif isinstance(one, ast.FunctionDef) and one.name == "__init__":
            shown += head_of(one, lines)
    return shown


@cache
def source_of(symbol):
    "Its text and its line in the module; for a class Python parses the whole module each time."
    lines, first = inspect.getsourcelines(symbol)
    return textwrap.dedent("".join(lines)), first


def signature(symbol):
    "The head of a function or class as it is written in its module."
    source, _ = source_of(symbol)
    node, lines = ast.parse(source).body[0], source.splitlines()
    if not isinstance(node, ast.ClassDef):
        shown = head_of(node, lines)
    else:
        kind = [f"@{text}" for one in node.decorator_list if "dataclass" in (text := ast.unparse(one))]
        bases = ", ".join(ast.unparse(one) for one in node.bases)
        fields = fields_of(node, lines)
        name = f"class {node.name}" + (f"({bases})" if bases else "") + ":" * bool(fields)
        shown = [*kind, name, *fields]
    return "\n".join(text for line in shown for text in narrow(line))


def address(file):
    "Where a file of the project is read by everybody."
    config = get_config()
    return f"{config.git_url}/blob/{config.branch}/{file}"


class Entry:
    "What a page says of one name: where it is defined, its signature, its docstring."

    def __init__(self, symbol, name=None, title_level=3):
        self.symbol, self.name = inspect.unwrap(symbol), name or symbol.__qualname__
        self.level = title_level

    def _repr_markdown_(self):
        _, line = source_of(self.symbol)
        file = f"{self.symbol.__module__.replace('.', '/')}.py#L{line}"
        link = f"[source]({address(file)}){{.source-link}}\n\n"
        text = inspect.getdoc(self.symbol) or ""
        head = f"---\n\n{'#' * self.level} {self.name}\n\n"
        return f"{head}{link}```python\n{signature(self.symbol)}\n```\n\n{text}"


showdoc.BasicMarkdownRenderer = Entry


class ShowDocs(exec_show_docs):
    "Signatures of a module's names, from the module."

    def begin(self):
        super().begin()
        self.section = False
        if module := _default_exp(self.nb):
            self.k.user_ns.update(vars(importlib.import_module(f"msd_genre.{module}")))

    def __call__(self, cell):
        self.section |= cell.cell_type == "markdown" and bool(re.search("^## ", cell.source, re.M))
        if not _is_showdoc(cell):
            return
        if not self.section:  # right below the page's title
            cell.source = re.sub(r"\)\s*$", ", title_level=2)", cell.source)
        self.k.cell(cell)
        if self.k.exc:
            raise RuntimeError(f"no documentation from `{cell.source}`") from self.k.exc


class Pages(FilterDefaults):
    "nbdev's processors with signatures from the module, and no links: `report` makes them."

    def base_procs(self):
        return [ShowDocs if proc is exec_show_docs else proc for proc in super().base_procs()
                if proc is not processors.add_links]


def module_of(path):
    "The module that a notebook of the API exports, such as `files.layout`."
    below = path.parts[path.parts.index("api") + 1:-1]
    return ".".join([*below, path.stem.partition("_")[2] or path.stem])


@cache
def own_imports(name):
    "Modules of the package that one of them imports, such as `files.layout`."
    return {one.removeprefix("msd_genre.") for one in _imported_modules(f"msd_genre.{name}")}


def add_ways(notebook, source, nbs):
    "Say below the title where the module and its notebook are, what it imports and what imports it."
    name = _default_exp(notebook)
    others = {module_of(path.relative_to(nbs)): path for path in sorted((nbs / "api").rglob("*.ipynb"))}
    path = source.resolve().relative_to(Path.cwd().resolve()).as_posix()
    module = f"msd_genre/{name.replace('.', '/')}.py"
    said = [f"[`{module}`]({address(module)}), made from [`{path}`]({address(path)})."]
    uses = own_imports(name)
    users = {one for one in others if one != name and name in own_imports(one)}
    for word, names in (("Imports", uses), ("Imported by", users)):
        links = [f"[{one}]({os.path.relpath(file, source.parent)})" for one, file in others.items()
                 if one in names]
        said += [f"{word} {', '.join(links)}."] if links else []
    notebook.cells.insert(1, mk_cell(" ".join(said), "markdown"))


def main(nbs: Path, out: Path) -> None:
    tools = max(Path(file).stat().st_mtime for file in (__file__, "settings.ini"))
    for source in sorted(nbs.rglob("*.ipynb")):
        name = source.relative_to(nbs)
        target = out / name
        if name.parts[0] == "report" or any(part[0] in "._" for part in name.parts):
            continue
        module = _module_path(f"msd_genre.{module_of(name)}") if name.parts[0] == "api" else None
        newest = max(tools, source.stat().st_mtime, (module or source).stat().st_mtime)
        if target.is_file() and target.stat().st_mtime > newest:
            continue
        notebook = read_nb(source)
        keep_text(notebook)
        if name.parts[0] == "api" and _default_exp(notebook):
            add_ways(notebook, source, nbs)
        Pages()(notebook)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nb(notebook, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    gc.freeze()  # at the end each notebook's shell collects garbage, among all that was imported
