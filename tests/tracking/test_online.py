"""Publishing to a server, here one on the loopback that keeps every row it is sent."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ddl.tracking import connection
from ddl.tracking import follow as following_module
from ddl.tracking.follow import follow
from ddl.tracking.publish import publish
from tests.tracking.conftest import KEY, create, in_ledger, measure, of_history, picture, whole
from tests.tracking.server import Held, Server, serving
from tests.waiting import HANG_S, wait_until

from ..ledgers import ReportingLedger

SECRET = "canary-secret-77aa31"


def held(server: Server) -> dict[str, Held]:
    """By trial."""
    return {json.loads(run.about["config"])["trial_id"]["value"]: run for run in server.runs.values()}


def assert_once(folder: Path, server: Server, trials: set[str]) -> dict[str, Held]:
    runs, rows = held(server), in_ledger(folder)
    assert set(runs) == trials
    for trial_id, run in runs.items():
        assert of_history(run.rows) == rows[trial_id]
        assert [row["_step"] for row in run.rows] == sorted({step for step, _, _ in rows[trial_id]})
    return runs


@contextmanager
def following(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The process that a driver starts."""
    command = [sys.executable, "-m", "ddl.tracking", str(folder), "--follow"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_whatever_is_published_again_each_row_is_sent_once(folder: Path, server: Server) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
        ledger.started("t1", 0, "somewhere cpu")
        measure(ledger, "t1", range(4))
    picture(folder, "t0")
    done = publish(folder)
    assert (done.mode, done.trials, done.changed, done.rows) == ("online", 2, 2, 6)  # the newest row may still grow
    assert (held(server)["t1"].exit_code, held(server)["t1"].summary["status"]) == (1, "running")

    assert publish(folder).rows == 0

    with ReportingLedger(folder) as ledger:
        ledger.started("t1", 20, "elsewhere cpu")
        measure(ledger, "t1", range(3, 6))
        ledger.measured("t1", 50, 5, 9.0, {"time/train_s": 9.0}, {})
        ledger.ended("t1", "finished")
    assert publish(folder).rows == 3

    runs = assert_once(folder, server, {"t0", "t1"})
    assert runs["t0"].about["groupName"] == "augmentation 2026-03-01-093000"
    assert runs["t0"].about["displayName"] == "strength 0, seed 7 [SAMPLE DATA]"
    assert (runs["t1"].exit_code, runs["t1"].summary["status"], runs["t1"].summary["attempts"]) == (0, "finished", 2)
    assert len([name for name in runs["t0"].files if name.endswith(".png")]) == 1


def test_no_secret_and_no_place_reaches_the_server(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    metadata = {"cache": "/srv/canary-place/x.bin", "said": f"with {SECRET}"}
    with create(folder, command="python /srv/canary-place/launch.py", diff=SECRET) as ledger:
        whole(ledger, "t0", metadata=metadata, status="failed", reason=f"no file {folder}/canary-file with {SECRET}")
    publish(folder)
    (run,) = held(server).values()
    assert (run.exit_code, run.summary["reason"]) == (1, "no file (path) with (withheld)")
    sent = b"\n".join(server.received)
    assert b"canary" not in sent
    assert KEY.encode() not in sent
    for unwanted in (str(folder), sys.executable, "pytest", os.getcwd()):
        assert unwanted.encode() not in sent


def test_a_sweep_is_followed_live_and_over_a_retry(folder: Path, server: Server) -> None:
    with create(folder) as ledger, following(folder) as process:
        ledger.started("t0", 0, "somewhere cpu")
        measure(ledger, "t0", range(3))
        wait_until(
            lambda: server.runs and len(held(server)["t0"].rows) == 2, "two rows sent"
        )  # live, but for the newest row; W&B's client sends every 15 s
        assert held(server)["t0"].exit_code is None
        ledger.started("t0", 10, "elsewhere cpu")  # its process was lost
        measure(ledger, "t0", range(2, 4))
        ledger.measured("t0", 30, 3, 5.0, {"time/train_s": 5.0}, {})
        ledger.ended("t0", "finished")
        ledger.started("t1", 0, "somewhere cpu")
        measure(ledger, "t1", range(2))
        wait_until(lambda: len(held(server)) == 2, "the second run")
        ledger.interrupted()
        assert process.wait(HANG_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    cut_off = held(server)["t1"]
    assert (cut_off.exit_code, cut_off.summary["status"], len(cut_off.rows)) == (1, "interrupted", 1)

    with ReportingLedger(folder) as ledger:  # resumed
        ledger.event("resumed", "")
        begun = held(server)["t0"].begun
        ledger.started("t1", 0, "somewhere cpu")
        measure(ledger, "t1", range(3))
        ledger.ended("t1", "finished")
        ledger.event("trained", "")
    follow(folder)
    runs = assert_once(folder, server, {"t0", "t1"})
    assert [run.exit_code for run in runs.values()] == [0, 0]
    assert runs["t0"].begun == begun  # it was sent whole, so nobody asks about it again
    assert not (folder / "wandb/.draft").exists()


def test_without_its_driver_a_follower_ends(folder: Path, server: Server) -> None:
    with create(folder, trials=1) as ledger:
        ledger.started("t0", 0, "somewhere cpu")
        measure(ledger, "t0", range(3))
    command = f"{sys.executable} -m ddl.tracking '{folder}' --follow & echo $!; wait"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            follower = psutil.Process(int(driver.stdout.readline()))
            wait_until(lambda: server.runs, "a run")
            processes = [follower, *follower.children(recursive=True)]
            assert len(processes) > 1
        finally:
            driver.kill()
    _, alive = psutil.wait_procs(processes, timeout=HANG_S)
    assert not alive
    assert (held(server)["t0"].exit_code, held(server)["t0"].summary["status"]) == (1, "interrupted")


def test_a_follower_that_is_ended_says_so_at_once(folder: Path, hole: str) -> None:
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    with following(folder) as process:
        child = psutil.Process(process.pid)
        wait_until(child.children, "a process of W&B's client")
        time.sleep(1.0)  # it waits for the server
        process.terminate()
        assert process.wait(connection.INIT_S - 3) == 1, "it does not wait for the server first"
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
    assert line.startswith("W&B: stopped before everything was published. Nothing is lost")


def test_a_server_that_never_answers_is_given_up_in_time(
    folder: Path, hole: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "INIT_S", 1.0)
    monkeypatch.setattr(following_module, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(following_module, "FAILURES", 2)
    monkeypatch.setattr(following_module, "POLL_S", 0.1)
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")

    with pytest.raises(ValueError, match=rf"^W&B at {hole}: .*Nothing is lost.*--publish") as raised:
        publish(folder)
    assert len(str(raised.value).splitlines()) == 1

    follow(folder)  # whose driver goes on, as far as the ledger says
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert "Trying again in 0 s; the sweep continues." in said[0]
    assert said[1].startswith(f"W&B at {hole}: ")
    assert "Nothing is lost" in said[1]
    assert not [child for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]


def test_a_server_that_comes_back_gets_everything(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(connection, "INIT_S", 1.0)
    monkeypatch.setattr(following_module, "FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr(following_module, "POLL_S", 0.1)
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    follower = threading.Thread(target=follow, args=(folder,))
    follower.start()
    wait_until(lambda: "Trying again" in capfd.readouterr().err, "a second try")
    with serving(port) as server:
        wait_until(lambda: server.runs and held(server)["t0"].exit_code == 0, "the run whole")
        with ReportingLedger(folder) as ledger:
            ledger.event("trained", "")
        follower.join(HANG_S)
        assert not follower.is_alive()
        assert_once(folder, server, {"t0"})


def test_a_server_that_falls_silent_is_given_up_in_time_and_no_row_is_sent_twice(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FINISH_S", 1.0)
    monkeypatch.setattr(connection, "INIT_S", 5.0)
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    silent = threading.Event()
    silent.set()
    stream = Server.stream

    def stalled(self: Server, *arguments: object) -> None:
        while silent.is_set():
            time.sleep(0.05)
        stream(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Server, "stream", stalled)
        with pytest.raises(ValueError, match="Nothing is lost"):
            publish(folder)
        silent.clear()
    publish(folder)
    assert_once(folder, server, {"t0"})


def test_a_trial_that_the_server_refuses_costs_only_itself(folder: Path, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    with create(folder, trials=3) as ledger:
        for trial_id in ("t0", "t1", "t2"):
            whole(ledger, trial_id)
        ledger.event("trained", "")
    server.deleted.add("t1")
    assert not follow(folder)
    assert set(held(server)) == {"t0", "t2"}
    assert "W&B does not take trial t1 (strength 1 seed 7): " in capfd.readouterr().err
    with pytest.raises(ValueError, match=r"(?s)does not take trial t1 .*previously created and deleted.*W&B has the other 2 trials\."):
        publish(folder)
    server.deleted.clear()
    assert publish(folder).rows == 3
    assert_once(folder, server, {"t0", "t1", "t2"})


def test_a_driver_that_died_before_its_follower_began_is_noticed(folder: Path, server: Server) -> None:
    with create(folder, trials=1) as ledger:
        ledger.started("t0", 0, "somewhere cpu")
        measure(ledger, "t0", range(3))
    with subprocess.Popen(["true"]) as driver:
        pass
    follower = subprocess.run([sys.executable, "-m", "ddl.tracking", str(folder), "--follow", "--driver", str(driver.pid)], timeout=HANG_S)
    assert follower.returncode == 0
    assert held(server)["t0"].summary["status"] == "interrupted"
