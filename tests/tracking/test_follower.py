"""The follower as the sweep sees it: started, listened to, waited for while it gets on."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from ddl.tracking import follower
from ddl.tracking.follower import followed
from tests.tracking.conftest import create, in_ledger, measure, of_history, whole
from tests.tracking.server import Server

ENDED = 1000.0


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def console(screen: io.StringIO) -> Console:
    return Console(file=screen, width=40)


@pytest.mark.parametrize(
    ("words", "heard_at", "until"),
    [
        ("", 900.0, ENDED + 20),  # it is starting
        ("asking", 990.0, 993.0),  # it has asked for 10 s already: no wait
        ("asking", 999.0, 1002.0),
        ("asking taken", 500.0, ENDED + 20),
        ("asking taken", 1015.0, 1035.0),  # it gets on
        ("asking taken asking", 999.0, 1019.0),  # it sends a trial's last rows
        ("asking failed", 999.0, ENDED),  # it would try again later
        ("asking taken asking failed asking", 999.0, 1002.0),
        ("wandb: something of its own", 900.0, ENDED + 20),
    ],
)
def test_the_wait_at_the_end_lasts_while_the_server_takes_what_it_is_sent(
    words: str, heard_at: float, until: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: heard_at)
        heard = follower._Heard(io.StringIO("\n".join(words.split() if "wandb" not in words else [words])))
        heard._thread.join()
        assert heard.patience_until(ENDED) == until


def test_a_server_that_never_answers_is_not_waited_for_and_the_console_says_how_to_publish_later(
    folder: Path, hole: str, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "ANSWERED_WITHIN_S", 0.2)
    with create(folder, trials=1) as ledger, followed(console(screen), folder, "online"):
        (process,) = [child for child in psutil.Process().children() if "--follow" in child.cmdline()]
        assert process.nice() == min(psutil.Process().nice() + follower.NICENESS, 19)
        whole(ledger, "t0")
        ledger.event("trained", "")
    assert not process.is_running()
    assert screen.getvalue() == f"W&B does not have all of this run; publish it later: python launch.py --publish {folder}\n"
    assert "W&B: ended before all was published. Nothing is lost" in (folder / "launch.log").read_text()


def test_a_server_that_answers_gets_everything_before_the_sweep_ends(folder: Path, server: Server, screen: io.StringIO) -> None:
    with create(folder) as ledger, followed(console(screen), folder, "online"):
        whole(ledger, "t0")
        whole(ledger, "t1")
        ledger.event("trained", "")
    sent = {json.loads(run.about["config"])["trial_id"]["value"]: of_history(run.rows) for run in server.runs.values()}
    assert sent == in_ledger(folder)
    assert screen.getvalue() == ""


def test_a_trial_is_begun_at_the_server_before_its_first_row(folder: Path, server: Server, screen: io.StringIO) -> None:
    """So a server that does not answer is known long before the end."""
    with create(folder, trials=1) as ledger, followed(console(screen), folder, "online"):
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
    with subprocess.Popen([sys.executable, "-m", "ddl.tracking.wandb", str(folder), "--follow"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
    assert len(server.runs) == 1
