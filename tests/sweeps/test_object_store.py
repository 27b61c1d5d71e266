"""Runs that are kept at a URL, by the command."""

import re
import signal
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ddl.ledger_reader import LedgerReader
from tests.waiting import wait_until

from .command import PLUGIN, Command, communicate, launch, run_folder, start

SECRET = "canary0secret"
COUNTING = ("--sweep", str(PLUGIN / "mischief.yaml"), "--scale", "smoke", "task.deed=none", "--executor", "inline")


def at(url: str) -> Path:
    return Path(url.removeprefix("file://"))


def test_a_run_is_kept_at_a_url_and_resumed_from_there_on_another_machine(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"file://{tmp_path}/store"
    arguments = (*COUNTING, f"task.marks={tmp_path}", "task.steps=60", "task.pause_s=0.1", "checkpoint_every_s=0.3", "--out", store)
    process = start(*arguments, cwd=tmp_path, DDL_CACHE=str(tmp_path / "here"))
    wait_until(lambda: bool(list(at(store).glob("mischief/*/trials/*/checkpoints/step-*/manifest.json"))), "a checkpoint there")
    process.send_signal(signal.SIGTERM)
    _, errors = communicate(process, exits=130)
    kept = re.search(r"launch\.py --resume (file://\S+)", errors)
    assert kept, errors
    assert (at(kept[1]) / "ledger.sqlite").is_file()
    assert not (at(kept[1]) / "lease.json").exists()

    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "elsewhere"))
    resumed = command("--resume", kept[1])
    assert f"uploaded to {kept[1]}\n" in resumed.stdout
    assert run_folder(resumed.stdout, tmp_path).is_relative_to(tmp_path / "elsewhere")
    for folder in (at(kept[1]), run_folder(resumed.stdout, tmp_path)):
        (trial,) = LedgerReader(folder).trials()
        assert trial.status == "finished"
        metrics = LedgerReader(folder).metrics().query("name == 'val/total'")
        assert metrics.step.tolist() == list(range(1, 61)), "each step once"
        assert metrics.value.iloc[-1] == sum(range(60))
    assert (at(kept[1]) / "report.html").read_bytes() == run_folder(resumed.stdout, tmp_path).joinpath("report.html").read_bytes()
    # Read from a third machine, which resumes nothing.
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "third"))
    read = command("--report", kept[1])
    written = Path(read.stdout.splitlines()[-1].removeprefix("report: "))
    assert written.is_relative_to(tmp_path / "third")
    assert "1 of 1 trial finished" in re.sub(r"\s+", " ", written.read_text())
    missing = command("--report", f"{store}/mischief/never", exits=2)
    assert "no ledger.sqlite in it, so it is not a run" in missing.stderr
    froms = sorted(int(mark.name.rpartition("-")[2]) for mark in tmp_path.glob("none-*"))
    assert froms[-1] > 0, "from the checkpoint that was kept there"


def test_a_trial_kept_at_a_url_is_exported_and_its_first_steps_are_repeated_elsewhere(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (
        "task.train_limit=64",
        "task.val_limit=32",
        "task.widths=[4]",
        "task.precision=fp32",
        "task.augmentation=none",
        "seeds=1",
        "resources.cpus=1",
        "latency=none",
        "wandb.mode=disabled",
    )
    arguments = ("--sweep", "augmentation", "--scale", "smoke", "--executor", "inline", *small, "--out", f"file://{tmp_path}/store")
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "here"))
    command(*arguments)
    (ledger,) = tmp_path.glob("store/augmentation/*/ledger.sqlite")
    (trial,) = LedgerReader(ledger.parent).trials()
    url = f"file://{ledger.parent}"

    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "elsewhere"))
    exported = command("--export", url, trial.trial_id)
    written = Path(exported.stdout.splitlines()[-1])
    assert written.is_relative_to(tmp_path / "elsewhere")
    assert {"model.pt2", "card.json"} <= {path.name for path in written.iterdir()}
    unknown = command("--export", url, "nobody", exits=2)
    assert "has no trial 'nobody'" in unknown.stderr
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "third"))
    repeated = command("--reproduce", f"{url}/trials/{trial.trial_id}")
    assert "agree bit for bit" in repeated.stdout


def test_s3_keeps_a_run_and_no_secret_is_kept_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="kept")
        done = launch(*COUNTING, f"task.marks={tmp_path}", "--out", "s3://kept/runs", cwd=tmp_path, DDL_CACHE=str(tmp_path / "cache"))
        keys = [item["Key"] for item in client.list_objects_v2(Bucket="kept")["Contents"]]
        contents = {key: client.get_object(Bucket="kept", Key=key)["Body"].read() for key in keys}
        client.close()
    finally:
        server.stop()
    names = {re.sub(r"^runs/mischief/[^/]+/", "", key) for key in keys}
    assert {"ledger.sqlite", "results.csv", "report.html", "launch.log"} <= names
    assert any(name.endswith("/checkpoints/step-000000006/manifest.json") for name in names), "the last one"
    assert all(SECRET.encode() not in content for content in contents.values())
    assert SECRET not in done.stdout + done.stderr
    assert all(SECRET.encode() not in path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_store_that_goes_away_stops_no_trial_but_is_no_success(tmp_path: Path) -> None:
    store = tmp_path / "store"
    arguments = (*COUNTING, f"task.marks={tmp_path}", "task.steps=60", "task.pause_s=0.1", "--out", f"file://{store}")
    process = start(*arguments, cwd=tmp_path, DDL_CACHE=str(tmp_path / "cache"))
    wait_until(lambda: bool(list(tmp_path.glob("none-*"))) and store.is_dir(), "it trains")
    wait_until(lambda: bool(list(store.glob("mischief/*/trials/*/checkpoints/step-*/manifest.json"))), "a checkpoint there")
    store.rename(tmp_path / "away")
    store.touch()  # nothing can be made below a file
    output, errors = communicate(process, exits=1)
    (trial,) = LedgerReader(run_folder(output, tmp_path)).trials()
    assert trial.status == "finished"
    assert ", except:" in output
    assert f"trial {trial.trial_id}: only in " in output
    assert "Traceback" not in errors


@pytest.mark.parametrize("url", [f"s3://me:{SECRET}@kept/runs", "nonsense://kept/runs", "file:///proc/nowhere"])
def test_a_url_that_cannot_be_used_is_refused_before_anything_starts(
    url: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    done = command(*COUNTING, f"task.marks={tmp_path}", "--out", url, exits=2)
    assert done.stderr.rstrip().endswith("Nothing was started.")
    assert SECRET not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("ledger.sqlite"))
    assert "Traceback" not in done.stderr
