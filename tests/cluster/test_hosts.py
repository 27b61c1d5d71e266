"""A sweep across two simulated hosts that share a network and a folder, like nodes of a real cluster."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ddl.ledger_reader import LedgerReader
from tests.sweeps.command import PLUGIN, ROOT, run_folder
from tests.waiting import HANG_S, wait_until

from .hosts import Host, two_hosts

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.campaign,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root may make a network of its own"),
]

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}
STRANGER = TOKEN | {"RAY_AUTH_TOKEN": "cd" * 32, "RAY_NUM_REDIS_GET_RETRIES": "2"}
"""Another token. Ray asks 20 times, a second apart, before it believes a refusal; here twice is enough."""
NOBODY = {"RAY_AUTH_MODE": "token", "RAY_NUM_REDIS_GET_RETRIES": "2"}


@dataclass(frozen=True)
class Cluster:
    head: Host
    node: Host
    address: str
    folder: Path

    def environment(self, **variables: str) -> dict[str, str]:
        """Of a user who has no token at home and does not say where ddl is; `variables` say more."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_")) and name != "PYTHONPATH"}
        return plain | {"HOME": str(self.folder), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"} | variables

    def sweep(self, *more: str, **variables: str) -> tuple[int, str, str]:
        arguments = ["--sweep", "augmentation", "--scale", "smoke", "wandb.mode=disabled", "--address", self.address, "--out", "out", *more]
        launch = [sys.executable, str(ROOT / "launch.py"), *arguments]
        done = self.head.run(*launch, environment=self.environment(**variables), seconds=800)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    with two_hosts(folder) as (head, node):
        made = Cluster(head, node, f"{head.address}:6379", folder)
        small = ["--num-cpus=1", "--object-store-memory=80000000"]
        environment = made.environment(**TOKEN)
        started = head.run(
            RAY, "start", "--head", f"--node-ip-address={head.address}", "--include-dashboard=false", *small, environment=environment
        )
        assert started.returncode == 0, started.stderr
        joined = node.run(RAY, "start", f"--address={made.address}", f"--node-ip-address={node.address}", *small, environment=environment)
        assert joined.returncode == 0, joined.stderr
        yield made


class TestTwoHosts:
    def test_a_sweep_runs_on_both(self, cluster: Cluster) -> None:
        # Long enough that no node has done them all before the other is ready.
        code, output, errors = cluster.sweep("seeds=2", "task.epochs=20", **TOKEN)
        assert code == 0, output + errors
        rows = LedgerReader(run_folder(output, cluster.folder)).trials()
        assert {row.status for row in rows} == {"finished"}
        assert {row.place for row in rows} == {"ddl-one cpu", "ddl-two cpu"}

    @pytest.mark.parametrize("token", [NOBODY, STRANGER], ids=["none", "another"])
    def test_without_the_token_nobody_joins(self, cluster: Cluster, token: dict[str, str]) -> None:
        joining = cluster.node.run(RAY, "start", f"--address={cluster.address}", environment=cluster.environment(**token))
        assert joining.returncode != 0
        assert "AuthenticationError" in joining.stdout + joining.stderr

    @pytest.mark.parametrize("token", [NOBODY, STRANGER], ids=["none", "another"])
    def test_without_the_token_nobody_runs_a_sweep(self, cluster: Cluster, token: dict[str, str]) -> None:
        before = sorted(cluster.folder.rglob("ledger.sqlite"))
        code, _, errors = cluster.sweep("seeds=1", **token)
        assert code == 2, errors
        assert f"--address {cluster.address}: the cluster refuses this process's token" in errors
        assert "Traceback" not in errors
        assert sorted(cluster.folder.rglob("ledger.sqlite")) == before, "nothing was started"


SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
printf '%s\\0' "$@" >"$NOTES/task.new" && mv "$NOTES/task.new" "$NOTES/task"
SLURM_NODEID=0 exec "$@"
"""
"""Runs the first node's task where it is called, as Slurm does, and says what the second node's is."""

SCONTROL = """#!/usr/bin/env bash
case $1 in
    show) printf '10.77.0.1\\n10.77.0.2\\n' ;;
    requeue) echo "$2" >>"$NOTES/requeued" ;;
esac
"""


def test_a_slurm_job_whose_time_is_up_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    for name, body in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(body)
        (tmp_path / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))} | {
        "PATH": os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(PLUGIN)]),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "NOTES": str(tmp_path),
        "DDL_ROOT": str(ROOT),
        "DDL_RUNS": str(tmp_path / "runs"),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "1",
    }

    def reader() -> LedgerReader | None:
        found = [path.parent for path in tmp_path.glob("runs/slurm-42/race/*/ledger.sqlite") if path.stat().st_size]
        assert len(found) <= 1, "it goes on with the run that there is"
        return LedgerReader(found[0]) if found else None

    def driver_said() -> str:
        return "".join(path.read_text() for path in tmp_path.glob("runs/slurm-42/race/*/launch.log"))[-2000:]

    def measured() -> bool:
        run = reader()
        return run is not None and run.metrics().trial_id.nunique() >= 2

    with (tmp_path / "job.log").open("ab") as log, two_hosts(tmp_path) as (one, two):

        def job(until: Callable[[], bool] | None) -> int:
            """Runs the script on the first node and its task on the second, and sends Slurm's warning at `until`."""
            (tmp_path / "task").unlink(missing_ok=True)
            sweep = ["--sweep", str(PLUGIN / "race.yaml"), "--scale", "smoke", "task.pause_s=0.5", "checkpoint_every_s=0.1"]
            script = subprocess.Popen(one.inside(["bash", str(ROOT / "cluster/slurm.sh"), *sweep]), env=environment, stdout=log, stderr=log)
            wait_until((tmp_path / "task").exists, "the job asks for its tasks")
            task = (tmp_path / "task").read_text().split("\0")[:-1]
            second = {**environment, "SLURM_NODEID": "1", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
            second |= {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "runs/slurm-42/token"), "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": "300"}
            other = subprocess.Popen(two.inside(task), env=second, stdout=log, stderr=log)
            if until is not None:
                wait_until(until, "two trials under way")
                (bash,) = psutil.Process(script.pid).children()
                bash.send_signal(signal.SIGUSR1)
            code = script.wait(2 * HANG_S)
            assert other.wait(HANG_S) == 0, "the second node's task ends by itself, and well"
            return code

        assert job(measured) == 130, driver_said()
        assert (tmp_path / "requeued").read_text() == "42\n"
        cut_off = reader()
        assert cut_off is not None
        assert {"planned"} <= {trial.status for trial in cut_off.trials()} <= {"planned", "finished"}
        assert job(None) == 0, driver_said()
        assert (tmp_path / "requeued").read_text() == "42\n"

    run = reader()
    assert run is not None
    assert {trial.status for trial in run.trials()} == {"finished"}
    assert {trial.place for trial in run.trials()} == {"ddl-one cpu", "ddl-two cpu"}
    resumed = run.events()[run.events().kind == "started"].groupby("trial_id").detail.last()
    assert not all(detail.startswith("from step 0 ") for detail in resumed), "from their checkpoints"
