"""A private Ray cluster on this machine. It listens on the loopback interface only, and requires a token."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants, ray_logging, utils, worker
from ray._private.node import Node
from ray._raylet import Config  # type: ignore[attr-defined]  # its stub leaves it out

from ddl.python_path import python_path
from ddl.scratch import scratch_folder

LONGEST_BASE = 18
"""Characters of a path in which Ray's folder can lie: those of its sockets have about 86 more, and 107 at most."""

LOOKS, ANSWER_S, PAUSE_S = 3, 5.0, 1.0
"""Connections that are tried to a process of a running cluster, the timeout of each, and the time between them, in seconds: together less
than the minute after which Ray ends the driver."""

NEEDED = (ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER)
"""Ray's processes without which no trial runs. Others, as that which copies logs, may die."""


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """A temporary folder for the files of a cluster, in RAY_TMPDIR or the system's folder for temporary files, or in /tmp if those
    have too long a path."""
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    with scratch_folder("ray", Path(base if len(base) <= LONGEST_BASE else "/tmp")) as folder:
        yield folder


def start(
    folder: Path, cpus: int, gpus: int, resources: Mapping[str, float], quiet: bool = False, setup_worker: Path | None = None
) -> None:
    """Start the cluster and connect this process to it. `resources` are custom resources. `quiet`: hide its processes' output.

    If it does not start, its processes are ended.

    `folder` is that of `session_folder`, for the files of the cluster.

    `setup_worker` is the script that starts a worker, in place of Ray's own (`fork_server`).
    """
    os.environ["PYTHONPATH"] = python_path()
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            keep_token(Path.home() / ".ray" / "auth_token")
        except OSError:  # a home that cannot be written, or there is none
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Ray replaces a loopback address and binds to all interfaces, except on platforms without multi-node clusters.
    with replaced(ray_constants, ENABLE_RAY_CLUSTER=False), our_settings(), _our_node(setup_worker) as nodes:
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                resources=dict(resources),
                include_dashboard=False,
                # Only small objects pass through the object store: workers load data themselves.
                object_store_memory=128 * 2**20,
                log_to_driver=not quiet,
                logging_level=logging.ERROR if quiet else logging.INFO,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder / "r"),  # Ray makes it readable by everyone
            )
        except BaseException:
            worker._global_node = nodes[0] if nodes else None
            stop()
            raise


def stop() -> None:
    """Disconnect from the cluster; if `start` started it, end its processes.

    They mask SIGTERM (`our_settings`), so Ray would wait a second for each before it kills it.
    """
    node = worker._global_node
    agents: list[psutil.Process] = []
    if node is not None:
        kill = node.kill_all_processes
        node.kill_all_processes = lambda **options: kill(**options | {"allow_graceful": False})
        for raylet in node.all_processes.get(ray_constants.PROCESS_TYPE_RAYLET, ()):
            with contextlib.suppress(psutil.Error):  # it has died
                agents += psutil.Process(raylet.process.pid).children(recursive=True)
    ray.shutdown()
    for agent in agents:  # which wait for a GCS that has died for a minute
        with contextlib.suppress(psutil.Error):
            agent.kill()


def dead_process() -> str:
    """A process that the cluster needs and that has died, as a clause; empty if there is none.

    Of a cluster that `start` did not start, these are the processes to which this one is connected: they have died if their ports refuse or
    do not answer `LOOKS` connections. Ray ends the driver without a message then: after 12 s if the raylet has died, after a minute if the
    GCS has.
    """
    node = worker._global_node
    if node is None:
        return ""
    for name, process in node.dead_processes():
        if name in NEEDED:
            code = process.returncode
            return f"Ray's {name} died ({signal.Signals(-code).name if code < 0 else f'exit status {code}'})"
    if not node.all_processes:
        host, _, port = node.gcs_address.rpartition(":")
        for name, address in (("gcs_server", (host, int(port))), ("raylet", (node.node_ip_address, node.node_manager_port))):
            if not any(_answers(address, last=number == LOOKS) for number in range(1, LOOKS + 1)):
                return f"Ray's {name} on {address[0]} does not answer any more"
    return ""


def _answers(address: tuple[str, int], last: bool) -> bool:
    try:
        socket.create_connection(address, timeout=ANSWER_S).close()
    except OSError:
        if not last:
            time.sleep(PAUSE_S)
        return False
    return True


@contextlib.contextmanager
def _our_node(setup_worker: Path | None) -> Iterator[list[Node]]:
    """A context for `ray.init` that yields the node that it starts, as soon as there is one.

    Starts neither the autoscaler's monitor nor the dashboard's server, which take seconds of CPU time. Nobody can reach them: the cluster
    never grows, and `include_dashboard=False` only hides the dashboard's pages. The dashboard's agent, without which a raylet ends, does what it
    does where the packages for the dashboard are not installed: nothing. `setup_worker` as in `start`.
    """
    start_head_processes, start_raylet = Node.start_head_processes, Node.start_raylet
    nodes: list[Node] = []

    def start_head(node: Node) -> None:
        nodes.append(node)
        start_head_processes(node)

    def start_ours(node: Node, *arguments: Any, **options: Any) -> None:
        if setup_worker:
            node._ray_params.setup_worker_path = str(setup_worker)
        start_raylet(node, *arguments, **options)

    with (
        replaced(
            Node,
            start_head_processes=start_head,
            start_raylet=start_ours,
            start_monitor=lambda node: None,
            start_api_server=lambda node, **_: setattr(node, "_webui_url", ""),
        ),
        replaced(utils, get_dashboard_dependency_error=lambda: ImportError("not needed")),
    ):
        yield nodes


@contextlib.contextmanager
def our_settings() -> Iterator[None]:
    """A context for `ray.init`: makes it use `ddl.sweeps.RAY_SETTINGS`, and keeps this process's SIGTERM handler.

    Of the two that Ray would install, the main thread's exits at once; the other one, of all threads, prints a trace and aborts.
    """
    # Ray reads its settings when it is imported, which may have been before `ddl.sweeps` set them.
    Config.initialize("")
    ray_logging.RAY_DEDUP_LOGS = False
    with (
        replaced(utils, set_sigterm_handler=lambda handler: None),
        replaced(ray_constants, RAY_DISABLE_FAILURE_SIGNAL_HANDLER=True),
    ):
        # A batch scheduler that ends a job signals all its processes at once. Ray's processes must outlive the driver's orderly
        # stop, which ends them with SIGKILL, so they inherit a mask for SIGTERM, and for the SIGHUP of a terminal that closes. They mask
        # SIGINT themselves.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Replace attributes of a module or class of Ray's during the block."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def keep_token(path: Path) -> None:
    """Create Ray's token file if it is missing, and make it readable by its owner only: Ray leaves that to the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Link a complete file: another process must not read half a token, and its new token must not be overwritten.
        descriptor, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
