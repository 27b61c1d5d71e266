"""Schema of launch.yaml and of a sweep's YAML."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator, ConfigDict, Discriminator, Tag
from pydantic.dataclasses import dataclass

from ddl.strategy import Strategy
from ddl.tasks.task import Count, CountOrZero, Number, Positive, Seed

MAX_WORKERS = 1024
"""Largest number of workers that train one trial."""

DISTRIBUTIONS = ("uniform", "loguniform", "randint", "choice")
"""Kinds of axes that are sampled, as in `{uniform: [0.1, 0.5]}`."""

CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Refuses unknown keys. Not strict as a whole: that would refuse a mapping for a nested class. The number types are strict."""


Workers = Annotated[Count, Le(MAX_WORKERS)]
"""Number of worker processes."""


def _ascending(ends: list[int]) -> list[int]:
    if ends[0] > ends[1]:
        raise ValueError(f"a range with the fewest first: [{ends[1]}, {ends[0]}].")
    return ends


@dataclass(frozen=True, config=CLOSED)
class Resources:
    """Allocation of one trial: worker processes that train it together, and the CPU cores and GPUs of each."""

    num_workers: Workers | Annotated[list[Workers], Len(2, 2), AfterValidator(_ascending)]
    """Worker processes of a trial, or [fewest, most]: as many as there is room for each time the trial starts."""
    strategy: Strategy
    """`ddp`: every worker holds the whole model. `fsdp`: every worker holds a shard of it."""
    cpus: Count | Literal["auto"]
    """CPU cores of each worker. `auto`: the cores divided by the number of workers that run at once, at most 4 for a worker on
    a GPU."""
    gpus: Annotated[Number, Ge(0)] | Literal["auto"]
    """GPUs of each worker, 0 to 1; a fraction puts several trials on one GPU. `auto`: one usable GPU each if there are any, else
    none; small trials share a GPU if that fits in its memory and was measured to be faster."""

    @property
    def workers(self) -> tuple[int, int]:
        """(fewest, most) workers; equal if `num_workers` is a number."""
        fewest, most = self.num_workers if isinstance(self.num_workers, list) else (self.num_workers, self.num_workers)
        return fewest, most


def _accepted_by_wandb(project: str) -> str:
    if not project.isprintable():
        raise ValueError("has characters that a terminal would obey. Remove them.")
    if refused := [character for character in "/\\#?%:" if character in project]:
        raise ValueError(f"W&B refuses the characters {' '.join(refused)} in the name of a project. Use others.")
    return project


@dataclass(frozen=True, config=CLOSED)
class Wandb:
    """Weights & Biases settings."""

    mode: Literal["auto", "online", "offline", "disabled"]
    """`auto`: `WANDB_MODE` if it is set, else online with a key (`WANDB_API_KEY` or `wandb login`), else offline in the run's folder."""
    project: Annotated[str, Len(1, 128), AfterValidator(_accepted_by_wandb)]
    """W&B project: at most 128 characters, without / \\ # ? % :."""


@dataclass(frozen=True, config=CLOSED)
class EarlyStopping:
    """Trials that are stopped before their last step, by the sweep's metric."""

    scheduler: Literal["none", "asha", "median"]
    """`none`: every trial runs to its end. `asha`: asynchronous successive halving (Li et al. 2020).
    `median`: stops trials behind the median of running averages (Golovin et al. 2017)."""
    grace: Annotated[Number, Gt(0), Lt(1)]
    """Fraction of a trial's steps before which it is never stopped."""
    reduction_factor: Annotated[Number, Ge(1.01)]
    """Inverse of the fraction of trials that `asha` continues at each milestone."""


@dataclass(frozen=True, config=CLOSED)
class Search:
    """Method that finds the values of sampled axes (distributions)."""

    algorithm: Literal["random", "tpe", "pbt"]
    """`random`: all values are sampled before the sweep starts. `tpe`: each configuration is sampled from the results of the
    earlier ones (Bergstra et al. 2011). `pbt`: population based training (Jaderberg et al. 2017); after every fraction `every` of
    its steps, a trial in the worst quarter continues from the state of one in the best quarter, with its values perturbed."""
    every: Annotated[Number, Gt(0), Lt(1)]
    """Fraction of a trial's steps between two comparisons of `pbt`."""


@dataclass(frozen=True, config=CLOSED)
class SeedRange:
    """Least and largest number of replicates of each configuration in a race."""

    at_least: Count
    """Replicates before the first decision, at least 2."""
    at_most: Count
    """Replicates after which the race ends without an answer."""


def _number_or_range(value: object) -> str:
    return "range" if isinstance(value, dict | SeedRange) else "number"


Seeds = Annotated[Annotated[Count, Tag("number")] | Annotated[SeedRange, Tag("range")], Discriminator(_number_or_range)]
"""A number of replicates, or a range; a mistake is one of the alternative that was meant."""

AT_LEAST = 3
"""`at_least` of a race whose `seeds` is a number."""


@dataclass(frozen=True, config=CLOSED)
class Launch:
    """Launch settings: `launch.yaml` has the defaults, a sweep's YAML may change them, the command line overrides both."""

    seeds: Seeds
    """Replicates of each configuration. A sweep has at most 100,000 trials. `{at_least: 3, at_most: 20}`: as many as `until: settled` needs."""
    until: Literal["all", "settled"]
    """`all`: every configuration gets all seeds. `settled`: a race; further seeds go only to configurations that may still be the best, until
    one is certainly better than all others, or those left differ by at most `margin`."""
    margin: Annotated[Number, Ge(0)]
    """Largest difference of the sweep's metric that does not matter to you."""
    first_seed: Seed
    """Seed of the first replicate; the next ones count up from it."""
    resources: Resources
    """Allocation of one trial."""
    stack: Count | Literal["auto", "off"]
    """Trials that one process trains as one model, if their task can: `auto` for as many as was measured to be fastest, a number for
    at most that many, `off` for none. A trial's results do not depend on it, except for rounding."""
    early_stopping: EarlyStopping
    """Early stopping."""
    search: Search
    """Search over sampled axes."""
    retries: CountOrZero
    """Times that a trial restarts from its newest checkpoint after its process or node was lost. A preemption does not count."""
    checkpoint_every_s: Positive
    """Least time between two checkpoints of a trial, in seconds."""
    trial_timeout_s: Positive | Literal["none"]
    """Most time that an attempt of a trial may take, in seconds, or `none`. A trial that takes longer ends as failed."""
    stall_timeout_s: Positive | Literal["none"]
    """Most time that a trial may take for a step, in seconds, or `none`. The first step includes loading data and compilation. A trial
    that takes longer ends as failed. It applies to timing probes too, for which `none` is 10 minutes."""
    latency: Literal["none", "quick", "full"]
    """Inference timing of one trained model of each configuration. `none`: not measured. `quick`: batches of 1 and 32, in eager fp32 and in the trial's
    precision. `full`: also batches of 256, and compiled and exported forms."""
    wandb: Wandb
    """Weights & Biases."""

    @property
    def most_seeds(self) -> int:
        """Largest number of replicates of a configuration."""
        return self.seeds.at_most if isinstance(self.seeds, SeedRange) else self.seeds

    @property
    def race(self) -> SeedRange | None:
        """Seeds of the race; None if every configuration gets all seeds."""
        if isinstance(self.seeds, SeedRange):
            return self.seeds
        return SeedRange(min(AT_LEAST, self.seeds), self.seeds) if self.until == "settled" else None


ADDED_LATER: Mapping[str, Any] = {"stack": "off", "trial_timeout_s": "none", "stall_timeout_s": "none", "until": "all", "margin": 0}
"""Values of the launch settings that runs of earlier versions have not recorded."""


@dataclass(frozen=True, config=CLOSED)
class Metric:
    """Metric that configurations are compared by."""

    name: str
    """Name of the metric, such as `val/accuracy`."""
    mode: Literal["max", "min"]
    """`max`: a larger value is better. `min`: a smaller value is better."""


@dataclass(frozen=True, config=CLOSED)
class Reference:
    """Published values that the report compares the measured means with."""

    source: str
    """Citation, such as "Author 2020, Table 3"."""
    metric: str
    """`best` or `last` and a metric (`best val/accuracy`, `last val/loss`), or a metric alone."""
    values: dict[str, Number]
    """Published value of each configuration, by the configuration's name."""
    tolerance: Positive
    """Largest absolute difference between a mean and its published value that counts as reproduced."""
    note: str = ""
    """Remark that the report shows with the published values."""
    seeds: Count | None = None
    """Number of seeds behind each published value, if the source states it."""
    spread: Positive | None = None
    """Standard deviation of the published values over these seeds, if the source states it."""

    @property
    def metric_name(self) -> str:
        """The metric without `best` or `last`."""
        return self.metric.removeprefix("best ").removeprefix("last ")


@dataclass(frozen=True, config=CLOSED)
class SweepFile:
    """Keys of a sweep's YAML. With both `space` and `configurations`, every configuration is combined with every point of the grid."""

    task: str
    """Name of a file in `tune_configs/task/`, or in a folder `task` in or next to the sweep's folder, without `.yaml`; or a task or function
    of your own, as `FILE.py:NAME` (relative to the sweep's file) or `MODULE:NAME`."""
    title: str
    """Title of the report."""
    metric: Metric
    """Metric that configurations are compared by."""
    scale: dict[Literal["smoke", "sample", "paper"], dict[str, Any]] = field(default_factory=dict)
    """Hyperparameters (`task.NAME: value`) of each scale."""
    space: dict[str, Any] = field(default_factory=dict)
    """Axes of the grid: `task.NAME` and a list of values, or a distribution
    (`{uniform: [low, high]}`, `loguniform`, `randint` or `choice`)."""
    configurations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Named points: a name and its hyperparameters."""
    samples: CountOrZero = 0
    """Number of sampled points if an axis is a distribution; with `tpe`, the number of configurations."""
    set: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters of the whole sweep, at every scale."""
    reference: Reference | None = None
    """Published values to compare with."""
    plugins: list[str] = field(default_factory=list)
    """Python modules outside `ddl` that define tasks. They are looked for next to the sweep's file, in the folder above, in the current
    folder, and among the installed packages."""


def label(value: object) -> str:
    """A value as tables show it. Two different floats never have the same text."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(float(value))
    return str(value)
