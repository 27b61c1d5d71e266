"""Secrets of a trial reach no output of a run: canaries are looked for in every byte that is written."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from ddl.run_folder import LEDGER
from ddl.tracking.publish import publish
from tests.sweeps.command import command

__all__ = ["command"]

OVERRIDE = "hf_canaryoverride0123456789"
IN_ENVIRONMENT = "canary-env 7f3a/90'c1"
IN_CODE = ("canaryurl0pass", "AKIACANARYCODE012345", "canarykeybody00", "eyJjYW5hcnkxMjM0NQ.eyJjYW5hcnkxMjM0NQ.canaryjwt")
CANARIES = (OVERRIDE, IN_ENVIRONMENT, *IN_CODE)

TRIAL = """
import os
import ddl

def train(lr: float = 0.1, login: str = ""):
    secret = os.environ["SOME_SERVICE_TOKEN"]
    print("signed in with", secret, "and", login)
    print("-----BEGIN RSA PRIVATE KEY-----\\ncanarykeybody00\\n-----END RSA PRIVATE KEY-----")
    yield ddl.Progress(1, 2, metrics={"val/accuracy": lr}, metadata={"token": secret}, texts={"note.txt": f"{secret} {login}"})
    if lr > 0.1:
        raise RuntimeError(f"{secret!r} refused at https://me:canaryurl0pass@host.example/x, eyJjYW5hcnkxMjM0NQ.eyJjYW5hcnkxMjM0NQ.canaryjwt, {login}, AKIACANARYCODE012345")
"""


def found(content: bytes) -> list[str]:
    return [canary for canary in CANARIES if canary.encode() in content]


def test_no_output_of_a_run_has_a_secret(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", IN_ENVIRONMENT)
    (tmp_path / "leaky.py").write_text(TRIAL)
    overrides = ("metric=val/accuracy", "lr=0.1,0.2", "seeds=1", f"login={OVERRIDE}", "wandb.mode=disabled")
    done = command("--sweep", "leaky.py:train", "--executor", "inline", *overrides, exits=1)
    (folder,) = (tmp_path / "runs" / "train").iterdir()
    publish(folder, "offline")
    command("--report", str(folder))

    assert found((done.stdout + done.stderr).encode()) == []
    assert "(withheld)" in done.stdout
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"launch.log", "results.csv", "results.parquet", "report.html"} <= written
    assert any(name.endswith("samples/note.txt") for name in written)
    assert any(name.endswith(".wandb") for name in written)
    for name in written - {LEDGER}:
        assert found((folder / name).read_bytes()) == [], name

    # A resume needs the hyperparameters, so the ledger has them; nothing else in it has a secret.
    assert {trial.task["login"] for trial in LedgerReader(folder).trials()} == {OVERRIDE}
    with closing(sqlite3.connect(folder / LEDGER)) as db, db:
        db.execute("UPDATE trials SET task = '{}'")
        assert found("\n".join(db.iterdump()).encode()) == []


def test_an_axis_of_secrets_is_refused(command, tmp_path: Path) -> None:
    (tmp_path / "leaky_axis.py").write_text(TRIAL)
    done = command("--sweep", "leaky_axis.py:train", "metric=val/accuracy", f"login=a,{OVERRIDE}", "--executor", "inline", exits=2)
    assert "command line: task.login: looks like a secret" in done.stderr
    assert found(done.stderr.encode()) == []
    assert not (tmp_path / "runs").exists()
