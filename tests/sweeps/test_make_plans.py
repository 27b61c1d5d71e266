"""The plans that the driver makes for new and for resumed runs, on simulated hardware."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ddl.config import ConfigError
from ddl.devices import Device
from ddl.run_plans import make_plans
from ddl.sweeps import prepare, probe
from ddl.sweeps.allocation import Allocation
from ddl.sweeps.capacity import Capacity, Node
from ddl.sweeps.pack import Pack
from ddl.sweeps.plan import Plan
from ddl.sweeps.prepare import PreparedRun, RunOptions
from ddl.timings import TimingProbe, Timings

LAPTOP = Capacity((Node(8),))
WORKSTATION = Capacity((Node(16, 4),))
ON_A_GPU = Allocation(1, 4, 1.0, 4, 1, "ddp")
ON_A_QUARTER = Allocation(1, 1, 0.25, 16, 1, "ddp")


@dataclasses.dataclass
class Machine:
    """An executor whose trials use `memory` of 10 GB on a GPU, or run out of memory with a smaller fraction. `fp32` is the slowest."""

    has: Capacity
    memory: float = 0.0
    runs_out: bool = False
    broken: Sequence[str] = ()
    windows: list[float] = dataclasses.field(default_factory=list)

    def capacity(self) -> Capacity:
        return self.has

    def gpu_problems(self) -> list[str]:
        return list(self.broken)

    def probe(self, packs: Sequence[Pack], precisions: list[str] | None, window_s: float) -> list[Timings]:
        self.windows.append(window_s)
        return [self._probe(pack, precisions) for pack in packs]

    def _probe(self, pack: Pack, precisions: list[str] | None) -> Timings:
        if self.runs_out and pack.first.gpus < self.memory:
            return Timings([], {"fp32": "OutOfMemoryError: CUDA out of memory."}, "a traceback")
        timings = probe.time_pack(pack, Device(torch.device("cpu")), precisions, 0.0)
        memory = {"memory_bytes": self.memory * 10e9, "free_bytes": 10e9} if pack.first.gpus else {}
        return dataclasses.replace(timings, probes=[dataclasses.replace(one, **memory) for one in timings.probes])


def timed(start: object, names: Sequence[str], *_: object) -> Timings:
    """`time_candidates` without training."""
    probes = [TimingProbe(name, 1.0, 2.0 if name == "fp32" else 1.0, 1.0, 0.0, 1000, 2, {}) for name in names]
    return Timings(sorted(probes, key=lambda one: one.step_s))


@pytest.fixture
def planned(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Plan, str]]:
    """The plan of a run on a machine, and what is printed. Further arguments are fields of a resumed run."""
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probe, "time_candidates", timed)
    monkeypatch.setattr(probe, "candidates", lambda device, options: ["fp32", "fp32 channels_last"])

    def planned(machine: Machine, *overrides: str, executor: str = "ray", **recorded: object) -> tuple[Plan, str]:
        ask()
        problems: list[str] = []
        asked = RunOptions(("seeds=16", "latency=none", "stack=off", *overrides), "smoke", executor, "auto")
        run = prepare.prepare_run(str(tmp_path / "small.yaml"), asked, problems)
        assert isinstance(run, PreparedRun)
        assert problems == []
        screen = io.StringIO()
        (plan,) = make_plans(Console(file=screen, width=400), [dataclasses.replace(run, **recorded)], machine, tmp_path, tmp_path)
        return plan, screen.getvalue()

    return planned


def test_a_run_that_is_resumed_without_its_gpu_is_planned_again(planned):
    plan, shown = planned(Machine(LAPTOP), allocation=ON_A_GPU, precision="bf16 channels_last cuda_graphs")
    assert (plan.allocation.gpus, plan.precision) == (0, "fp32 channels_last")
    assert (
        "this machine cannot give a trial its planned resources (cpus=4 and gpus=1); using cpus=1 instead. The remaining trials may differ"
        in shown
    )
    assert (
        "this machine does not support the planned precision bf16 channels_last cuda_graphs; training in fp32 channels_last instead. The remaining"
        in shown
    )
    assert "not used: bf16 channels_last cuda_graphs (default: no candidate on this hardware)" in shown


def test_a_run_that_is_resumed_on_its_hardware_keeps_its_plan(planned):
    plan, shown = planned(Machine(WORKSTATION, memory=0.2), allocation=ON_A_QUARTER, precision="fp32")
    assert (plan.allocation, plan.precision) == (ON_A_QUARTER, "fp32"), "although another precision is faster"
    assert "this hardware" not in shown


@pytest.mark.parametrize("runs_out", [False, True])
def test_a_run_that_is_resumed_on_a_smaller_gpu_is_planned_again(planned, runs_out):
    smaller = Machine(WORKSTATION, memory=0.4, runs_out=runs_out)
    plan, shown = planned(smaller, allocation=ON_A_QUARTER, precision="fp32")
    assert (plan.allocation.gpus, plan.precision) == (0.5, "fp32")
    assert "its planned resources (cpus=1 and gpus=0.25); using cpus=2 and gpus=0.5 instead." in shown
    assert planned(smaller, "resources.gpus=0.25", allocation=ON_A_QUARTER, precision="fp32")[0].allocation.gpus == 0.25, "as asked"


def test_inline_trials_do_not_share_a_gpu(planned):
    inline, ray = Machine(Capacity((Node(8, 1),)), memory=0.2), Machine(Capacity((Node(8, 1),)), memory=0.2)
    assert planned(inline, executor="inline")[0].allocation.gpus == 1
    assert len(inline.windows) == 1
    assert planned(ray)[0].allocation.gpus == 0.25


def test_a_gpu_of_a_cluster_that_is_not_usable_refuses_only_a_sweep_that_asks_for_gpus(planned):
    cluster = Machine(Capacity((Node(16, 1), Node(16, 1))), broken=["node-b: Tesla P100: no kernels."])
    plan, shown = planned(cluster)
    assert (plan.allocation.gpus, plan.allocation.concurrent) == (0, 16)
    assert "on CPUs only: node-b: Tesla P100: no kernels. To use the other GPUs, start Ray on that node with --num-gpus=0." in shown
    with pytest.raises(ConfigError, match=r"node-b: Tesla P100: no kernels\. Start Ray on that node with --num-gpus=0, or set"):
        planned(cluster, "resources.gpus=1")
    assert "CPUs only" not in planned(cluster, "resources.gpus=0")[1], "the nodes are not asked"
