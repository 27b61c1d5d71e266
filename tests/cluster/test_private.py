"""The private Ray that a sweep starts: nobody else can connect to it."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddl.ray_private import keep_token
from tests.sweeps.command import ROOT
from tests.waiting import HANG_S

LOOK = """
import ray  # before ddl says how it wants it, as a notebook might
import contextlib, json, os, psutil
from pathlib import Path
import ddl.sweeps  # whose settings these are
from ddl import ray_private

contexts = contextlib.ExitStack()
folder = contexts.enter_context(ray_private.session_folder())
ray_private.start(folder, 1, 0, {})
ray.get(ray.remote(lambda: None).remote())
started = psutil.Process().children(recursive=True)
sockets = [s.laddr.ip for p in started for s in p.net_connections("tcp") if s.status == "LISTEN"]
commands = [" ".join(p.cmdline()) for p in started]
token = Path.home() / ".ray" / "auth_token"
print(json.dumps({"services": [c for c in commands if "dashboard/dashboard.py" in c or "autoscaler" in c], "listening": sockets, "mode": oct(token.stat().st_mode & 0o777), "folder": [oct(folder.stat().st_mode & 0o777), any(folder.glob("r/session_2*"))], "mask": oct(os.umask(0))}))
"""


def test_it_listens_to_this_machine_alone_and_keeps_its_token_to_its_owner(tmp_path: Path) -> None:
    # A token that Ray itself wrote earlier, and the address of another cluster, which must be ignored.
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("ab" * 32)
    token.chmod(0o644)
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:9"}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", LOOK], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["listening"]) >= 3, "the store, the node and a worker"
    assert {address.removeprefix("::ffff:") for address in found["listening"]} == {"127.0.0.1"}
    assert found["services"] == [], "a cluster that only the sweep uses needs no dashboard and never grows"
    assert found["mode"] == "0o600"
    assert found["folder"] == ["0o700", True], "nobody else reads the cluster's files"
    assert token.read_text() == "ab" * 32, "others may already use it"


def test_a_token_is_made_once_and_read_whole(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"

    def read(_: int) -> str:
        keep_token(path)
        return path.read_text()

    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(read, range(64)))
    assert len(tokens) == 1
    assert len(tokens.pop()) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["auth_token"]
