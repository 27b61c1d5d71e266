"""How long a trained model takes to answer, in the forms in which it could be used; none counts that disagrees with plain fp32.

Method: warm-up; percentiles over single calls, the clock read after the device is done; examples a second by
`torch.utils.benchmark.Timer.blocked_autorange`; forms in turn, twice, so that a machine which drifts is seen to drift. (MLPerf
Inference's SingleStream times single calls and reports a percentile, too.)

A form's name has the words of a precision (`fp32`, `bf16`, `channels_last`, `compiled`) and `exported`. bf16 here is
autocast over weights that are rounded once, not at every call as in training.
"""

import copy
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddl.devices import Device
from ddl.progress import Predictor

REFERENCE = "fp32"
FORMS = (
    REFERENCE,
    "fp32 channels_last",
    "bf16",
    "bf16 channels_last",
    "fp32 channels_last compiled",
    "bf16 channels_last compiled",
    "fp32 exported",
)
AGREEMENT = {"fp32": 1e-3, "bf16": 0.05}
"""How far outputs may lie from the reference's: the norm of the difference over theirs. fp32 rounds at 6e-8 an operation,
bf16 at 4e-3, which some fifty layers add up to ten times that."""
ROUNDS = 2


@dataclass(frozen=True)
class LatencyBudget:
    """How closely to look: batch sizes, forms (None: the reference and the trial's own), seconds of single calls and of blocks
    for each figure and round, and how long (s) one call may take; a slower form is left out."""

    batches: tuple[int, ...]
    forms: tuple[str, ...] | None
    calls_s: float
    blocks_s: float
    limit_s: float


BUDGETS = {
    "quick": LatencyBudget((1, 32), None, calls_s=0.05, blocks_s=0.02, limit_s=1.0),
    "full": LatencyBudget((1, 32, 256), FORMS, calls_s=1.0, blocks_s=0.5, limit_s=60.0),
}
MIN_CALLS, MAX_CALLS = 3, 1000
ENOUGH = {50: MIN_CALLS, 90: 10, 99: 100}
"""Calls from which on a percentile is one."""


@dataclass(frozen=True)
class LatencyResults:
    """`metrics` are `latency/...`: those of eager fp32, and `latency/best_...` of the fastest form that agrees with it.
    `metadata` say which form that is at each batch size, what each took, how far it lies from fp32, and what was left out and why."""

    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def measure_or_explain(predictor: Callable[[], Predictor | None], device: Device, depth: str, precision: str) -> LatencyResults:
    """`measure_latency`, for a trial that must not fail by it: what goes wrong is "not measured", with the reason among the metadata.

    `depth` is one of `BUDGETS`, or `none`. Nothing is found where there is nothing to be timed.
    """
    if depth == "none":
        return LatencyResults()
    try:
        found = predictor()
        return LatencyResults() if found is None else measure_latency(found, device, BUDGETS[depth], precision)
    except Exception as error:  # noqa: BLE001  the trial is trained; that its model cannot be timed is no reason to lose it
        traceback.print_exc()
        return LatencyResults(metadata={"not_measured": _reason(error)})


def measure_latency(predictor: Predictor, device: Device, depth: LatencyBudget, precision: str = REFERENCE) -> LatencyResults:
    """Time `predictor` on `device`; `precision` is the trial's own. Raises what the model itself raises in eager fp32."""
    # Compiling anew takes longer than a quick look may.
    forms = depth.forms or tuple(dict.fromkeys([REFERENCE, precision.replace(" compiled", "")]))
    metrics: dict[str, float] = {}
    left_out: dict[str, str] = {}
    deviations: dict[str, float] = {}
    p50: dict[str, dict[str, float]] = {}
    best: dict[str, str] = {}
    noise = 0.0
    with torch.no_grad():
        for batch in depth.batches:
            timed = _time(predictor, device, [name for name in forms if name not in left_out], batch, depth, left_out)
            if not timed:
                break
            deviations |= {form.name: max(form.deviation, deviations.get(form.name, 0.0)) for form in timed}
            p50[str(batch)] = {form.name: form.percentile(50) for form in timed}
            fastest = min(timed, key=lambda form: form.percentile(50))
            best[str(batch)] = fastest.name
            metrics |= timed[0].figures("latency/", batch) | fastest.figures("latency/best_", batch)
            noise = max(noise, *(form.spread for form in timed))
        plain = _variant(REFERENCE, predictor.module)
        if p50:
            metrics["latency/noise_percent"] = 100 * noise
        metrics["latency/flops"] = float(flops(plain, predictor.example))
        if depth.forms:
            metrics["latency/peak_memory_bytes"] = float(peak_memory(plain, predictor.example, device))
    metadata = {
        "input": list(predictor.example.shape[1:]),
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in predictor.module.parameters()),
        "best": best,
        "p50_ms": p50,
        "deviation": deviations,
        "agreement": AGREEMENT,
        "left_out": left_out,
    }
    return LatencyResults(metrics, metadata)


def flops(module: nn.Module, example: Tensor) -> int:
    """Floating-point operations of one example, a multiplication and an addition counted as two. Only what
    `torch.utils.flop_counter` knows counts: products of matrices and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
    return counter.get_total_flops()


def peak_memory(module: nn.Module, example: Tensor, device: Device) -> int:
    """Bytes that one example's forward pass holds at once, weights and input included, as PyTorch's allocator sees them."""
    held = sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers(), example])
    if device.torch.type == "cuda":
        before = torch.cuda.memory_allocated(device.torch)
        torch.cuda.reset_peak_memory_stats(device.torch)
        module(example)
        device.synchronise()
        return held + torch.cuda.max_memory_allocated(device.torch) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        module(example)
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return held + most


class InferenceVariant(nn.Module):
    """A model in one of the forms it can be used in, from inputs as they are stored to fp32 outputs."""

    def __init__(self, module: nn.Module, bf16: bool, channels_last: bool):
        super().__init__()
        self.module, self._bf16, self._channels_last = module, bf16, channels_last

    def forward(self, inputs: Tensor) -> Tensor:
        if self._channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if not self._bf16:
            return self.module(inputs).float()
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            return self.module(inputs).float()


def _variant(name: str, module: nn.Module) -> InferenceVariant:
    """A copy of `module` in this form, before it is compiled or exported."""
    words = set(name.split())
    module = copy.deepcopy(module).eval()
    module.to(memory_format=torch.channels_last if "channels_last" in words else torch.contiguous_format)
    if "bf16" in words:
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                part.to(torch.bfloat16)
    return InferenceVariant(module, "bf16" in words, "channels_last" in words).eval()


def prepare_variant(name: str, module: nn.Module, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """A copy of `module` in this form, for inputs like these. To be called where no gradients are asked for."""
    form, words = _variant(name, module), set(name.split())
    if "exported" in words:
        return torch.export.export(form, (inputs,)).module()
    if "compiled" in words:
        import torch._inductor.config as inductor  # the compiler is loaded where it is used

        compiled = torch.compile(form, dynamic=False, options={"triton.cudagraphs": True} if inputs.is_cuda else {})
        # Among `options` it would freeze nothing: Dynamo, which makes constants of the weights, does not see those.
        with inductor.patch(freezing=True):
            compiled(inputs)
        return compiled
    return form


@dataclass
class _Timed:
    """A form at one batch size: its single calls (s) in each round, and seconds a call in a block of many."""

    name: str
    run: Callable[[Tensor], Tensor]
    deviation: float
    calls: list[list[float]] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)

    def percentile(self, p: int) -> float:
        """In ms, over the calls of all rounds."""
        return 1e3 * float(np.percentile(np.concatenate(self.calls), p))

    @property
    def spread(self) -> float:
        """How far apart the rounds' medians lie, relative to the least."""
        medians = [float(np.median(calls)) for calls in self.calls]
        return max(medians) / min(medians) - 1

    def figures(self, prefix: str, batch: int) -> dict[str, float]:
        calls = sum(map(len, self.calls))
        found = {f"{prefix}p{p}_ms_batch{batch}": self.percentile(p) for p, least in ENOUGH.items() if calls >= least}
        return found | {f"{prefix}examples_per_s_batch{batch}": batch / float(np.mean(self.blocks))}


def _time(
    predictor: Predictor, device: Device, forms: Sequence[str], batch: int, depth: LatencyBudget, left_out: dict[str, str]
) -> list[_Timed]:
    """The forms that agree with the first, timed in turn; none where eager fp32 is too slow. Why a form is left out goes
    into `left_out`."""
    from torch.utils.benchmark import Timer  # it looks for CUDA's compiler, and says on standard error what it finds

    # No two rows are alike, and each is as valid as the example.
    inputs = torch.cat([torch.roll(predictor.example, shift, dims=-1) for shift in range(batch)]).to(device.torch)
    timed: list[_Timed] = []
    expected = torch.empty(0)
    for name in forms:
        try:
            run = prepare_variant(name, predictor.module, inputs)
            run(inputs)  # allocates, plans, compiles
            began = time.perf_counter()
            outputs = run(inputs).clone()
            device.synchronise()
            took = time.perf_counter() - began
        except Exception as error:  # exporting and compiling fail in any way, without a word on the model
            if name == REFERENCE:
                raise
            left_out[name] = f"batch {batch}: {_reason(error)}"
            continue
        expected = outputs if name == REFERENCE else expected
        deviation = float((outputs - expected).norm() / expected.norm().clamp_min(1e-12))
        allowed = AGREEMENT[name.split()[0]]
        if not deviation <= allowed:
            left_out[name] = f"batch {batch}: lies {deviation:.2g} from fp32, more than {allowed:g}"
        elif took > depth.limit_s:
            left_out[name] = f"batch {batch}: a call takes {took:.2g} s, longer than {depth.limit_s:g} s"
        else:
            timed.append(_Timed(name, run, deviation))
        if REFERENCE in left_out:
            return []
    for _ in range(ROUNDS):
        for form in timed:
            form.calls.append(single_calls(form.run, inputs, device, depth.calls_s))
            names = {"run": form.run, "inputs": inputs, "synchronise": device.synchronise}
            timer = Timer("run(inputs)\nsynchronise()", globals=names, num_threads=torch.get_num_threads())
            form.blocks.append(timer.blocked_autorange(min_run_time=depth.blocks_s).mean)
    if any("compiled" in name for name in forms):
        torch._dynamo.reset()  # it compiles no function more than a few times, and the next size is compiled anew
    return timed


def single_calls(run: Callable[[Tensor], Tensor], inputs: Tensor, device: Device, seconds: float) -> list[float]:
    """Seconds of each call, for so long, after one that does not count."""
    run(inputs)
    device.synchronise()
    calls: list[float] = []
    ends = time.perf_counter() + seconds
    while len(calls) < MIN_CALLS or (time.perf_counter() < ends and len(calls) < MAX_CALLS):
        began = time.perf_counter()
        run(inputs)
        device.synchronise()
        calls.append(time.perf_counter() - began)
    return calls


def _reason(error: Exception) -> str:
    """The error in a line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200] if said else 'no message'}"
