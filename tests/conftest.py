"""For every test: one thread and a fixed seed, so that no result depends on the machine or on the test before."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ddl import config
from ddl.schema import Sweep
from ddl.sweeps import space
from ddl.sweeps.space import Trial

SWEEP = """\
task: classification
title: A small sweep
metric: {name: val/accuracy, mode: max}
scale:
  smoke: {task.content: sample, task.epochs: 1}
"""
"""Five lines, so what a test adds begins in line 6."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(random)


@dataclass(frozen=True)
class Asked:
    """What came of a sweep's YAML. In `problems` the folder is left out, so they begin with `small.yaml:6:`."""

    sweep: Sweep | None
    trials: list[Trial]
    problems: list[str]


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Asked]:
    """Composes and expands a sweep file: `more` lines after SWEEP's, or after those of `base`."""

    def ask(more: str = "", overrides: Sequence[str] = (), scale: str = "smoke", base: str = SWEEP, name: str = "small.yaml") -> Asked:
        path = tmp_path / name
        path.write_text(base + more, encoding="utf-8")
        problems: list[str] = []
        sweep = config.compose_sweep(str(path), overrides, scale, problems)
        trials = space.expand_trials(sweep, problems) if sweep else []
        shown = [line.replace(f"{tmp_path}/", "").replace(f"{config.FOLDER}/", "") for line in problems]
        return Asked(sweep, trials, shown)

    return ask
