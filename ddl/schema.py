"""What a sweep is made of: the schema of its YAML, and the sweep that config.py composes from it."""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Len, Lt
from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass

from ddl.devices import Strategy
from ddl.tasks.task import Count, CountOrZero, Number, Positive, Seed, Task

CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)
"""No unknown key. (Strict as a whole would refuse a mapping where a nested class is wanted; the numbers are strict.)"""


def _ascending(ends: list[int]) -> list[int]:
    if ends[0] > ends[1]:
        raise ValueError(f"a range with the fewest first: [{ends[1]}, {ends[0]}].")
    return ends


@dataclass(frozen=True, config=CLOSED)
class Resources:
    """Of one trial: `num_workers` processes that train it together, each with so much. A share of a GPU below 1 puts several
    trials on it.

    [fewest, most] workers: as many as there is room for whenever the trial starts, or starts again. `strategy` is how they hold
    its model.
    """

    num_workers: Count | Annotated[list[Count], Len(2, 2), AfterValidator(_ascending)]
    strategy: Strategy
    cpus: Count | Literal["auto"]
    gpus: Annotated[Number, Ge(0)] | Literal["auto"]

    @property
    def workers(self) -> tuple[int, int]:
        """(fewest, most), which are the same where a number is given."""
        fewest, most = self.num_workers if isinstance(self.num_workers, list) else (self.num_workers, self.num_workers)
        return fewest, most


@dataclass(frozen=True, config=CLOSED)
class Wandb:
    mode: Literal["auto", "online", "offline", "disabled"]
    project: str


@dataclass(frozen=True, config=CLOSED)
class EarlyStopping:
    """Which trials are stopped before their end: `none`, or those that `asha` or `median` finds behind by the sweep's metric.

    None is stopped before it has done the share `grace` of its steps; asha keeps one in `reduction_factor` at each look.
    """

    scheduler: Literal["none", "asha", "median"]
    grace: Annotated[Number, Gt(0), Lt(1)]
    reduction_factor: Annotated[Number, Gt(1)]


@dataclass(frozen=True, config=CLOSED)
class Search:
    """How the values of axes that are distributions are found.

    `random`: all are drawn before the sweep begins. `tpe`: each is drawn by what those before have shown. `pbt`: all are drawn
    before; then, after every share `every` of its steps, a trial in the worst quarter goes on from the state of one in the
    best quarter, with that one's values changed a little.
    """

    algorithm: Literal["random", "tpe", "pbt"]
    every: Annotated[Number, Gt(0), Lt(1)]


@dataclass(frozen=True, config=CLOSED)
class Launch:
    """What tune_configs/launch.yaml gives, a sweep's file may change and the command line has the last word on."""

    seeds: Count
    first_seed: Seed
    resources: Resources
    early_stopping: EarlyStopping
    search: Search
    retries: CountOrZero
    checkpoint_every_s: Positive
    latency: Literal["none", "quick", "full"]
    wandb: Wandb


@dataclass(frozen=True, config=CLOSED)
class Metric:
    """What configurations are compared by; `mode` says whether more is better."""

    name: str
    mode: Literal["max", "min"]


@dataclass(frozen=True, config=CLOSED)
class Reference:
    """What was published: `values` by configuration, of `metric` (`best val/accuracy`, `last val/loss`, or a plain metric).

    `tolerance` is how far (absolutely) a mean may lie from a value and still reproduce it.
    """

    source: str
    metric: str
    values: dict[str, Number]
    tolerance: Positive
    note: str = ""


@dataclass(frozen=True, config=CLOSED)
class SweepFile:
    """A sweep's YAML. `space` are the axes of a grid, `configurations` named points; together, each point over the grid.

    `set` assigns hyperparameters for the whole sweep, `scale` for one scale. `samples` is the number of draws where an
    axis is a distribution.
    """

    task: str
    title: str
    metric: Metric
    scale: dict[Literal["smoke", "sample", "paper"], dict[str, Any]]
    space: dict[str, Any] = field(default_factory=dict)
    configurations: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: CountOrZero = 0
    set: dict[str, Any] = field(default_factory=dict)
    reference: Reference | None = None
    plugins: list[str] = field(default_factory=list)


@plain_dataclass(frozen=True)
class Sweep:
    """A composed sweep. `base`, `space`, `configurations` and `forced` map hyperparameters' names (without `task.`) to values.

    A trial's hyperparameters are `base`, then its point of `space`, then its configuration's, then `forced` (the command
    line's). `where` says who gave a key its value: `file:line`, or the command line.
    """

    name: str
    scale: str
    file: SweepFile
    launch: Launch
    task_class: type[Task]
    base: Mapping[str, Any]
    space: Mapping[str, Any]
    configurations: Mapping[str, Mapping[str, Any]]
    forced: Mapping[str, Any]
    where: Mapping[str, str]


def label(value: object) -> str:
    """A value as tables show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
