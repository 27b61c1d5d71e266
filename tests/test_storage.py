"""Runs at a URL: a local folder and a local S3 server."""

import contextlib
import errno
import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer
from rich.console import Console

from ddl import checkpoints
from ddl.claimed_store import claimed_store
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.storage import runs, urls
from ddl.storage.remote_folder import RemoteFolder, Unreachable
from ddl.storage.runs import RunStore
from ddl.storage.trials import TrialStore
from tests.waiting import wait_until

from .ledgers import ReportingLedger

SECRET = "canary0secret"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder at a URL, and a secret in the environment."""
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    if request.param == "file":
        return f"file://{tmp_path}/store"
    endpoint = request.getfixturevalue("server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"b{time.time_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/runs"


def state(step: int) -> dict:
    return {"weights": torch.full((3,), float(step)), "elapsed_s": 1.5 * step}


def stored(folder: Path, url: str, *steps: int) -> TrialStore:
    """A trial that stored these steps and ended."""
    with TrialStore(folder, "trial", url) as made:
        for step in steps:
            made.store(step, state(step))
            made._changed.set()
            while made._uploaded != f"step-{step:09d}" and not made._error:
                time.sleep(0.01)
        made.finish()
    return made


def newest(folder: Path, url: str) -> tuple[int, dict] | None:
    with TrialStore(folder, "trial", url) as made:
        return made.newest()


def test_another_machine_resumes_from_the_newest_checkpoint(url, tmp_path):
    assert newest(tmp_path / "a", url) is None
    assert stored(tmp_path / "a", url, 1, 2, 3).not_uploaded == ""
    step, found = newest(tmp_path / "b", url)
    assert (step, found["elapsed_s"]) == (3, 4.5)
    assert torch.equal(found["weights"], state(3)["weights"])
    assert checkpoints.newest(tmp_path / "b/checkpoints", "trial")[0] == 3, "it is local now"
    there = {name.split("/")[1] for name in RemoteFolder(url).names()}
    assert there == {"step-000000002", "step-000000003"}, "older ones are removed"


def test_the_newest_checkpoint_has_the_largest_step(url, tmp_path):
    assert stored(tmp_path / "a", url, 999_999_999, 1_000_000_000).not_uploaded == ""
    step, _ = newest(tmp_path / "b", url)
    assert step == 1_000_000_000


def test_the_newer_of_here_and_there(url, tmp_path):
    stored(tmp_path / "a", url, 3)
    checkpoints.store(tmp_path / "b/checkpoints", "trial", 5, state(5))
    checkpoints.store(tmp_path / "c/checkpoints", "trial", 2, state(2))
    assert newest(tmp_path / "c", url)[0] == 3
    assert newest(tmp_path / "b", url)[0] == 5


def test_a_damaged_copy_falls_back_to_the_one_before_it(url, tmp_path):
    stored(tmp_path / "a", url, 1, 2)
    RemoteFolder(url).write("checkpoints/step-000000002/state.safetensors", b"half")
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert newest(tmp_path / "b", url)[0] == 1


@pytest.mark.parametrize("broken", ["state.safetensors", "manifest.json"])
def test_a_store_that_fails_while_a_checkpoint_is_copied_keeps_the_one_before(url, tmp_path, monkeypatch, broken):
    stored(tmp_path / "a", url, 1)
    real = RemoteFolder.upload

    def upload(self: RemoteFolder, source: Path, name: str) -> None:
        if name.endswith(f"step-000000002/{broken}"):
            raise Unreachable(f"{self.url}: no space")
        real(self, source, name)

    with monkeypatch.context() as patched:
        patched.setattr(RemoteFolder, "upload", upload)
        made = stored(tmp_path / "a", url, 2)
    assert "no space" in made.not_uploaded
    assert str(tmp_path / "a") in made.not_uploaded
    assert newest(tmp_path / "b", url)[0] == 1
    assert stored(tmp_path / "a", url, 3).not_uploaded == ""
    assert newest(tmp_path / "c", url)[0] == 3
    assert not any("step-000000002" in name for name in RemoteFolder(url).names()), "the half of one is cleared away"


def test_figures_are_uploaded_too(url, tmp_path):
    run = RunStore(tmp_path / "driver", url)
    figures = tmp_path / "a/trials/t1/figures"
    figures.mkdir(parents=True)
    (figures / "digits-001.png").write_bytes(b"PNG")
    stored(tmp_path / "a/trials/t1", f"{url}/trials/t1", 1)
    run.download_figures()
    assert (tmp_path / "driver/trials/t1/figures/digits-001.png").read_bytes() == b"PNG"
    assert not (tmp_path / "driver/trials/t1/checkpoints").exists()


def test_an_unreachable_store_stops_no_trial(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/runs"
    checkpoints.store(tmp_path / "checkpoints", "trial", 1, state(1))
    assert newest(tmp_path, url)[0] == 1
    made = stored(tmp_path, url, 2)
    assert made.not_uploaded.startswith(f"only in {socket.gethostname()}:{tmp_path} (")
    assert checkpoints.newest(tmp_path / "checkpoints", "trial")[0] == 2


# A run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SETTLE_S", 0.0)
    monkeypatch.setattr(runs, "UPLOAD_EVERY_S", 0.05)


@contextlib.contextmanager
def owned(folder: Path, url: str, resumed: bool = False) -> Iterator[RunStore]:
    store = RunStore(folder, url, resumed)
    store.claim()
    with store:
        yield store


def unreachable(self: RemoteFolder, *arguments: object) -> None:
    raise Unreachable("expired credentials")


def begun(folder: Path) -> Ledger:
    folder.mkdir(parents=True)
    return ReportingLedger.create(folder, {"sweep": {"name": "s"}}, [TrialRow("t1", 0, "a", {}, {}, 0), TrialRow("t2", 1, "b", {}, {}, 0)])


def test_a_runs_ledger_and_report_are_copied_while_it_is_written(url, tmp_path):
    with begun(tmp_path / "here") as ledger, owned(tmp_path / "here", url) as run:
        ledger.started("t1", 0, "somewhere")
        ledger.measured("t1", 1, None, 0.1, {"val/loss": 2.5}, {})
        wait_until(lambda: "ledger.sqlite" in RemoteFolder(url).names(), "the ledger copied")
        ledger.ended("t1", "finished")
        (tmp_path / "here/report.html").write_text("the report")
    assert run.not_uploaded == ""
    assert sorted(RemoteFolder(url).names()) == ["ledger.sqlite", "report.html"], "no lease is left"
    with owned(tmp_path / "elsewhere", url) as other:
        other.download_ledgers()
    assert [row.status for row in LedgerReader(tmp_path / "elsewhere").trials()] == ["finished", "planned"]
    assert LedgerReader(tmp_path / "elsewhere").metrics().value.tolist() == [2.5]


def test_the_ledger_that_is_further_wins_and_the_other_is_set_aside(url, tmp_path):
    with begun(tmp_path / "a") as ledger, owned(tmp_path / "a", url):
        ledger.event("one", "")
    with owned(tmp_path / "b", url) as run:
        run.download_ledgers()
        with ReportingLedger(tmp_path / "b") as ledger:
            ledger.event("two", "")
    with owned(tmp_path / "a", url) as run:
        run.download_ledgers()
    assert LedgerReader(tmp_path / "a").events().kind.tolist() == ["one", "two"]
    assert (tmp_path / "a/ledger.sqlite.aside").exists()
    with ReportingLedger(tmp_path / "a") as ledger:
        ledger.event("three", "")
    with owned(tmp_path / "a", url) as run:
        run.download_ledgers()
        assert LedgerReader(tmp_path / "a").events().kind.tolist() == ["one", "two", "three"], "the local one is further"


def test_a_copy_with_more_measurements_is_newer(url, tmp_path):
    with begun(tmp_path / "a") as ledger, owned(tmp_path / "a", url):
        ledger.started("t1", 0, "somewhere")
    with owned(tmp_path / "b", url) as run:
        run.download_ledgers()
    with ReportingLedger(tmp_path / "a") as ledger, owned(tmp_path / "a", url):
        ledger.measured("t1", 1, None, 0.1, {"val/loss": 2.5}, {})
    with owned(tmp_path / "b", url) as run:
        run.download_ledgers()
    assert LedgerReader(tmp_path / "b").metrics().value.tolist() == [2.5]


def test_a_resumed_run_uploads_nothing_before_it_has_the_newer_ledger(url, tmp_path):
    with begun(tmp_path / "a") as ledger, owned(tmp_path / "a", url):
        ledger.event("one", "")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with ReportingLedger(tmp_path / "a") as ledger, owned(tmp_path / "a", url):
        ledger.event("two", "")
    newer = RemoteFolder(url).read("ledger.sqlite")
    with owned(tmp_path / "b", url, resumed=True):
        time.sleep(10 * runs.UPLOAD_EVERY_S)  # interrupted during the download
    assert RemoteFolder(url).read("ledger.sqlite") == newer


def test_uploads_continue_after_an_error_of_this_machine(url, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with begun(tmp_path / "a") as ledger, owned(tmp_path / "a", url) as run:
        with monkeypatch.context() as patched:
            patched.setattr(runs.tempfile, "TemporaryDirectory", full)
            wait_until(lambda: "No space left" in run.not_uploaded, "the error")
        ledger.event("one", "")
    assert run.not_uploaded == ""
    assert "ledger.sqlite" in RemoteFolder(url).names()


def test_a_run_that_is_interrupted_says_that_it_could_not_be_uploaded(tmp_path, monkeypatch, capsys):
    store = RunStore(tmp_path / "a", f"file://{tmp_path}/store")

    def interrupted_run():
        with claimed_store(Console(), store):
            monkeypatch.setattr(RemoteFolder, "read", unreachable)
            raise KeyboardInterrupt

    with begun(tmp_path / "a"), pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert "not uploaded: expired credentials" in capsys.readouterr().out


def test_a_second_interruption_during_the_last_upload_leaves_no_lease(url, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "_upload_until_end", lambda self: None)  # it would renew the lease at any moment
    first = RunStore(tmp_path / "first", url)
    first.claim()
    with first:
        monkeypatch.setattr(first._thread, "join", interrupt)
    assert "interrupted during the last upload" in first.not_uploaded
    assert "lease.json" not in RemoteFolder(url).names()
    RunStore(tmp_path / "second", url).claim()


def test_files_at_an_unreachable_store_are_not_removed_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(RemoteFolder, "names", unreachable)
    with pytest.raises(ValueError, match=r"expired credentials\. The trials' files there cannot be removed now\."):
        RunStore(tmp_path, f"file://{tmp_path}/store").remove_trials(["t1"])


def test_one_driver_at_a_time(url, tmp_path):
    second = pytest.raises(ValueError, match=r"another driver, on .*, owns this run")
    with begun(tmp_path / "a"), owned(tmp_path / "a", url), second, owned(tmp_path / "b", url):
        pass
    with owned(tmp_path / "b", url):
        pass


def test_a_driver_that_is_interrupted_while_it_claims_a_run_leaves_no_lease(url, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    first = RunStore(tmp_path / "first", url)
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            first.claim()
    RunStore(tmp_path / "second", url).claim()


def test_a_lease_that_is_not_renewed_expires(url, tmp_path):
    lease = {"owner": "gone", "host": "h", "at": time.time() - runs.LEASE_S - 1}
    RemoteFolder(url).write("lease.json", json.dumps(lease).encode())
    with owned(tmp_path, url):
        pass
    RemoteFolder(url).write("lease.json", b'{"own')
    with owned(tmp_path, url):
        pass


def test_a_driver_that_lost_the_run_stops_uploading(url, tmp_path):
    with begun(tmp_path / "a") as ledger:
        with owned(tmp_path / "a", url) as run:
            other = {"owner": "another", "host": "h", "at": time.time()}
            monkey = RemoteFolder(url)
            for _ in range(50):  # it may be renewing just now
                monkey.write("lease.json", json.dumps(other).encode())
                time.sleep(0.02)
            before = monkey.read("ledger.sqlite")
            ledger.event("late", "")
        assert "another driver, on h, owns this run" in run.not_uploaded
    assert monkey.read("ledger.sqlite") == before


def test_there_is_no_run_to_resume(url, tmp_path):
    with owned(tmp_path, url) as run, pytest.raises(ValueError, match=r"no ledger\.sqlite in it, so it is not a run"):
        run.download_ledgers()


# The URL


CREDENTIALS = "must not contain a user, a password or options. Set credentials in the environment"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"s3://me:{SECRET}@bucket/runs", f"s3://(withheld)@bucket/runs: {CREDENTIALS}"),
        (f"s3://{SECRET}@bucket/runs", f"s3://(withheld)@bucket/runs: {CREDENTIALS}"),
        (f"s3://me:a/{SECRET}@bucket/runs", f"s3://(withheld)@bucket/runs: {CREDENTIALS}"),  # a key of Amazon's may have a slash
        (f"s3://me:{SECRET}?@bucket/runs", f"s3://(withheld)@bucket/runs: {CREDENTIALS}"),
        (f"s3://me:{SECRET}@bucket\u2100/runs", f"s3://(withheld)@bucket\u2100/runs: {CREDENTIALS}"),  # urllib's error would have it
        (f"s3://bucket/runs?key={SECRET}", f"s3://bucket/runs: {CREDENTIALS}"),
        (f"simplecache::s3://me:{SECRET}@bucket/runs", f"simplecache::s3://(withheld)@bucket/runs: {CREDENTIALS}"),
        (f"s3://me:{SECRET}@bucket::https://me:{SECRET}@host/x", f"s3://(withheld)@host/x: {CREDENTIALS}"),
        (f"s3://bucket/https://me:{SECRET}@host/x", f"s3://(withheld)@host/x: {CREDENTIALS}"),
        (f"nonsense://me:{SECRET}@bucket/runs", f"nonsense://(withheld)@bucket/runs: {CREDENTIALS}"),
        ("simplecache::s3://bucket/runs", f"simplecache::s3://bucket/runs: {CREDENTIALS}"),
        ("nonsense://bucket/runs", "nonsense://bucket/runs: not a usable store"),
        ("ftp://nosuch.invalid/runs", "ftp://nosuch.invalid/runs: not a usable store"),  # whose client would connect
    ],
)
def test_a_url_with_a_secret_or_without_a_store_is_refused(url, said):
    message = urls.url_problem(url)
    assert message.startswith(said)
    assert SECRET not in message


def test_a_url_and_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DDL_CACHE", str(tmp_path))
    assert urls.url_problem("s3://bucket/runs") == urls.url_problem("file:///mnt/me@host/10:30") == ""
    assert urls.is_url("s3://bucket/runs")
    assert not urls.is_url("runs/a")
    assert urls.local_folder("s3://bucket/runs") == urls.local_folder("s3://bucket/runs/") != urls.local_folder("s3://bucket/other")
    assert urls.local_run("s3://bucket/runs/mnist/2026-01-01-000000") == urls.local_folder("s3://bucket/runs") / "mnist/2026-01-01-000000"


def test_no_secret_is_uploaded(url, tmp_path):
    with begun(tmp_path / "a"), owned(tmp_path / "a", url):
        stored(tmp_path / "a/trials/t1", f"{url}/trials/t1", 1)
        wait_until(lambda: "ledger.sqlite" in RemoteFolder(url).names(), "the ledger copied")
        uploaded = {name: RemoteFolder(url).read(name) or b"" for name in RemoteFolder(url).names()}
    assert {"lease.json", "ledger.sqlite", "trials/t1/checkpoints/step-000000001/manifest.json"} <= uploaded.keys()
    here = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not [name for name, content in (uploaded | here).items() if SECRET.encode() in content]


def test_a_copy_of_the_ledger_is_whole_though_a_transaction_is_open(url, tmp_path):
    with begun(tmp_path / "a") as ledger:
        ledger._db.execute("BEGIN IMMEDIATE")
        ledger._db.execute("INSERT INTO events (at, kind, detail) VALUES (0, 'half', '')")
        with owned(tmp_path / "a", url):
            time.sleep(0.2)
        ledger._db.rollback()
    (tmp_path / "check").mkdir()
    RemoteFolder(url).download("ledger.sqlite", tmp_path / "check/ledger.sqlite")
    assert LedgerReader(tmp_path / "check").events().empty
