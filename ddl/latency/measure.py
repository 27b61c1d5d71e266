"""Times a trained model's variants on a device and compares their outputs with eager fp32."""

import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddl.devices import Device
from ddl.latency.budget import BUDGETS, MIN_CALLS, REFERENCE, ROUNDS, LatencyBudget, training_variant
from ddl.latency.cost import flops, peak_memory
from ddl.latency.variants import eager_variant, prepare_variant
from ddl.progress import Predictor
from ddl.trial_errors import TRIAL_ERRORS, error_line

AGREEMENT = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.01}
"""Maximum deviation from the reference: the norm of the outputs' difference over the norm of the reference's outputs. An
operation rounds at 6e-8 in fp32 and at 4e-3 in bf16; over some fifty layers bf16 adds up to ten times that."""
MAX_CALLS = 1000
PERCENTILES = {50: MIN_CALLS, 90: 10, 99: 100}  # percentile: minimum number of calls


@dataclass(frozen=True)
class LatencyResults:
    """Results of a benchmark.

    `metrics` are `latency/...`: those of eager fp32, and `latency/best_...` of the fastest variant that agrees with it.
    `metadata` names the best variant per batch size, the median of each, its deviation from fp32, and why variants were left out.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def measure_or_explain(predictor: Callable[[], Predictor | None], device: Device, depth: str, precision: str) -> LatencyResults:
    """`measure_latency` that never raises: after an error the metadata have the reason as `not_measured`.

    `depth` is one of BUDGETS or `none`. The results are empty for `none` and if there is no predictor.
    """
    if depth == "none":
        return LatencyResults()
    try:
        model = predictor()
        return LatencyResults() if model is None else measure_latency(model, device, BUDGETS[depth], precision)
    except TRIAL_ERRORS as error:  # the trial is trained; a failing benchmark must not fail it
        traceback.print_exc()
        return LatencyResults(metadata={"not_measured": error_line(error)})


def repeated_example(predictor: Predictor, batch: int) -> Tensor:
    """A batch of inputs. All rows differ, and each is as valid as the predictor's example."""
    return torch.cat([torch.roll(predictor.example, shift, dims=-1) for shift in range(batch)])


def measure_latency(predictor: Predictor, device: Device, budget: LatencyBudget, precision: str = REFERENCE) -> LatencyResults:
    """Time `predictor` on `device`; `precision` is the trial's own. Raises what the model raises in eager fp32."""
    variants = budget.variants or tuple(dict.fromkeys([REFERENCE, training_variant(precision)]))
    metrics: dict[str, float] = {}
    left_out: dict[str, str] = {}
    deviations: dict[str, float] = {}
    p50: dict[str, dict[str, float]] = {}
    best: dict[str, str] = {}
    noise = 0.0
    with torch.no_grad():
        for batch in budget.batches:
            timed = _time(predictor, device, [name for name in variants if name not in left_out], batch, budget, left_out)
            if not timed:
                break
            deviations |= {variant.name: max(variant.deviation, deviations.get(variant.name, 0.0)) for variant in timed}
            p50[str(batch)] = {variant.name: variant.percentile(50) for variant in timed}
            fastest = min(timed, key=lambda variant: variant.percentile(50))
            best[str(batch)] = fastest.name
            metrics |= timed[0].metrics("latency/", batch) | fastest.metrics("latency/best_", batch)
            noise = max(noise, *(variant.spread for variant in timed))
        reference = eager_variant(REFERENCE, predictor.module)
        if p50:
            metrics["latency/noise_percent"] = 100 * noise
        metrics["latency/flops"] = float(flops(reference, predictor.example))
        if budget.variants:
            metrics["latency/peak_memory_bytes"] = float(peak_memory(reference, predictor.example, device))
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


@dataclass
class _Timed:
    """Timings of a variant at one batch size: seconds of each single call per round, and seconds per call in blocks of calls."""

    name: str
    run: Callable[[Tensor], Tensor]
    deviation: float
    calls: list[list[float]] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)

    def percentile(self, p: int) -> float:
        """Percentile over the calls of all rounds, in ms."""
        return 1e3 * float(np.percentile(np.concatenate(self.calls), p))

    @property
    def spread(self) -> float:
        """Largest over smallest median of the rounds, minus 1."""
        medians = [float(np.median(calls)) for calls in self.calls]
        return max(medians) / min(medians) - 1

    def metrics(self, prefix: str, batch: int) -> dict[str, float]:
        calls = sum(map(len, self.calls))
        percentiles = {f"{prefix}p{p}_ms_batch{batch}": self.percentile(p) for p, least in PERCENTILES.items() if calls >= least}
        return percentiles | {f"{prefix}examples_per_s_batch{batch}": batch / float(np.mean(self.blocks))}


def _time(
    predictor: Predictor, device: Device, names: Sequence[str], batch: int, budget: LatencyBudget, left_out: dict[str, str]
) -> list[_Timed]:
    """Time the variants that agree with the first, eager fp32; none if that is too slow. Adds reasons to `left_out`."""
    inputs = repeated_example(predictor, batch).to(device.torch)
    timed: list[_Timed] = []
    expected = torch.empty(0)
    for name in names:
        try:
            run = prepare_variant(name, predictor.module, inputs)
            run(inputs)  # allocates, plans, compiles
            began = time.perf_counter()
            outputs = run(inputs).clone()
            device.synchronise()
            took = time.perf_counter() - began
        except TRIAL_ERRORS as error:  # exporting and compiling may raise any error although the model itself is correct
            if name == REFERENCE:
                raise
            left_out[name] = f"batch {batch}: {error_line(error)}"
            continue
        expected = outputs if name == REFERENCE else expected
        deviation = float((outputs - expected).norm() / expected.norm().clamp_min(1e-12))
        allowed = AGREEMENT[name.split()[0]]
        if not deviation <= allowed:
            left_out[name] = f"batch {batch}: differs by {deviation:.2g} from fp32, more than {allowed:g}"
        elif took > budget.limit_s:
            left_out[name] = f"batch {batch}: a call takes {took:.2g} s, longer than {budget.limit_s:g} s"
        else:
            timed.append(_Timed(name, run, deviation))
        if REFERENCE in left_out:
            return []
    for _ in range(ROUNDS):
        for variant in timed:
            variant.calls.append(single_calls(variant.run, inputs, device, budget.calls_s))
            variant.blocks.append(call_in_a_block(variant.run, inputs, device, budget.blocks_s, min(variant.calls[-1])))
    if any("compiled" in name for name in names):
        torch._dynamo.reset()  # Dynamo recompiles a function only a few times, and each batch size needs a compilation
    return timed


def single_calls(run: Callable[[Tensor], Tensor], inputs: Tensor, device: Device, seconds: float) -> list[float]:
    """Seconds of each call, for about `seconds`, after one warm-up call."""
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


def call_in_a_block(run: Callable[[Tensor], Tensor], inputs: Tensor, device: Device, seconds: float, call_s: float) -> float:
    """Seconds per call of a block of calls, which waits for the device only at its end. It takes about `seconds` if a call takes `call_s`."""
    calls = min(max(math.ceil(seconds / call_s), MIN_CALLS), MAX_CALLS)
    began = time.perf_counter()
    for _ in range(calls):
        run(inputs)
    device.synchronise()
    return (time.perf_counter() - began) / calls
