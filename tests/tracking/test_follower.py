"""The follower as the sweep sees it: started, listened to, waited for while it gets on."""

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

from ddl.tracking import follower
from ddl.tracking.follower import publish_live
from tests.tracking.conftest import create, in_ledger, measure, of_history, whole
from tests.tracking.server import Server

ENDED = 1000.0


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def console(screen: io.StringIO) -> Console:
    return Console(file=screen, width=40)


@pytest.mark.parametrize(
    ("told", "until"),
    [
        ("", ENDED + 20),  # it is starting
        ("990 asking", 993),  # for 10 s already: no wait
        ("999 asking", 1002),
        ("490 asking, 500 taken", ENDED + 20),
        ("490 asking, 1015 taken", 1035),  # it gets on
        ("490 asking, 500 taken, 999 asking", 1019),  # it sends a trial's last rows
        ("500 asking, 999 failed", ENDED),  # it would try again later
        ("500 asking, 515 failed, 999 asking", 503),  # it has not answered the attempt before either
        ("500 asking, 501 taken, 998 asking, 998 failed, 999 asking", 1001),
        ("500 asking, 515 failed, 999 asking, 1001 taken", 1021),
        ("999 something of W&B's own", ENDED + 20),
    ],
)
def test_the_wait_at_the_end_lasts_while_the_server_takes_what_it_is_sent(told: str, until: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 400.0

    def lines() -> Iterator[str]:
        nonlocal now
        for line in filter(None, told.split(", ")):
            at, _, word = line.partition(" ")
            now = float(at)
            yield f"{word}\n"

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        heard = follower._Heard(contextlib.nullcontext(lines()))  # type: ignore[arg-type]
        heard._thread.join()
        assert heard.patience_until(ENDED) == until


def test_a_server_that_never_answers_is_not_waited_for_and_the_console_says_how_to_publish_later(
    folder: Path, hole: str, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "ANSWERED_WITHIN_S", 0.2)
    with create(folder, trials=1) as ledger, publish_live(console(screen), folder, "online"):
        (process,) = [child for child in psutil.Process().children() if "--follow" in child.cmdline()]
        assert process.nice() == min(psutil.Process().nice() + follower.NICENESS, 19)
        whole(ledger, "t0")
        ledger.event("trained", "")
    assert not process.is_running()
    assert screen.getvalue() == f"W&B does not have all of this run; publish it later: python launch.py --publish {folder}\n"
    assert "W&B: ended before all was published. Nothing is lost" in (folder / "launch.log").read_text()


def test_a_server_that_answers_gets_everything_before_the_sweep_ends(folder: Path, server: Server, screen: io.StringIO) -> None:
    with create(folder) as ledger, publish_live(console(screen), folder, "online"):
        whole(ledger, "t0")
        whole(ledger, "t1")
        ledger.event("trained", "")
    sent = {json.loads(run.about["config"])["trial_id"]["value"]: of_history(run.rows) for run in server.runs.values()}
    assert sent == in_ledger(folder)
    assert screen.getvalue() == ""


def test_a_trial_is_begun_at_the_server_before_its_first_row(folder: Path, server: Server, screen: io.StringIO) -> None:
    """So a server that does not answer is known long before the end."""
    with create(folder, trials=1) as ledger, publish_live(console(screen), folder, "online"):
        ledger.started("t0", 0, "somewhere cpu")
        measure(ledger, "t0", [0])
        end = time.monotonic() + 30
        while not server.runs:
            assert time.monotonic() < end
            time.sleep(0.05)
        (run,) = server.runs.values()
        assert (run.about["displayName"], run.rows) == ("strength 0, seed 7 [SAMPLE DATA]", [])
        measure(ledger, "t0", [1, 2])
        ledger.measured("t0", 20, 2, 3.0, {"time/train_s": 3.0}, {})
        ledger.ended("t0", "finished")
        ledger.event("trained", "")
    assert of_history(run.rows) == in_ledger(folder)["t0"]
    assert run.begun == 1


def test_without_anybody_listening_a_follower_goes_on(folder: Path, server: Server) -> None:
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
        ledger.event("trained", "")
    with subprocess.Popen([sys.executable, "-m", "ddl.tracking.publish", str(folder), "--follow"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
    assert len(server.runs) == 1
