"""Timing probes in real processes of this machine: forks of a fork server, and processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from ddl.fork_client import SOCKET
from ddl.fork_server import fork_server
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.executor_died import ExecutorDied
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.local_probe import DIED, probe_on_this_machine, process_variables
from ddl.sweeps.pack import Pack
from ddl.sweeps.private_executor import PrivateExecutor
from ddl.sweeps.probe_limits import repeat_if_died
from tests.waiting import wait_until

from .command import PLUGIN, ROOT


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))


@pytest.fixture(scope="module", autouse=True)
def forks() -> Iterator[None]:
    """One fork server for all tests."""
    with fork_server(["torch"]):
        yield


@pytest.fixture(params=["fork", "process"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fork server, and without."""
    if request.param == "process":
        monkeypatch.delenv(SOCKET)


def pack(folder: Path, deed: str = "", seed: int = 0, gpus: float = 0.0, precision: str = "auto", cpus: int = 1) -> Pack:
    from probed import Probed

    task = Probed(seed=seed, deed=deed, steps=20, marks=str(folder), precision=precision)
    return Pack((Assignment(f"{seed:012d}", task, 1, cpus, gpus, folder, 1e9),))


def probe(packs: list[Pack], precisions: list[str] | None, before_timing: Callable[[], None] = lambda: None, gpus: tuple[str, ...] = ()):
    together = partial(probe_on_this_machine, window_s=0.0, stall_s=5.0, gpus=gpus, before_timing=before_timing)
    return repeat_if_died(packs, precisions, together)


def started(folder: Path, step: int) -> dict[int, float]:
    """When each seed's trial took this step."""
    return {int(path.stem.split("-")[0]): float(path.read_text().split()[0]) for path in folder.glob(f"*-{step}.step")}


def process_ids(folder: Path) -> set[int]:
    return {int(path.name.split()[1]) for path in folder.glob("* *")}


@pytest.mark.usefixtures("server")
def test_each_trial_is_timed_in_a_process_of_its_own_that_ends_with_the_probe(tmp_path):
    timings = probe([pack(tmp_path, seed=seed, cpus=2) for seed in (0, 1)], ["fp32"])
    assert [[one.precision for one in each.probes] for each in timings] == [["fp32"], ["fp32"]]
    assert len(process_ids(tmp_path)) == 2
    assert os.getpid() not in process_ids(tmp_path)
    assert next(tmp_path.glob("*.step")).read_text().split()[1] == "2"
    wait_until(lambda: not any(running(pid) for pid in process_ids(tmp_path)), "the processes ended")


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_timed_steps_begin_together_when_what_must_come_first_is_over(tmp_path):
    over: list[float] = []

    def wait() -> None:
        assert not over
        assert started(tmp_path, 0).keys() == {0, 1}, "both have made their first steps"
        time.sleep(1)
        over.append(time.time())

    probe([pack(tmp_path, seed=seed) for seed in (0, 1)], ["fp32"], wait)
    last = started(tmp_path, 7)
    assert last.keys() == {0, 1}
    assert min(last.values()) > over[0]


def test_a_trial_that_ends_before_its_timed_steps_is_not_waited_for(tmp_path):
    failed, timed = probe([pack(tmp_path, "raise"), pack(tmp_path, seed=1)], ["fp32"])
    assert "as it was told" in failed.traceback
    assert [one.precision for one in timed.probes] == ["fp32"]


@pytest.mark.usefixtures("server")
def test_a_probe_whose_process_dies_is_repeated_with_fp32_alone(tmp_path):
    repeated, whole = probe([pack(tmp_path, "die"), pack(tmp_path, seed=1)], None)
    assert [one.precision for one in repeated.probes] == ["fp32"]
    assert repeated.failures[""] == f"{DIED}; repeated with fp32 alone"
    assert len(whole.probes) > 1
    assert whole.failures == {}


def test_a_probe_that_hangs_says_so(tmp_path):
    (timings,) = probe([pack(tmp_path, "hang", precision="fp32")], None)
    assert timings.probes == []
    assert "no sign of life" in " ".join(timings.failures.values())


@pytest.mark.parametrize(("gpus", "shared_out"), [(1.0, "ab"), (0.5, "aabb"), (0.3333, "aaabbb")])
def test_trials_get_gpus_in_turn_as_many_to_each_as_share_it(tmp_path, gpus, shared_out):
    packs = [pack(tmp_path, seed=seed, gpus=gpus) for seed in range(len(shared_out))]
    found = [process_variables(each, number, ["a", "b"])["CUDA_VISIBLE_DEVICES"] for number, each in enumerate(packs)]
    assert "".join(found) == shared_out


@pytest.mark.usefixtures("server")
def test_an_interruption_ends_the_processes(tmp_path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe([pack(tmp_path, seed=seed) for seed in (0, 1)], ["fp32"], interrupt)
    wait_until(lambda: not any(running(pid) for pid in process_ids(tmp_path)), "the processes ended")


def test_a_process_ends_if_its_driver_is_killed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.sweeps.test_local_probe import pack, probe; import time\n"
        f"probe([pack(Path({str(tmp_path)!r}))], ['fp32'], lambda: time.sleep(1000))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(PLUGIN)])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True) as driver:
        wait_until(lambda: len(started(tmp_path, 0)) == 1, "the trial began")
        driver.kill()
    wait_until(lambda: not any(running(pid) for pid in process_ids(tmp_path)), "the process ended")


def test_a_task_that_cannot_be_imported_there_is_a_failure_of_its_probe(tmp_path, monkeypatch):
    packed = pack(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(PLUGIN)])
    (timings,) = probe([packed], ["fp32"])
    assert timings.probes == []
    assert "ModuleNotFoundError: No module named 'probed'" in timings.failures[""]


class Trainer(InlineExecutor):
    """An executor whose start takes a second, and may fail; `events` has what happened."""

    def __init__(self, events: list[str], error: BaseException | None = None):
        super().__init__()
        self._events, self._error = events, error

    def __enter__(self):
        time.sleep(1)
        self._events.append("started")
        if self._error:
            raise self._error
        return self

    def __exit__(self, *exception: object) -> None:
        self._events.append("stopped")
        if isinstance(exception[1], RuntimeError):
            raise ExecutorDied("the cluster died") from exception[1]

    def probe(self, packs, precisions, window_s):
        self._events.append("probed")
        return super().probe(packs, precisions, window_s)

    def run(self, packs, concurrent):
        self._events.append("ran")
        yield from ()


def test_a_plan_alone_starts_no_cluster(tmp_path):
    events: list[str] = []
    with PrivateExecutor(lambda: Trainer(events), 5.0) as executor:
        (timings,) = executor.probe([pack(tmp_path)], ["fp32"], 0.0)
    assert timings.probes
    assert events == []


def test_nothing_is_timed_while_the_cluster_starts(tmp_path):
    events: list[str] = []
    with PrivateExecutor(lambda: Trainer(events), 5.0) as executor:
        executor.get_ready()
        executor.probe([pack(tmp_path)], ["fp32"], 0.0)
        assert events == ["started"]
        assert list(executor.run([], None)) == []
    assert events == ["started", "ran", "stopped"]


def test_a_task_that_uses_the_cluster_is_timed_on_it(tmp_path, monkeypatch):
    events: list[str] = []
    packed = pack(tmp_path)
    monkeypatch.setattr(type(packed.first.task), "uses_ray", lambda self: True)
    with PrivateExecutor(lambda: Trainer(events), 5.0) as executor:
        executor.probe([packed], ["fp32"], 0.0)
    assert events == ["started", "probed", "stopped"]


@pytest.mark.parametrize(("error", "raised"), [(RuntimeError("lost"), ExecutorDied), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_what_ends_a_sweep_may_be_the_end_of_its_cluster(error, raised):
    events: list[str] = []

    def sweep() -> None:
        with PrivateExecutor(lambda: Trainer(events), 5.0) as executor:
            executor.get_ready()
            raise error

    with pytest.raises(raised):
        sweep()
    assert events == ["started", "stopped"]


def test_a_cluster_that_cannot_start_is_an_error_of_the_sweep(tmp_path):
    with PrivateExecutor(lambda: Trainer([], OSError("no room")), 5.0) as executor:
        executor.get_ready()
        with pytest.raises(OSError, match="no room"):
            list(executor.run([], None))
