"""The notebook of the documentation, executed in a kernel."""

import json
import os

import pytest

from tests.docs.pages import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def printed(cells: list[dict]) -> str:
    """Everything that the cells have printed."""
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))


def test_the_committed_notebook_is_short_and_executed():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(notebook["cells"]) <= 10
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "9/9" in printed(code)
    assert NOTEBOOK.stat().st_size < 200_000, "the report is not in the file"


@pytest.mark.filterwarnings("default")  # of nbclient and its packages
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install nbclient ipykernel")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.source = [], cell.source.replace("range(first, 20)", "range(first, 2)").replace("seeds=3", "seeds=2")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "[6/6]" in printed(notebook.cells)
    assert "0 of 6 trials left" in printed(notebook.cells)
    shown = notebook.cells[-1].outputs[-1].data["text/html"]
    assert "<iframe" in shown
