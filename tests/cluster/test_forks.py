"""Workers of a private cluster are forks of one process that has imported torch, and work without it too."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sweeps.command import ROOT
from tests.waiting import HANG_S, wait_until

LOOK = """
import json, os, sys, psutil
from ddl.fork_server import fork_server
from ddl import ray_private
with fork_server(["torch._dynamo", "ddl.tasks.classification"]) as script, ray_private.session_folder() as folder:
    import ray

    def look():
        had = "torch._dynamo" in sys.modules, "ddl.tasks.classification" in sys.modules, "ddl.models.cnn" in sys.modules
        import random, signal, numpy, torch
        me = psutil.Process()
        return {
            "had": had, "parent": me.ppid(), "nice": me.nice(), "group": os.getpgid(0) == me.pid, "numbers": [random.random(), numpy.random.rand()],
            "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "place": os.getcwd(), "variable": os.environ.get("OURS"),
            "oom": open("/proc/self/oom_score_adj").read(), "threads": torch.get_num_threads(), "children": signal.getsignal(signal.SIGCHLD).name,
            "product": (torch.ones(300, 300) @ torch.ones(300, 300)).sum().item(),
        }

    @ray.remote
    class Looker:
        def look(self):
            return look()

    def lookers(count, **options):
        actors = [Looker.options(**options).remote() for _ in range(count)]
        return [ray.get(actor.look.remote()) for actor in actors]

    ray_private.start(folder, 4, 0, {}, setup_worker=script)
    servers = [p for p in psutil.Process().children() if "ddl.fork_server" in p.cmdline()]
    found = {"servers": [p.pid for p in servers], "workers": lookers(2 if servers else 1)}
    if servers:
        found["with"] = lookers(1, runtime_env={"env_vars": {"OURS": "yes ${HOME}"}})
        servers[0].kill()
        servers[0].wait()
        found["alone"] = lookers(1)
    ray_private.stop()
print(json.dumps(found | {"folders": script and script.is_file() and os.listdir(os.environ["TMPDIR"])}))
"""


def look(folder: Path, temporary: Path) -> dict[str, Any]:
    temporary.mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # Ray's own sockets need a short path, too
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "RAY_TMPDIR": short, "HOME": str(folder)}
        done = subprocess.run([sys.executable, "-c", LOOK], env=environment, cwd=folder, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux only")
def test_a_worker_is_a_fork_that_differs_from_a_process_of_its_own_only_in_what_it_has_imported(tmp_path: Path) -> None:
    found = look(tmp_path, tmp_path / "t")
    (server,) = found["servers"]
    fork, other, variables, alone = *found["workers"], *found["with"], *found["alone"]
    assert {fork["parent"], other["parent"], variables["parent"]} == {server}
    assert fork["had"] == [True, True, True]
    assert variables["variable"] == f"yes {tmp_path}"
    assert all(a != b for a, b in zip(fork["numbers"], other["numbers"], strict=True)), "each draws its own random numbers"
    assert alone["parent"] != server, "a cluster outlives its fork server"
    assert alone["had"] == [False, False, False]
    differ = ("parent", "had", "numbers", "threads")  # ddl sets the number of torch's threads in each worker
    assert {k: v for k, v in fork.items() if k not in differ} == {k: v for k, v in alone.items() if k not in differ}
    assert not [name for name in found["folders"] if name.startswith("ddl-")], "nothing is left in the folder for temporary files"


def test_workers_start_by_themselves_where_a_socket_has_no_place(tmp_path: Path) -> None:
    found = look(tmp_path, tmp_path / ("long" * 25))
    assert found["servers"] == []
    assert found["workers"][0]["had"] == [False, False, False]


@pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux only")
def test_the_server_ends_with_its_driver(tmp_path: Path) -> None:
    code = "import time\nfrom ddl.fork_server import fork_server\nwith fork_server([]):\n    print(flush=True)\n    time.sleep(600)"
    driver = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    (server,) = psutil.Process(driver.pid).children()
    driver.kill()
    driver.communicate()
    wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "the server ended")


def test_another_checkout_than_the_installed_one_times_its_own_code(tmp_path: Path) -> None:
    for name in ("ddl", "tune_configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "launch.py", tmp_path)
    with (tmp_path / "ddl" / "models" / "cnn.py").open("a") as file:
        file.write("\n\ndef _refuse(*arguments):\n    raise ValueError('the code of the copy')\n\n\nConvNet.__init__ = _refuse\n")
    command = [sys.executable, "launch.py", "--sweep", "augmentation", "--scale", "smoke", "--plan", "task.precision=fp32"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert "the code of the copy" in done.stdout + done.stderr
