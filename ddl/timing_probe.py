"""Timing probes: a trial's first steps in several precisions, each timed and compared with fp32.

bf16 is the fastest choice on one processor, the slowest on another, and sometimes wrong (pytorch#163347, #183815). Candidates
are therefore timed on the trial's own first steps, and only one whose losses agree with plain fp32 is chosen.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from ddl.devices import Device
from ddl.precision_setup import prepare_process, skipped_captures
from ddl.progress import Progress
from ddl.timed_trial import WARM_UP, TimedTrial
from ddl.timings import TimingProbe, Timings
from ddl.trial_errors import TRIAL_ERRORS, error_line, out_of_memory

AGREEMENT = 0.02
"""Largest relative deviation of a candidate's losses from fp32's. bf16 has a rounding error of 0.4% (2^-8) per operation."""

CONTEXT_BYTES = 600e6
"""GPU memory of a CUDA process without its tensors: kernels and workspaces of libraries. Some hundred MB, by library and GPU."""


def time_candidates(
    start: Callable[[str], Iterator[Progress]],
    names: Sequence[str],
    device: Device,
    steps: int,
    window_s: float = 0.0,
    ready: Callable[[], None] = lambda: None,
) -> Timings:
    """Time the first steps of one trial in each precision of `names`, one after another: at least `steps` steps and `window_s` seconds.

    `start(name)` starts the trial in that precision. The first of `names` is the reference, whose errors are raised; if it runs out of
    GPU memory, the next one that is not compiled is the reference. A precision that raises, or whose losses deviate from the
    reference's by more than `AGREEMENT`, is a failure and does not affect the others.
    `ready` is called before the timed steps of each precision, and may wait for probes in other processes.

    The first start in a process also imports modules, starts the device and reads files that later trials find in memory. So with a
    single precision the trial is started once more, and all probes get the shortest start.

    A CPU's time per step is the median; a GPU, which runs behind the host, is timed over the whole window.
    """
    probes: list[TimingProbe] = []
    failures: dict[str, str] = {}
    starts_s: list[float] = []
    reference: tuple[str, Sequence[float]] | None = None
    for position, name in enumerate(names):
        try:
            probe, losses = _time_one(name, start, device, steps, window_s, ready)
        except TRIAL_ERRORS as error:
            failures[name] = error_line(error)
            if reference is None:
                others = [other for other in names[position + 1 :] if not _compiles(other)]
                if not (others and out_of_memory(error)):
                    raise
                failures[name] += f" The others are compared with {others[0]}"
            continue
        starts_s.append(probe.start_s)
        reference = reference or (name, losses)
        deviation = _deviation(losses, reference[1])
        if deviation > AGREEMENT:
            failures[name] = f"its losses deviate from {reference[0]}'s by {100 * deviation:.3g}%"
        else:
            probes.append(replace(probe, deviation=deviation))
    if len(starts_s) == 1:
        assert reference is not None
        prepare_process(reference[0])
        with TimedTrial(start(reference[0]), device) as again:
            starts_s.append(again.start_s)
    shortest_s = min(starts_s)
    probes = [
        replace(probe, start_s=shortest_s, first_start_s=starts_s[0] - shortest_s, probe_s=probe.probe_s - probe.start_s + shortest_s)
        for probe in probes
    ]
    return Timings(sorted(probes, key=lambda probe: probe.step_s), failures)


def _time_one(
    name: str, start: Callable[[str], Iterator[Progress]], device: Device, steps: int, window_s: float, ready: Callable[[], None]
) -> tuple[TimingProbe, list[float]]:
    """The timing probe of one precision, without its deviation, and its first losses."""
    began = time.perf_counter()
    compiles = _compiles(name)
    prepare_process(name)
    free_bytes = _free_bytes(device)
    with _refuse_eager_fallback(compiles), TimedTrial(start(name), device) as timed:
        timed.warm_up()
        if "cuda_graphs" in name.split() and (skipped := skipped_captures()):
            raise RuntimeError(f"capture refused: {skipped} graphs would run as in `compiled` (TORCH_LOGS=cudagraphs shows why)")
        waits = time.perf_counter()
        ready()
        began += time.perf_counter() - waits
        step_s = timed.step_s(steps, window_s)
        evaluate_s = timed.evaluate_s(step_s, steps)
        call_s = timed.call_s()
    warm_up_s, first = timed.warm_up_s, timed.first
    memory_bytes = _peak_bytes(device)
    compile_s = first_compile_s = 0.0
    if compiles:  # again, as a later trial in the same process, which finds the compiler's results on the disk
        prepare_process(name)
        with TimedTrial(start(name), device) as again:
            again.warm_up()
        compile_s = max(again.warm_up_s - WARM_UP * step_s, 0.0)
        first_compile_s = max(warm_up_s - again.warm_up_s, 0.0)
    probe = TimingProbe(
        precision=name,
        start_s=timed.start_s,
        step_s=step_s,
        evaluate_s=evaluate_s,
        deviation=0.0,
        total_steps=first.total_steps,
        evaluations=first.metadata.get("evaluations", 0),
        metadata=dict(first.metadata),
        compile_s=compile_s,
        first_compile_s=first_compile_s,
        call_s=call_s,
        memory_bytes=memory_bytes,
        free_bytes=free_bytes,
        probe_s=time.perf_counter() - began,
    )
    return probe, timed.losses(steps)


def _compiles(name: str) -> bool:
    return not {"compiled", "cuda_graphs"}.isdisjoint(name.split())


@contextmanager
def _refuse_eager_fallback(compiles: bool) -> Iterator[None]:
    """Makes a model that compiles too often raise. By default Dynamo then runs it eagerly, with no more than a line in the log."""
    if not compiles:
        yield
        return
    import torch._dynamo.config as dynamo  # loading the compiler is slow

    with dynamo.patch(fail_on_recompile_limit_hit=True):
        yield


def _free_bytes(device: Device) -> float:
    """GPU memory that this process could use, its CUDA context included; 0 on a CPU."""
    if device.torch.type != "cuda":
        return 0.0
    return torch.cuda.mem_get_info(device.torch)[0] + torch.cuda.memory_reserved(device.torch) + CONTEXT_BYTES


def _peak_bytes(device: Device) -> float:
    """Peak GPU memory of this process since `prepare_process`, CUDA context included; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device.torch) + CONTEXT_BYTES if device.torch.type == "cuda" else 0.0


def _deviation(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Largest relative difference of `losses` from `reference`; infinite if the candidate diverged before the reference.

    0 if the task has no losses, or the reference's are not finite, because then nothing can be compared.
    """
    if len(losses) < len(reference):
        return float("inf")
    pairs = [(a, b) for a, b in zip(losses, reference, strict=False) if b == b and abs(b) != float("inf")]
    if any(a != a for a, _ in pairs):
        return float("inf")
    return max((abs(a - b) / max(abs(b), 1e-12) for a, b in pairs), default=0.0)
