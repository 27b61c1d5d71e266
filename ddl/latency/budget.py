"""Effort of the timing of inference: its variants and durations, and what a plan expects it to take."""

from dataclasses import dataclass

REFERENCE = "fp32"
VARIANTS = (
    REFERENCE,
    "fp32 channels_last",
    "bf16",
    "bf16 channels_last",
    "fp32 channels_last compiled",
    "bf16 channels_last compiled",
    "fp32 exported",
)

ROUNDS = 2
EXAMPLES = 32
"""Examples of the call from whose time a plan expects the benchmark's duration."""


@dataclass(frozen=True)
class LatencyBudget:
    """Effort of a benchmark.

    Batch sizes; variants (None: the reference and the trial's own precision); seconds of single calls and of blocks per variant,
    batch size and round; and the maximum seconds of one call: slower variants are left out.
    """

    batches: tuple[int, ...]
    variants: tuple[str, ...] | None
    calls_s: float
    blocks_s: float
    limit_s: float


BUDGETS = {
    "quick": LatencyBudget((1, 32), None, calls_s=0.05, blocks_s=0.02, limit_s=1.0),
    "full": LatencyBudget((1, 32, 256), VARIANTS, calls_s=1.0, blocks_s=0.5, limit_s=60.0),
}
MIN_CALLS = 3


def training_variant(precision: str) -> str:
    """The variant in a trial's own precision. Eager, because compiling takes too long for a quick benchmark, and without TF32."""
    return " ".join(word for word in precision.replace("tf32", "fp32").split() if word not in ("compiled", "cuda_graphs"))


def expected_duration(call_s: float, depth: str, precision: str) -> float:
    """Expected seconds of `measure_or_explain` in a process that has called it before, for a plan.

    `call_s` is the time of one call with `EXAMPLES` examples, 0 if there is no model to time. Compilation and export are not included:
    only a `full` benchmark has them.
    """
    if depth == "none" or not call_s:
        return 0.0
    budget = BUDGETS[depth]
    variants = budget.variants or dict.fromkeys([REFERENCE, training_variant(precision)])
    expected_s = 0.0
    for batch in budget.batches:
        each_s = call_s * batch / EXAMPLES
        # A round has a call, at least MIN_CALLS single ones and as many in a block. Two calls come before the rounds.
        round_s = max(budget.calls_s, (MIN_CALLS + 1) * each_s) + max(budget.blocks_s, MIN_CALLS * each_s)
        expected_s += len(variants) * (2 * each_s + ROUNDS * round_s)
    return expected_s
