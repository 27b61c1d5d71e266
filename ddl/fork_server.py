"""Starts worker processes of a private Ray cluster by forking a process that has already imported torch.

A new process imports torch and pandas for seconds. A fork has them at once and shares their memory. Ray starts a worker by running a
script; `fork_client.py` is that script. It asks the fork server for a process, or starts the worker as Ray would if there is none.
"""

import ast
import contextlib
import gc
import importlib
import inspect
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ddl import fork_client
from ddl.python_path import python_path
from ddl.scratch import scratch_folder


@contextlib.contextmanager
def fork_server(modules: Sequence[str]) -> Iterator[Path | None]:
    """Run a fork server that has imported `modules`; yields the script for `ray_private.start`.

    The server is the process of this module's `main`. It ends with this context, or with this process. Yields None on a platform where
    forks of a process with torch are not safe, and if the path of temporary folders is too long for a socket.
    """
    if sys.platform != "linux":
        yield None
        return
    with scratch_folder("fork") as folder:
        path = f"{folder}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.bind(path)
            except OSError:  # at most 107 bytes
                yield None
                return
            listener.listen(socket.SOMAXCONN)  # from now on clients wait until the server has imported everything
            command = [sys.executable, "-P", "-m", "ddl.fork_server", str(listener.fileno()), *modules]
            variables = os.environ | {"PYTHONPATH": python_path()}
            server = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True, env=variables)
        os.environ[fork_client.SOCKET] = path
        try:
            yield Path(fork_client.__file__)
        finally:
            del os.environ[fork_client.SOCKET]
            server.kill()
            server.communicate()


def main() -> None:
    """Import the modules named on the command line, with those that tasks import late, and fork whenever a client asks. Standard input ends with the driver."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    _import_for_training()
    # Ray reads from the environment which worker it is when it is imported, so only a fork may import it.
    if "ray" in sys.modules:
        return
    # Python 3.12 warns of threads: those of OpenBLAS and of Arrow's allocator, which both handle forks. Python has only this one.
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
    gc.freeze()  # a collection in a fork would copy all pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended forks leave no zombies
    if (request := _wait_for_fork(listener)) is not None:
        _run_worker(request)


def _import_for_training() -> None:
    """Import the modules of ddl that the methods of the imported tasks import when they train."""
    tasks = [module for name, module in sys.modules.items() if name.startswith("ddl.tasks.")]
    for node in [node for task in tasks for node in ast.walk(ast.parse(inspect.getsource(task)))]:
        if not (isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ddl.")):
            continue
        if hasattr(importlib.import_module(node.module), "__path__"):
            for submodule in node.names:
                importlib.import_module(f"{node.module}.{submodule.name}")


def _wait_for_fork(listener: socket.socket) -> dict[str, Any] | None:
    """Fork for each client. Returns the client's request in a fork, and None in the server once the driver has ended."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while not any(key.fileobj is sys.stdin for key, _ in selector.select()):
        connection, _ = listener.accept()
        with connection:
            message, files, _, _ = socket.recv_fds(connection, fork_client.LONGEST, fork_client.MOST_FILES)
            if message and not (child := os.fork()):
                selector.close()
                listener.close()
                for number, file in enumerate(files[:3]):
                    os.dup2(file, number)
                    os.close(file)
                request = json.loads(message)
                request["arguments"] += map(str, files[3:])
                return request
            for file in files:
                os.close(file)
            if not message:  # the client has died
                continue
            with contextlib.suppress(BrokenPipeError):
                connection.send(str(child).encode())
    return None


def _run_worker(request: dict[str, Any]) -> None:
    """Run the client's command with its environment, as if this process had been started by it."""
    import numpy  # late: the command imports this module before it has checked its arguments

    os.setpgid(0, 0)  # Ray ends a worker's whole process group
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])
    os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    Path("/proc/self/oom_score_adj").write_text(request["oom_score"])
    os.environ.clear()
    os.environ.update(request["environment"])
    # Python has read PYTHONPATH already; `ray_private.start` puts the folders of the user's code there.
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    os.chdir(request["folder"])
    random.seed()
    numpy.random.seed()
    sys.argv = request["arguments"]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
