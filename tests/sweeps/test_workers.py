"""Trials that several workers train together, of which some are lost."""

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from ddl.ledger_reader import LedgerReader
from tests.waiting import HANG_S, wait_until

from .command import ANYWHERE, PLUGIN, Command, communicate, run_folder, start

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1200)]

RAY = str(Path(sys.executable).with_name("ray"))
TOGETHER = ("--sweep", str(PLUGIN / "paused.yaml"), "--scale", "smoke", "resources.cpus=2")
EPOCHS, STEPS_PER_EPOCH = 20, 256 // 32


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes with room for a worker each, and a head with room for what waits for them."""
    subprocess.run([RAY, "get-auth-token", "--generate"], check=True, capture_output=True, timeout=HANG_S)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("DDL_TEST_SESSION", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000})
    try:
        for _ in range(2):
            made.add_node(num_cpus=3, object_store_memory=80_000_000)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def begin(cluster: Cluster, folder: Path, *arguments: str) -> subprocess.Popen:
    """The sweep, once two workers have stored a checkpoint of its one trial's second epoch."""
    process = start(*TOGETHER, *arguments, "--address", cluster.address, "--out", str(folder / "out"), cwd=folder, how=ANYWHERE)

    def under_way() -> bool:
        assert process.poll() is None, "it ended early"
        stored = folder.glob("out/paused/*/trials/*/checkpoints/step-?????????/manifest.json")
        return any(int(path.parent.name.removeprefix("step-")) > STEPS_PER_EPOCH for path in stored)

    wait_until(under_way, "a checkpoint")
    return process


def assert_whole(process: subprocess.Popen, folder: Path) -> Path:
    output, _ = communicate(process)
    run = run_folder(output, folder)
    (trial,) = LedgerReader(run).trials()
    assert (trial.status, trial.attempts) == ("finished", 2)
    metrics = LedgerReader(run).metrics()
    loss = metrics[metrics.name == "train/loss"]
    assert loss.step.tolist() == [STEPS_PER_EPOCH * epoch for epoch in range(1, EPOCHS + 1)], "every epoch, each once"
    assert all(map(math.isfinite, loss.value))
    assert loss.value.iloc[-1] < loss.value.iloc[0]
    return run


def test_a_trial_continues_with_the_remaining_workers(cluster: Cluster, tmp_path: Path) -> None:
    process = begin(cluster, tmp_path, "resources.num_workers=[1,2]", "checkpoint_every_s=1.0")
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    run = assert_whole(process, tmp_path)
    events = LedgerReader(run).events()
    assert not events[events.kind == "started"].detail.iloc[-1].startswith("from step 0 ")
    (trial,) = LedgerReader(run).trials()
    assert "workers)" not in trial.place, "it is alone"
    assert "(2 workers)" in events[events.kind == "started"].detail.iloc[0]


def test_a_preempted_worker_loses_no_step_and_no_retry(cluster: Cluster, tmp_path: Path) -> None:
    process = begin(cluster, tmp_path, "resources.num_workers=2", "resources.strategy=fsdp", "retries=0", "checkpoint_every_s=8.0")
    found = [one for one in psutil.process_iter(["cmdline", "environ"]) if "RayTrainWorker" in " ".join(one.info["cmdline"] or [])]
    workers = [one for one in found if (one.info["environ"] or {}).get("DDL_TEST_SESSION") == str(tmp_path)]
    assert len(workers) == 2
    workers[-1].send_signal(signal.SIGTERM)
    assert_whole(process, tmp_path)


def test_the_model_of_several_workers_is_timed(command: Command, tmp_path: Path) -> None:
    """Its buffers are rank 0's in every worker, so all of them take part."""
    options = ("configurations=dropout", "seeds=1", "resources.num_workers=2", "resources.cpus=1")
    done = command("--sweep", "regularisation", "--scale", "smoke", *options)
    (trial,) = LedgerReader(run_folder(done.stdout, tmp_path)).trials()
    assert "(2 workers)" in trial.place
    assert "not_measured" not in trial.metadata["latency"]
