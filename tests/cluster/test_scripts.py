"""The Slurm script against fake Slurm and Ray commands that record their arguments, and cluster/sweep.py."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ddl.ledger_tables import TrialRow
from tests.sweeps.command import ROOT
from tests.waiting import HANG_S, wait_until

from ..ledgers import ReportingLedger

CLUSTER = ROOT / "cluster"
SLURM = CLUSTER / "slurm.sh"
SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))

FAKES = {
    # Names the nodes of the job, the head first; and takes note of a job that is put back.
    "scontrol": """
        case $1 in
            show) printf 'node-a\\nnode-b\\n' ;;
            requeue) echo "$2" >>"$NOTES/requeued" ;;
        esac""",
    # Runs what it is given on each of two nodes, as one task each, with what Slurm tells a task.
    "srun": """
        printf '%s\\n' "$@" >"$NOTES/srun"
        while [[ $1 == --* ]]; do shift; done
        SLURM_NODEID=1 "$@" & other=$!
        trap 'kill -TERM "$task"' TERM
        SLURM_NODEID=0 "$@" & task=$!
        wait "$task"; wait "$task"; code=$?; wait "$other"; exit "$code" """,
    # `ray symmetric-run`: the head runs what stands behind the separator.
    "ray": """
        printf '%s\\n' "$@" >"$NOTES/ray-$SLURM_NODEID"
        env | grep ^RAY_ >"$NOTES/environment-$SLURM_NODEID"
        grep SigBlk /proc/self/status >"$NOTES/blocked-$SLURM_NODEID"
        [[ $SLURM_NODEID == 0 ]] || exit 0
        until [[ $1 == -- ]]; do shift; done
        shift; "$@" """,
}

SWEEP = """
import json, os, pathlib, signal, sys, time
notes = pathlib.Path(os.environ["NOTES"])
(notes / "sweep").write_text(json.dumps(sys.argv[1:]))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
(notes / "running").touch()
time.sleep(float(os.environ["SECONDS_LONG"]))
sys.exit(int(os.environ["ENDS_WITH"]))
"""


class Job:
    """A Slurm job of two nodes with the script in it."""

    def __init__(self, folder: Path):
        self.notes, self.root, self.runs = folder / "notes", folder / "root", folder / "runs"
        tools = folder / "tools"
        for made in (self.notes, self.root / "cluster", tools):
            made.mkdir(parents=True)
        for name, body in FAKES.items():
            (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (tools / name).chmod(0o755)
        (self.root / "cluster" / "sweep.py").write_text(SWEEP)
        self.environment = os.environ | {
            "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "NOTES": str(self.notes),
            "SLURM_SUBMIT_DIR": str(self.root),
            "SLURM_JOB_ID": "1234567",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_ON_NODE": "8",
            "DDL_RUNS": str(self.runs),
        }

    def start(self, *arguments: str, seconds: float = 0, code: int = 0) -> subprocess.Popen:
        environment = self.environment | {"SECONDS_LONG": str(seconds), "ENDS_WITH": str(code)}
        return subprocess.Popen(["bash", str(SLURM), *arguments], env=environment, start_new_session=True)

    def said(self, name: str) -> list[str]:
        path = self.notes / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def out(self) -> Path:
        return self.runs / "slurm-1234567"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize("script", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_are_sound(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    checked = subprocess.run([SHELLCHECK, str(script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_each_node_joins_and_the_head_runs_the_sweep(job: Job) -> None:
    assert job.start("--sweep", "augmentation", "seeds=2").wait(HANG_S) == 0
    port = 20000 + 1234567 % 10000
    common = ["symmetric-run", "--address", f"node-a:{port}", "--min-nodes", "2", "--num-cpus=8"]
    head, node = job.said("ray-0"), job.said("ray-1")
    assert head[:7] == [*common, "--include-dashboard=false"]
    assert node[:7] == [*common, "--"], "ray start refuses the dashboard's option where it joins"
    assert {"--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=8"} <= set(job.said("srun"))
    given = ["--out", str(job.out), "--address", f"node-a:{port}", "--sweep", "augmentation", "seeds=2"]
    assert job.said("sweep") == [str(given).replace("'", '"')]
    assert not job.said("requeued")


def test_the_token_is_in_a_private_file_and_nowhere_else(job: Job) -> None:
    assert job.start("--sweep", "augmentation").wait(HANG_S) == 0
    file = job.out / "token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    assert len(token) == 64
    for node in (0, 1):
        assert {"RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN_PATH={file}"} <= set(job.said(f"environment-{node}"))
    assert not [path.name for path in job.notes.iterdir() if token in path.read_text()]


def test_when_time_is_nearly_up_the_sweep_stops_and_the_job_is_queued_again(job: Job) -> None:
    process = job.start("--sweep", "augmentation", seconds=2 * HANG_S)
    wait_until((job.notes / "running").exists, "the sweep runs")
    process.send_signal(signal.SIGUSR1)  # as --signal=B:USR1 does: to the script alone
    assert process.wait(HANG_S) == 130
    assert job.said("requeued") == ["1234567"]
    # Slurm starts the script again, from its beginning and in the same job: the same folder, and so the same token.
    token = (job.out / "token").read_text()
    assert job.start("--sweep", "augmentation").wait(HANG_S) == 0
    assert (job.out / "token").read_text() == token
    assert job.said("requeued") == ["1234567"], "not once more"


def test_a_cancelled_job_stops_in_order_and_is_not_queued_again(job: Job) -> None:
    process = job.start("--sweep", "augmentation", seconds=2 * HANG_S)
    wait_until((job.notes / "running").exists, "the sweep runs")
    mask = int(job.said("blocked-0")[0].split()[1], 16)
    assert mask >> (signal.SIGTERM - 1) & 1, "Ray's processes outlive the driver's stop"
    driver = int((job.out / "driver.pid").read_text())
    for pid in (process.pid, driver):  # of a signal to all processes, those two and Ray's would hear it
        os.kill(pid, signal.SIGTERM)
    assert process.wait(HANG_S) == 130
    assert not job.said("requeued")


def test_a_sweep_that_fails_is_not_queued_again(job: Job) -> None:
    process = job.start("--sweep", "augmentation", seconds=2, code=1)
    wait_until((job.notes / "running").exists, "the sweep runs")
    (job.out / "driver.pid").write_text("")  # the signal comes too late to reach it
    process.send_signal(signal.SIGUSR1)
    assert process.wait(HANG_S) == 1
    assert not job.said("requeued")


class TestSweep:
    """cluster/sweep.py, which the script starts: what it asks of the command."""

    @pytest.fixture
    def sweep(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
        module = runpy.run_path(str(CLUSTER / "sweep.py"))
        asked: list[list[str]] = []
        monkeypatch.setitem(module["main"].__globals__, "launch", lambda arguments: asked.append(list(arguments)) or 0)

        def sweep(*arguments: str) -> list[str]:
            assert module["main"](arguments) == 0
            return asked[-1]

        return sweep

    def run(self, out: Path, name: str, *statuses: str, report: bool = True) -> Path:
        """A run that was begun at the time it is named by, and whose trials have come so far."""
        folder = out / "race" / name
        folder.mkdir(parents=True)
        rows = [TrialRow(f"t{number}", number, "", {}, {}, 0) for number in range(len(statuses))]
        with ReportingLedger.create(folder, {"created": name}, rows) as ledger:
            for row, status in zip(rows, statuses, strict=True):
                if status == "running":
                    ledger.started(row.trial_id, 0, "")
                elif status != "planned":
                    ledger.ended(row.trial_id, status)
        if report:
            (folder / "report.html").touch()
        return folder

    def test_a_job_begins_its_sweep(self, sweep: Callable[..., list[str]], tmp_path: Path) -> None:
        given = ["--sweep", "race", "--out", str(tmp_path), "--address", "a:1", "seeds=2"]
        assert sweep(*given) == given
        self.run(tmp_path, "2026-01-01-000000", "finished", "diverged", "stopped")
        assert sweep(*given) == given, "what is finished is left alone"

    @pytest.mark.parametrize("left", [("finished", "running"), ("finished", "planned"), ("finished", "failed")])
    def test_a_job_that_is_started_again_goes_on(self, sweep: Callable[..., list[str]], tmp_path: Path, left: tuple[str, ...]) -> None:
        self.run(tmp_path, "2026-01-01-000000", "planned")
        newest = self.run(tmp_path, "2026-01-02-000000", *left)
        self.run(tmp_path, "2026-01-03-000000", "finished")
        cut_off = tmp_path / "race" / "2026-01-04-000000"
        cut_off.mkdir()
        (cut_off / "ledger.sqlite").touch()
        asked = sweep("--sweep", "race", "--out", str(tmp_path), "--address", "a:1", "--scale", "smoke", "seeds=2")
        assert asked == ["--resume", str(newest), "--address", "a:1"], "the scale and the overrides are the run's own"

    def test_a_run_that_lacks_its_report_is_gone_on_with(self, sweep: Callable[..., list[str]], tmp_path: Path) -> None:
        run = self.run(tmp_path, "2026-01-01-000000", "finished", report=False)
        assert sweep("--sweep", "race", "--out", str(tmp_path), "--check") == ["--resume", str(run), "--check"]

    def test_it_wants_a_sweep(self, sweep: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            sweep("--list")
        assert "name it with --sweep" in capsys.readouterr().err

    def test_it_hears_the_signal_that_ray_is_shielded_from(self, sweep: Callable[..., list[str]], tmp_path: Path) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            sweep("--sweep", "race", "--out", str(tmp_path))
            assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
