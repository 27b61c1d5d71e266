"""The driver's side of the follower process: starting it, reading its status, waiting for it."""

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from ddl.tracking import follower_process
from ddl.tracking.follower_process import publish_live
from tests.tracking.conftest import create, in_ledger, measure, of_history, whole
from tests.tracking.server import Server
from tests.waiting import HANG_S, wait_until

ENDED = 1000.0


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def console(screen: io.StringIO) -> Console:
    return Console(file=screen, width=40)


@pytest.mark.parametrize(
    ("status", "until"),
    [
        ("", ENDED + 20),  # it is starting
        ("990 waiting", 993),  # waiting for 10 s already: no further wait
        ("999 waiting", 1002),
        ("490 waiting, 500 accepted", ENDED + 20),
        ("490 waiting, 1015 accepted", 1035),  # the server still accepts data
        ("490 waiting, 500 accepted, 999 waiting", 1019),  # it sends a trial's last rows
        ("500 waiting, 999 failed", ENDED),  # it would try again later
        ("500 waiting, 515 failed, 999 waiting", 503),  # the previous attempt was not answered either
        ("500 waiting, 501 accepted, 998 waiting, 998 failed, 999 waiting", 1001),
        ("500 waiting, 515 failed, 999 waiting, 1001 accepted", 1021),
        ("999 something of W&B's own", ENDED + 20),
    ],
)
def test_the_wait_at_the_end_lasts_while_the_server_accepts_data(status: str, until: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 400.0

    def lines() -> Iterator[str]:
        nonlocal now
        for line in filter(None, status.split(", ")):
            at, _, word = line.partition(" ")
            now = float(at)
            yield f"{word}\n"

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        reader = follower_process.StatusReader(contextlib.nullcontext(lines()))  # type: ignore[arg-type]
        reader._thread.join()
        assert reader.deadline(ENDED) == until


def test_a_server_that_never_answers_is_not_waited_for_and_the_console_says_how_to_publish_later(
    folder: Path, hole: str, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_process, "FIRST_ANSWER_S", 0.2)
    with create(folder, trials=1) as ledger, publish_live(console(screen), folder, "online"):
        living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
        (process,) = [child for child in living if "--follow" in child.cmdline()]
        assert process.nice() == min(psutil.Process().nice() + follower_process.NICENESS, 19)
        whole(ledger, "t0")
        ledger.event("trained", "")
    assert not process.is_running()
    assert screen.getvalue() == f"W&B does not have all of this run. Publish it later: python launch.py --publish {folder}\n"
    assert "W&B: stopped before everything was published. Nothing is lost" in (folder / "launch.log").read_text()


def test_a_server_that_answers_gets_everything_before_the_sweep_ends(folder: Path, server: Server, screen: io.StringIO) -> None:
    with create(folder) as ledger, publish_live(console(screen), folder, "online"):
        whole(ledger, "t0")
        whole(ledger, "t1")
        ledger.event("trained", "")
    sent = {json.loads(run.about["config"])["trial_id"]["value"]: of_history(run.rows) for run in server.runs.values()}
    assert sent == in_ledger(folder)
    assert screen.getvalue() == ""


def test_a_trial_is_begun_at_the_server_before_its_first_row(folder: Path, server: Server, screen: io.StringIO) -> None:
    """A server that does not answer is then detected long before the end."""
    with create(folder, trials=1) as ledger, publish_live(console(screen), folder, "online"):
        ledger.started("t0", 0, "somewhere cpu")
        measure(ledger, "t0", [0])
        wait_until(lambda: server.runs, "a run")
        (run,) = server.runs.values()
        assert (run.about["displayName"], run.rows) == ("strength 0, seed 7 [SAMPLE DATA]", [])
        measure(ledger, "t0", [1, 2])
        ledger.measured("t0", 20, 2, 3.0, {"time/train_s": 3.0}, {})
        ledger.ended("t0", "finished")
        ledger.event("trained", "")
    assert of_history(run.rows) == in_ledger(folder)["t0"]
    assert run.begun == 1


def test_a_follower_continues_after_its_status_pipe_is_closed(folder: Path, server: Server) -> None:
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
        ledger.event("trained", "")
    with subprocess.Popen([sys.executable, "-m", "ddl.tracking", str(folder), "--follow"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(HANG_S) == 0
    assert len(server.runs) == 1
