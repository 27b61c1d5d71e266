"""A trial in a worker: its reports, its resume from a checkpoint, and its copy in an object store."""

import dataclasses
import errno
import importlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.progress import Progress, State
from ddl.sweeps.assignment import Assignment, device_of
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.worker import run_trial
from ddl.tasks.function import function_task
from ddl.tasks.task import STRICT, Count, Task
from ddl.telemetry.describe import cpu_name, usable_cores
from ddl.trial_report import TrialReport

from ..ledgers import ReportingLedger

CPU = Device(torch.device("cpu"))


@dataclass(frozen=True, config=STRICT)
class Sums(Task):
    """Adds up its step numbers, and measures at every second step."""

    steps: Count

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        first, total = (resume["step"], resume["total"]) if resume else (0, torch.zeros(()))
        if first == 0:
            yield Progress(step=0, total_steps=self.steps, state=lambda: {"step": 0, "total": torch.zeros(())}, metadata={"parameters": 1})
        for step in range(first + 1, self.steps + 1):
            total = total + step
            state = {"step": step, "total": total}
            metrics = {"val/total": total.item()} if step % 2 == 0 else {}
            yield Progress(step=step, total_steps=self.steps, state=lambda state=state: state, metrics=metrics)


def assignment(folder: Path, **changed: object) -> Assignment:
    plain = Assignment("t1", Sums(seed=0, steps=9), 1, 1, 0.0, folder, checkpoint_every_s=1000.0)
    return dataclasses.replace(plain, **changed)


def after(looks: int) -> Callable[[], bool]:
    """A function that returns true after `looks` calls."""
    left = iter([False] * looks)
    return lambda: next(left, True)


def measured(reports: list[TrialReport]) -> dict[int, float]:
    return {one.step: one.metrics["val/total"] for one in reports if one.metrics.get("val/total")}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with ReportingLedger.create(tmp_path, {}, [TrialRow("t1", 0, "a", {}, {}, 0)]) as made:
        yield made


def record(ledger: Ledger, reports: list[TrialReport]) -> None:
    """As the driver does."""
    for one in reports:
        match one.kind:
            case "started":
                ledger.started(one.trial_id, one.step, one.place)
            case "measured":
                ledger.measured(one.trial_id, one.step, one.epoch, one.elapsed_s, one.metrics, one.metadata)
            case "ended":
                ledger.ended(one.trial_id, one.status, one.reason, step=one.step, elapsed_s=one.elapsed_s, metrics=one.metrics)


def test_a_preempted_trial_stores_its_current_step_and_continues_after_it(tmp_path):
    first = list(run_trial(assignment(tmp_path), CPU, after(4)))
    assert (first[-1].kind, first[-1].step) == ("preempted", 4)
    assert not any(one.kind == "ended" for one in first)
    rest = list(run_trial(assignment(tmp_path), CPU))
    assert (rest[0].kind, rest[0].step) == ("started", 4)
    assert (rest[-1].kind, rest[-1].status, rest[-1].step) == ("ended", "finished", 9)
    assert list(measured(first)) == [2, 4]
    assert measured(first) | measured(rest) == measured(list(run_trial(assignment(tmp_path / "undisturbed"), CPU)))
    assert list(measured(rest)) == [2, 4, 6, 8], "the ledger may be older than the checkpoint; it skips what it has"


def test_a_trial_preempted_at_its_first_step_loses_nothing(tmp_path):
    assert next(one for one in reversed(list(run_trial(assignment(tmp_path), CPU, lambda: True)))).kind == "preempted"
    assert [one.step for one in run_trial(assignment(tmp_path), CPU)][-1] == 9


def test_on_another_machine_with_an_older_ledger_no_measurement_is_lost_or_recorded_twice(tmp_path, ledger):
    url = f"file://{tmp_path}/store/t1"
    first = list(run_trial(assignment(tmp_path / "a", url=url), CPU, after(7)))
    assert first[-1].kind == "preempted"
    record(ledger, [one for one in first if one.step <= 3])  # the rest was not copied before the machine was lost
    rest = list(run_trial(assignment(tmp_path / "b", url=url), CPU))
    record(ledger, rest)
    record(ledger, list(run_trial(assignment(tmp_path / "c", url=url), CPU)))
    found = LedgerReader(tmp_path).metrics().query("name == 'val/total'")
    assert dict(zip(found.step, found.value, strict=True)) == {2: 3.0, 4: 10.0, 6: 21.0, 8: 36.0}
    assert len(found) == 4
    (trial,) = LedgerReader(tmp_path).trials()
    assert trial.metadata["parameters"] == 1
    assert "only_here" not in trial.metadata


def test_checkpoints_that_were_not_uploaded_are_named_in_the_trials_metadata(tmp_path, ledger):
    reports = list(run_trial(assignment(tmp_path / "a", url="http://127.0.0.1:9/t1"), CPU))
    assert (reports[-1].kind, reports[-1].status) == ("ended", "finished")
    record(ledger, reports)
    (trial,) = LedgerReader(tmp_path).trials()
    assert trial.metadata["only_here"].startswith("only in ")
    assert str(tmp_path / "a") in trial.metadata["only_here"]


@dataclass(frozen=True, config=STRICT)
class Yields(Task):
    """A class of the user's that yields one metric."""

    value: ClassVar[object]

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        yield Progress(step=1, total_steps=1, metrics={"val/total": self.value})


@pytest.mark.parametrize("value", [np.float32(0.5), np.float16(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5]), Decimal("0.5")])
def test_metrics_that_are_numbers_of_a_library_are_recorded_as_floats(tmp_path, ledger, monkeypatch, value):
    monkeypatch.setattr(Yields, "value", value, raising=False)
    record(ledger, list(run_trial(assignment(tmp_path / "a", task=Yields(seed=0)), CPU)))
    assert LedgerReader(tmp_path).metrics().query("name == 'val/total'").value.to_list() == [0.5]


@pytest.mark.parametrize("value", ["0.5", None, [0.5], torch.ones(2), 10**400])
def test_a_metric_that_is_no_number_fails_its_trial(tmp_path, monkeypatch, value):
    monkeypatch.setattr(Yields, "value", value, raising=False)
    *_, last = run_trial(assignment(tmp_path, task=Yields(seed=0)), CPU)
    assert last.status == "failed"
    assert f"TypeError: the trial yielded 'val/total': {type(value).__name__}. A measurement is a text and a number." in last.reason


@pytest.mark.parametrize(("measurements", "reason"), [(0, ""), (3, ""), (2, "it ended at step 3, not 2"), (5, "it ended at step 3, not 5")])
def test_a_function_of_another_length_says_so(tmp_path, measurements, reason):
    def train(lr):
        for _ in range(3):
            yield {"val/loss": lr}

    task = function_task(train, "__main__", measurements)(lr=0.1, seed=0)
    *_, last = run_trial(assignment(tmp_path, task=task), CPU)
    assert last.status == "finished"
    assert last.reason.partition(":")[0] == reason


def test_a_trial_that_ran_eagerly_in_the_end_says_so(tmp_path):
    counters = importlib.import_module("torch._dynamo.utils").counters

    def train(lr, recompiled):
        if recompiled:
            counters["unimplemented"]["Dynamo recompile limit exceeded: 8"] += 1
        yield {"val/loss": lr}

    made = function_task(train, "__main__", 1)
    reports = [[*run_trial(assignment(tmp_path / str(often), task=made(lr=0.1, recompiled=often, seed=0)), CPU)] for often in (True, False)]
    assert [(last.status, last.reason) for *_, last in reports] == [
        ("finished", "its model was compiled too often, so parts of it ran eagerly"),
        ("finished", ""),
    ]


def test_a_trials_first_report_has_its_device(tmp_path):
    first, *_ = run_trial(assignment(tmp_path), CPU)
    assert first.kind == "started"
    assert first.metadata["device"] == {"type": "cpu", "name": cpu_name(), "cores": usable_cores()}


def test_a_function_without_states_fails_in_a_population(tmp_path):
    def train(lr, resume=None):
        yield {"val/loss": lr}

    task = function_task(train, "__main__", 1)(lr=0.1, seed=0)
    *_, last = run_trial(assignment(tmp_path, task=task, keep_measured=0.2), CPU)
    assert last.status == "failed"
    assert last.reason.startswith("TypeError: pbt continues trials from states, but the measurement has none.")


def test_a_checkpoint_that_cannot_be_written_ends_no_trial_as_failed(tmp_path):
    (tmp_path / "checkpoints").write_text("not a folder")
    reports = list(run_trial(assignment(tmp_path), CPU))
    assert reports[-1].kind == "cannot_write"
    number, reason, path = reports[-1].error
    assert (number, reason, Path(path)) == (errno.EEXIST, "File exists", tmp_path / "checkpoints")


def test_compilation_uses_the_trials_cores_only_also_if_the_compiler_was_imported_before(tmp_path):
    compiler = importlib.import_module("torch._inductor.config")  # as by the fork server
    with compiler.patch(compile_threads=32):
        with InlineExecutor():
            device_of(assignment(tmp_path, cpus=3))
            assert compiler.compile_threads == 3
        assert compiler.compile_threads == 32, "an inline run leaves no setting behind"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), "out_of_memory"),
        (RuntimeError("CUDA driver error: out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (RuntimeError("backend='inductor' raised:\nOutOfMemoryError: CUDA out of memory."), "out_of_memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), "ended"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "ended"),
        (ValueError("the data set is out of memory"), "ended"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_gpu_without_free_memory_is_recognised_by_the_errors_of_pytorch_and_of_its_libraries(tmp_path, error, kind):
    def train(lr):
        yield {"val/loss": lr}
        raise error

    shared = assignment(tmp_path, task=function_task(train, "__main__", 2)(lr=0.1, seed=0), gpus=0.5)
    *_, last = run_trial(shared, CPU)
    assert last.kind == kind
    if kind == "out_of_memory":
        assert last.reason == "out of memory with gpus=0.5, starts again with gpus=1"
        *_, last = run_trial(dataclasses.replace(shared, may_grow=False, folder=tmp_path / "population"), CPU)
        assert (last.kind, last.status) == ("ended", "failed"), "nobody gives it a larger fraction"
        *_, last = run_trial(dataclasses.replace(shared, gpus=1.0, folder=tmp_path / "whole"), CPU)
    assert (last.kind, last.status) == ("ended", "failed"), "there is no larger fraction"
