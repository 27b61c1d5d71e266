"""The script that Ray runs to start a worker, instead of its own `setup_worker.py`: asks the fork server for a process.

It imports the standard library only, since each worker waits for it.
"""

import argparse
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

SOCKET = "DDL_FORK_SERVER"
"""Environment variable with the path of the fork server's socket."""

LONGEST = 2**20
"""Bytes of the longest request."""

MOST_FILES = 8
"""Most descriptors of a request: those of standard input, output and error, and some more."""


def main() -> None:
    """Start the worker whose command line this process has, as a fork or, without a fork server, as Ray would."""
    # Ray puts these options before the worker's own command line. Only variables of a runtime environment can be given to a fork.
    parser = argparse.ArgumentParser()
    parser.add_argument("--language")
    parser.add_argument("--serialized-runtime-env-context", type=json.loads, default={}, dest="context")
    options, command = parser.parse_known_args()
    variables = options.context.pop("env_vars", {})
    only_variables = options.context.pop("py_executable", sys.executable) == sys.executable and not any(options.context.values())
    if only_variables and command[0].endswith(".py") and fork(command, variables):
        return
    ray = find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    setup = Path(ray.origin).parent / "_private/workers/setup_worker.py"
    os.execv(sys.executable, [sys.executable, str(setup), *sys.argv[1:]])


def fork(command: list[str], variables: Mapping[str, str], files: Sequence[int] = ()) -> int:
    """Have the fork server run `command` in a fork, with this process's environment, folder, files, signal mask and priorities.

    The first word of the command is a script. `variables` are added to the environment. `files` are descriptors that are passed on; what
    they are in the fork is added to the end of the command. Returns the fork's process id, 0 if there is none.
    """
    if SOCKET not in os.environ:
        return 0
    request = {
        "arguments": command,
        "environment": os.environ | {name: os.path.expandvars(value) for name, value in variables.items()},
        "folder": os.getcwd(),
        "mask": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": Path("/proc/self/oom_score_adj").read_text(),
    }
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.connect(os.environ[SOCKET])
            socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2, *files])
            return int(server.recv(LONGEST) or 0)
    except OSError:
        return 0


if __name__ == "__main__":
    main()
