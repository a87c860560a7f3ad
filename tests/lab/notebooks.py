"""Execute the notebooks, as ``make notebooks`` writes them anew and as the tests try them.

What reads them takes a second to import: it is imported where a notebook is read, not while tests are collected.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "notebooks"
ORDER = ("first_job", "temperature", "own_data_own_loss")
"""The second goes on with what the first has trained."""
PATIENCE_S = 3600
NOISE = re.compile(r"\x1b\[[0-9;]*m")


def read(name: str) -> Any:
    import nbformat

    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path) -> Any:
    """Execute a notebook in *folder*, where it leaves its files; a claim that does not hold is an error."""
    from nbclient import NotebookClient

    notebook = read(name)
    client = NotebookClient(notebook, timeout=PATIENCE_S, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return cleaned(notebook, folder)


def cleaned(notebook: Any, folder: Path) -> Any:
    """Take out of a notebook what is only here and now: paths, times, and what libraries print beside."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for one in cell.outputs:
                if "text" in one:
                    one["text"] = NOISE.sub("", one["text"]).replace(str(folder), "")
                one.pop("transient", None)
    return notebook


def main() -> None:
    """Execute all notebooks where they lie, and write them with what they show."""
    import nbformat

    os.chdir(FOLDER)
    for name in ORDER:
        notebook = executed(name, FOLDER)
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        sys.stdout.write(f"executed: notebooks/{name}.ipynb\n")


if __name__ == "__main__":
    main()
