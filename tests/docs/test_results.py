"""docs/results.md is what the report says about the ledgers in docs/runs/."""

import importlib.util
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import ENDED

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted(path.parent for path in (ROOT / "docs/runs").glob("*/ledger.sqlite"))


def keep():
    spec = importlib.util.spec_from_file_location("keep", ROOT / "docs/runs/keep.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_kept_ledgers():
    assert KEPT
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == keep().page()


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_kept_run_is_whole_small_and_names_no_path_of_its_machine(folder):
    reader = LedgerReader(folder)
    assert folder.name == keep().name_of(reader.run())
    assert {trial.status for trial in reader.trials()} <= {*ENDED}
    content = (folder / "ledger.sqlite").read_bytes()
    assert len(content) < 2_000_000
    assert not [word for word in (b"/work/", b"/root/", b"/tmp/", b"/home/") if word in content]
    assert reader.run()["command"].startswith("python launch.py --sweep ")
