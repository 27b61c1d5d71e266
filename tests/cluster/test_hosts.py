"""A sweep across two hosts that share a cable and a folder, as nodes of a real cluster do."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ddl.ledger import Reader
from tests.sweeps.command import ROOT, run_folder

from .hosts import Host, two_hosts

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

    def sweep(self, **variables: str) -> tuple[int, str, str]:
        command = ["--sweep", "augmentation", "--scale", "smoke", "seeds=1", "wandb.mode=disabled", "--address"]
        done = self.head.run(
            sys.executable, str(ROOT / "launch.py"), *command, self.address, "--out", "out", environment=self.environment(**variables)
        )
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


@pytest.mark.campaign
@pytest.mark.skipif(os.getuid() != 0, reason="only root may make a network of its own")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
class TestTwoHosts:
    def test_a_sweep_runs_on_both(self, cluster: Cluster) -> None:
        code, output, errors = cluster.sweep(**TOKEN)
        assert code == 0, output + errors
        rows = Reader(run_folder(output, cluster.folder)).trials()
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
        code, _, errors = cluster.sweep(**token)
        assert code == 2, errors
        assert f"--address {cluster.address}: the cluster refuses this process's token" in errors
        assert "Traceback" not in errors
        assert sorted(cluster.folder.rglob("ledger.sqlite")) == before, "nothing was started"
