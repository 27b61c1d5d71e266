"""Timing probes in Ray's worker processes, of which some die."""

import types
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import ray

from ddl.sweeps import ray_probe
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import repeat_if_died
from ddl.sweeps.ray_probe import probe_on_cluster
from ddl.timings import TimingProbe, Timings

CRASH = (
    "WorkerCrashedError: The worker died unexpectedly while executing this task. Check python-core-worker-*.log files for more information."
)


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str] | None]]:
    """The (seed, precisions) of each probe that was started. A process dies if it times anything but fp32, and always for seed 2."""
    started: list[tuple[int, list[str] | None]] = []

    class Remote:
        def options(self, **_: object) -> "Remote":
            return self

        def remote(self, pack: Pack, precisions: list[str] | None, *_: object) -> tuple[int, list[str] | None]:
            started.append((pack.first.task.seed, precisions))
            return started[-1]

    def get(reference: tuple[int, list[str] | None]) -> Timings:
        if reference[0] == 2 or (reference[0] == 1 and reference[1] != ["fp32"]):
            raise ray.exceptions.WorkerCrashedError
        return Timings([TimingProbe(name, 1.0, 1.0, 1.0, 0.0, 10, 0, {}) for name in reference[1] or ["fp32", "bf16"]])

    monkeypatch.setattr(
        ray_probe,
        "ray",
        types.SimpleNamespace(
            remote=lambda **_: lambda _: Remote(), wait=lambda pending, timeout: (pending, []), get=get, exceptions=ray.exceptions
        ),
    )
    monkeypatch.setattr(ray_probe.internal_kv, "_internal_kv_get", lambda key: None)
    return started


def probed(ask, folder: Path, precisions: list[str] | None, *overrides: str) -> Sequence[Timings]:
    trials = ask(overrides=["seeds=3", *overrides]).trials
    packs = [Pack((Assignment(trial.trial_id, trial.task, 1, 1, 1.0, folder, 1000.0),)) for trial in trials]
    return repeat_if_died(packs, precisions, partial(probe_on_cluster, window_s=0.0, stall_s=60.0))


def test_a_probe_whose_process_dies_is_repeated_with_fp32_alone(ask, tmp_path, died):
    whole, repeated, lost = probed(ask, tmp_path, None)
    assert [one.precision for one in whole.probes] == ["fp32", "bf16"]
    assert [one.precision for one in repeated.probes] == ["fp32"]
    assert lost.probes == []
    assert whole.failures == {}
    assert {*repeated.failures.values(), *lost.failures.values()} == {f"{CRASH}; repeated with fp32 alone"}
    assert died == [(0, None), (1, None), (2, None), (1, ["fp32"]), (2, ["fp32"])]


@pytest.mark.parametrize(("precisions", "overrides"), [(["bf16"], ()), (None, ("task.precision=bf16",))])
def test_a_probe_of_one_precision_is_not_repeated(ask, tmp_path, died, precisions, overrides):
    assert [len(timings.probes) for timings in probed(ask, tmp_path, precisions, *overrides)][1:] == [0, 0]
    assert len(died) == 3
