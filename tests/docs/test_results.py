"""docs/results.md is what the report says about the ledgers in docs/runs/."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import ENDED
from tests.reports.synthetic import create

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
    assert reader.run()["command"].startswith(("python launch.py --sweep ", "python launch.py --confirm runs/"))


def test_keeping_a_kept_run_leaves_it_as_it_is(tmp_path, monkeypatch):
    module = keep()
    monkeypatch.setattr(module, "HERE", tmp_path)
    kept = tmp_path / KEPT[0].name
    shutil.copytree(KEPT[0], kept)
    module.keep(kept)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {"ledger.sqlite": (KEPT[0] / "ledger.sqlite").read_bytes()}


def test_a_kept_confirmation_names_no_folder_of_its_machine(tmp_path, monkeypatch):
    module = keep()
    monkeypatch.setattr(module, "HERE", tmp_path)
    searched = "/home/alice/the project/runs/augmentation/2026-03-01-120000"
    command = f"/home/alice/env/bin/python launch.py --confirm '{searched}' --out=/home/alice/out seeds=5"
    create(tmp_path / "run", {"none": 0.8}, epochs=1, scale="sample", command=command, confirms={"folder": searched})
    module.keep(tmp_path / "run")
    kept = tmp_path / "augmentation-sample-confirmation"
    record = LedgerReader(kept).run()
    assert record["command"] == "python launch.py --confirm runs/augmentation/2026-03-01-120000 seeds=5"
    assert record["confirms"] == {"folder": "runs/augmentation/2026-03-01-120000"}
    assert [path.name for path in kept.iterdir()] == ["ledger.sqlite"]
    assert b"alice" not in (kept / "ledger.sqlite").read_bytes()
