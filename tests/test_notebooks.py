"""The notebooks run from a clean kernel, and their committed outputs are clean."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
_PICTURES = {"image/png", "image/jpeg"}
# Folders that say on whose machine a notebook was run.
_OF_A_MACHINE = ("home", "root", "tmp", "work")
NAMES = ["architecture", "data", "predictions"]


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_whole_and_small(name):
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < 300_000
    assert [o for o in _outputs(notebook) if o.get("name") == "stderr"] == []
    texts = json.dumps([o for o in _outputs(notebook) if not _PICTURES & o.get("data", {}).keys()])
    assert not [name for name in _OF_A_MACHINE if f"/{name}/" in texts]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebooks_run_without_a_warning_from_any_folder(name, tmp_path):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    elsewhere = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=elsewhere).execute()
    assert [o.text for o in _outputs(notebook) if o.get("name") == "stderr"] == []
    drawn = [o for o in _outputs(notebook) if _PICTURES & o.get("data", {}).keys()]
    assert len(drawn) >= 5
