"""JupyterLab in this checkout, as `make lab` starts it: where it opens, and what saving does.

The reader's own settings hold beside these. Tabs that are open are kept here, with the project.
"""

import ast
import json
from pathlib import Path

c = get_config()  # noqa: F821
project = Path(__file__).resolve().parent.parent
notebooks = project / "nbs"

c.ServerApp.root_dir = str(project)
c.LabApp.default_url = "/lab/tree/nbs/guides/jupyterlab.ipynb"
c.LabApp.workspaces_dir = str(project / ".jupyter" / "workspaces")


def clean(path, model, contents_manager, **_):
    "Before a notebook of the project is saved: drop what would only make merges noisy."
    is_notebook = model["type"] == "notebook" and model["content"]["nbformat"] == 4
    if is_notebook and notebooks in (project / path.strip("/")).parents:
        from nbdev.clean import clean_nb
        from nbdev.config import get_config

        kept = get_config(path=notebooks).get("allowed_cell_metadata_keys").split()
        clean_nb(model["content"], allowed_cell_metadata_keys=kept, clean_ids=False)


def must_be_python(os_path):
    "Raise `SyntaxError` for an exported cell that is not Python: nbdev would write it."
    cells = json.loads(Path(os_path).read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells, start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("#| export"):
            ast.parse(source, f"cell {number} of {len(cells)}")


def export(os_path, model, contents_manager, **_):
    "After a module's notebook was saved: export the module. An error is logged; the save stands."
    if model["type"] == "notebook" and notebooks / "api" in Path(os_path).parents:
        try:
            must_be_python(os_path)
            from nbdev.doclinks import nbdev_export

            nbdev_export.__wrapped__(path=os_path)
            contents_manager.log.info("exported from %s", os_path)
        except Exception as error:
            contents_manager.log.error("saved %s, but its module is as it was, since nbdev_export "
                                       "failed: %s", os_path, error)  # fmt: skip


c.FileContentsManager.pre_save_hook = clean
c.FileContentsManager.post_save_hook = export
