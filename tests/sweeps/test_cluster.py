"""A sweep on a running Ray cluster: several raylets on this machine, some of which come and go."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from ddl.ledger_reader import LedgerReader
from ddl.run_results import Run
from tests.waiting import HANG_S, wait_until

from .command import ANYWHERE, PLUGIN, ROOT, communicate, launch, run_folder, start

RAY = str(Path(sys.executable).with_name("ray"))
RACE = str(PLUGIN / "race.yaml")
STRANGER = {"RAY_AUTH_TOKEN": "cd" * 32, "RAY_NUM_REDIS_GET_RETRIES": "2"}
"""Another token. Ray asks 20 times, a second apart, before it believes a refusal; here twice is enough."""


A_JOB = '{"runtime_env": {}, "metadata": {}}'
"""Environment variable that Ray's job server sets for a process that it starts."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that trains nothing and two nodes with a core each; none of their processes can import ddl by itself."""
    # With the session's token: a process reads it once, and an earlier test may have made this one do so.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.delenv("PYTHONPATH", raising=False)
        environment.chdir(tmp_path_factory.mktemp("cluster"))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000})
        try:
            for _ in range(2):
                made.add_node(num_cpus=1, object_store_memory=80_000_000)
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()


@pytest.mark.campaign
def test_a_sweep_outlives_a_node_that_goes_and_uses_one_that_comes(cluster: Cluster, tmp_path: Path) -> None:
    # The node that is left would take a minute for the rest, long enough for the one that comes to get a trial.
    arguments = ("task.pause_s=0.5", "checkpoint_every_s=0.1", "--address", cluster.address, "--out", str(tmp_path / "out"))
    process = start("--sweep", RACE, "--scale", "smoke", *arguments, cwd=tmp_path, how=ANYWHERE, DDL_CACHE="/nodes/cache")

    def reader() -> LedgerReader | None:
        folders = list(tmp_path.glob("out/race/*/ledger.sqlite"))
        return LedgerReader(folders[0].parent) if folders else None

    def measured() -> bool:
        assert process.poll() is None, "it ended early"
        found = reader()
        return found is not None and found.metrics().trial_id.nunique() >= 2

    wait_until(measured, "two trials under way")
    lost = cluster.list_all_nodes()[-1]
    cluster.remove_node(lost, allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000, env_vars={"DDL_TEST_NODE": "the new node"})
    output, _ = communicate(process)

    folder = run_folder(output, tmp_path)
    rows, events = LedgerReader(folder).trials(), LedgerReader(folder).events()
    assert {row.status for row in rows} == {"finished"}
    finished = events[events.kind == "finished"].trial_id
    assert sorted(finished) == sorted(row.trial_id for row in rows), "each once"
    assert sorted(row.attempts for row in rows)[-1] == 2, "the lost node's trial continued elsewhere"
    again = events[events.kind == "started"].groupby("trial_id").detail.last()
    moved = next(row for row in rows if row.attempts == 2)
    assert not again[moved.trial_id].startswith("from step 0 "), "from its checkpoint"
    metrics = LedgerReader(folder).metrics()
    for trial_id, come in metrics[metrics.name == "val/come"].groupby("trial_id"):
        assert come.step.tolist() == list(range(1, 21)), trial_id
    assert {row.metadata["node"] for row in rows} == {"", "the new node"}, "the nodes share a host name, so the place does not name them"
    assert all(not Path(row.metadata["package"]).is_relative_to(ROOT) for row in rows), "the workers run what the driver sent"
    assert {row.metadata["cache"] for row in rows} == {"/nodes/cache"}, "and look for data where the driver does"
    assert "2 nodes" in " ".join(output.split()) or "3 nodes" in " ".join(output.split())


@pytest.mark.campaign
def test_a_node_that_is_drained_loses_no_step_and_no_retry(cluster: Cluster, tmp_path: Path) -> None:
    arguments = ("task.speed=9.0,8.0", "task.steps=60", "task.pause_s=0.2", "retries=0", "checkpoint_every_s=1000.0")
    command = ("--sweep", RACE, "--scale", "smoke", *arguments, "--address", cluster.address, "--out", str(tmp_path / "out"))
    process = start(*command, cwd=tmp_path, how=ANYWHERE)

    def measured() -> bool:
        assert process.poll() is None, "it ended early"
        folders = list(tmp_path.glob("out/race/*/ledger.sqlite"))
        return bool(folders) and LedgerReader(folders[0].parent).metrics().trial_id.nunique() == 2

    wait_until(measured, "two trials under way")
    drained = cluster.list_all_nodes()[-1]
    reason = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "reclaimed", "--deadline-remaining-seconds", "600")
    drain = (RAY, "drain-node", "--address", cluster.address, "--node-id", drained.node_id, *reason)
    said = subprocess.run(drain, capture_output=True, text=True, timeout=HANG_S)
    assert said.returncode == 0, said.stdout + said.stderr
    output, _ = communicate(process)
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    folder = run_folder(output, tmp_path)
    rows, metrics = LedgerReader(folder).trials(), LedgerReader(folder).metrics()
    assert [row.status for row in rows] == ["finished"] * 2
    assert sorted(row.attempts for row in rows) == [1, 2]
    for trial_id, come in metrics[metrics.name == "val/come"].groupby("trial_id"):
        assert come.step.tolist() == list(range(1, 61)), trial_id


def test_workers_get_a_function_and_what_it_imports(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    (tmp_path / "user/settings.py").write_text("SCALE = 3\n")
    text = "import settings\ndef train(lr: float):\n    return {'val/loss': settings.SCALE * lr, 'val/sent': float(SOURCE not in settings.__file__)}\n"
    (tmp_path / "user/mine.py").write_text(f"{text}SOURCE = {str(tmp_path)!r}\n")
    arguments = ("--sweep", "user/mine.py:train", "lr=1.0,2.0", "seeds=1", "metric=val/loss", "--address", cluster.address)
    launch(*arguments, "--out", str(tmp_path / "out"), cwd=tmp_path)
    (folder,) = tmp_path.glob("out/train/*")
    results = Run(folder).results
    assert sorted(results["val/loss"]) == [3.0, 6.0]
    assert set(results["val/sent"]) == {1.0}, "from the driver's package, not from its folder"


def test_what_no_node_has_is_refused_before_anything_starts(cluster: Cluster, tmp_path: Path) -> None:
    done = launch("--sweep", RACE, "--address", cluster.address, "resources.cpus=2", cwd=tmp_path, exits=2)
    assert "resources.cpus: 2 per worker, but no node has more than 1. Request at most 1." in done.stderr
    assert not list(tmp_path.rglob("ledger.sqlite"))


@pytest.mark.campaign
def test_a_terminated_sweep_can_be_resumed(cluster: Cluster, tmp_path: Path) -> None:
    arguments = ("--sweep", RACE, "--scale", "smoke", "task.pause_s=0.3", "--address", cluster.address)
    process = start(*arguments, cwd=tmp_path, how=ANYWHERE, RAY_JOB_CONFIG_JSON_ENV_VAR=A_JOB)
    ledgers = lambda: [path.parent for path in tmp_path.glob("runs/race/*/ledger.sqlite") if path.stat().st_size]  # noqa: E731
    wait_until(lambda: any("started" in set(LedgerReader(run).events().kind) for run in ledgers()), "a trial under way")
    process.terminate()
    _, errors = communicate(process, exits=130)
    assert re.search(r"interrupted; resume with: python \S*launch\.py --resume ", errors)
    (run,) = ledgers()
    assert {row.status for row in LedgerReader(run).trials()} == {"planned"}


def test_where_no_cluster_is_it_says_so(tmp_path: Path) -> None:
    done = launch("--sweep", RACE, "--address", "127.0.0.1:9", cwd=tmp_path, exits=2)
    assert "--address 127.0.0.1:9: no cluster answers" in done.stderr
    assert list(tmp_path.iterdir()) == [], "not even a folder is left"


def test_without_the_token_a_cluster_is_no_use(cluster: Cluster, tmp_path: Path) -> None:
    done = launch("--sweep", RACE, "--address", cluster.address, cwd=tmp_path, exits=2, **STRANGER)
    assert "refuses this process's token" in done.stderr
    assert not list(tmp_path.rglob("ledger.sqlite")), "nothing was started"
    assert "Traceback" not in done.stderr
    joining = subprocess.run(
        [RAY, "start", "--address", cluster.address], env=os.environ | STRANGER, capture_output=True, text=True, timeout=HANG_S
    )
    assert joining.returncode != 0
