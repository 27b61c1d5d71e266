"""A Ray cluster of this machine's own: it listens on the loopback device alone, and asks for a token even there."""

import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._raylet import Config  # type: ignore[attr-defined]  # its stub leaves it out


def start(cpus: int, gpus: int, resources: Mapping[str, float], quiet: bool = False) -> None:
    """Start it and connect this process to it. `resources` are those it has besides cores and GPUs. `quiet`: nothing that its
    processes print comes out here."""
    # Workers find what this process finds: the package where it is not installed, and a notebook's own modules.
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        keep_token(Path.home() / ".ray" / "auth_token")
    # Ray takes a loopback address for a mistake and binds to all devices, unless it is where a cluster is one machine.
    many, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        with our_settings():
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                resources=dict(resources),
                include_dashboard=False,
                # Nothing large passes through it: workers get names and numbers, and load data themselves.
                object_store_memory=128 * 2**20,
                log_to_driver=not quiet,
                logging_level=logging.ERROR if quiet else logging.INFO,
                _node_ip_address="127.0.0.1",
            )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = many


@contextlib.contextmanager
def our_settings() -> Iterator[None]:
    """Around `ray.init`: it uses a token where ours say so, and this process goes on to answer SIGTERM as it did before."""
    # Ray reads its settings when it is imported, which may have been before `ddl.sweeps` made them.
    Config.initialize("")
    # A scheduler that ends a job signals all its processes at once. Ray's own must outlive the driver's orderly stop
    # (it ends them with SIGKILL), so they inherit a mask; SIGINT they mask themselves.
    handler = signal.getsignal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        # Ray has put its own handlers in place of ours: one prints a trace and aborts, the other exits at once.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def keep_token(path: Path) -> None:
    """Where Ray looks for its token there is one, which only its owner can read. Left to itself, Ray lets the umask decide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Whole at once, or a process beside this one reads half a token; never over one that another has just put there.
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
