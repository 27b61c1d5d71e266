"""Simulated hosts on one machine: each has its own network, host name, processes and Ray folder; a virtual cable connects them."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

CABLE = "ddl0"
HOST = 'mount -t tmpfs tmpfs "$2" && hostname "$1" && ip link set lo up && echo ready && while :; do sleep 1; done'
"""What keeps a host alive. Bash, because a first process must bury orphans, which `sleep` alone would not."""


class Host:
    """A host, whose first process is `first`. It has a network of its own, and so no other way out than the cable."""

    def __init__(self, name: str, address: str, first: int, folder: Path):
        self.name, self.address, self._first, self._folder = name, address, first, folder
        self.network = f"/proc/{first}/ns/net"

    def inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", "--target", str(self._first), "--all", f"--wdns={self._folder}", *command]

    def run(self, *command: str, environment: dict[str, str], seconds: float = 300) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.inside(command), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts on one cable. They end with all that runs on them, and their networks and the cable with them."""
    missing = [tool for tool in ("unshare", "nsenter", "ip", "mount", "hostname") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"separate hosts need {', '.join(missing)}")
    with ExitStack() as ending:
        one, two = (ending.enter_context(_host(f"ddl-{name}", f"10.77.0.{number}", folder)) for number, name in ((1, "one"), (2, "two")))
        _do("nsenter", f"--net={one.network}", "ip", "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", two.network)
        for host in (one, two):
            _do(*host.inside(["ip", "address", "add", f"{host.address}/24", "dev", CABLE]))
            _do(*host.inside(["ip", "link", "set", CABLE, "up"]))
        yield one, two


@contextmanager
def _host(name: str, address: str, folder: Path) -> Iterator[Host]:
    ray_folder = Path("/tmp/ray")  # where Ray's files lie unless it is told otherwise; each host gets one of its own
    ray_folder.mkdir(exist_ok=True)
    spaces = ["--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = subprocess.Popen(
        ["unshare", *spaces, "bash", "-c", HOST, "host", name, str(ray_folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            process.kill()
            pytest.skip(f"no namespaces can be made here: {process.communicate()[1].strip()}")
        (first,) = psutil.Process(process.pid).children()
        yield Host(name, address, first.pid, folder)
        left = [*first.children(recursive=True), first]
    finally:
        # With a host's first process the kernel ends all others on it.
        process.kill()
        process.communicate()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive, f"{name} has not ended"


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{command}: {done.stderr}"
