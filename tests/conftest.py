"""For every test: one thread and a fixed seed, so that no result depends on the machine or on the test before."""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Threads that wait without computing: two test processes and the commands that they start share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from ddl import config, yamlfile
from ddl.composed_sweep import Sweep
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

CACHE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the whole session, its worker processes and every command it starts a cache of its own, and keep them from the user's accounts:
    W&B is offline and finds no key, and Ray reads a token of the session.
    """
    for number in (signal.SIGHUP, signal.SIGINT):  # ignored under nohup and in the background, also by the commands that tests interrupt
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[CACHE] = tempfile.mkdtemp(prefix="ddl-test-cache-")
        folder = Path(config.stash[CACHE])
        os.environ["DDL_CACHE"] = str(folder)
        os.environ["XDG_CONFIG_HOME"] = str(folder)  # with the key that marks runs
        os.environ.pop("WANDB_API_KEY", None)
        os.environ |= {"WANDB_MODE": "offline", "NETRC": str(folder / "netrc"), "RAY_AUTH_TOKEN_PATH": str(folder / "ray_token")}
        (folder / "ray_token").write_text(secrets.token_hex(32))  # Ray makes none at a path that is set


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)


SLOW = (
    "docs/test_notebook.py",
    "sweeps/test_stacks.py",
    "sweeps/test_local_probe.py",
    "reports/test_embedding.py",
    "test_function_sweep.py",
    "test_standard_streams.py",
    "benchmarks/",
    "cluster/",
    "data/test_packages.py",
    "data/test_store.py",
    "docs/test_examples.py",
    "faults/test_kills.py",
    "faults/test_signals.py",
    "reports/test_live.py",
    "reports/test_page.py",
    "rl/test_env_runners.py",
    "rl/test_environments.py",
    "rl/test_tables.py",
    "rl/test_tasks.py",
    "rl/test_training.py",
    "sweeps/test_cluster.py",
    "sweeps/test_confirmation.py",
    "sweeps/test_engine.py",
    "sweeps/test_failing_trials.py",
    "sweeps/test_gpu_trials.py",
    "sweeps/test_object_store.py",
    "sweeps/test_own_data.py",
    "sweeps/test_population.py",
    "sweeps/test_schedulers.py",
    "sweeps/test_search.py",
    "sweeps/test_time_limits.py",
    "sweeps/test_workers.py",
    "tasks/",
    "test_checkpoints.py",
    "test_export.py",
    "test_latency.py",
    "test_machine_use.py",
    "test_permissions.py",
    "test_reproduce.py",
    "test_sharding.py",
    "test_start.py",
    "tracking/test_follower_process.py",
    "tracking/test_online.py",
)
"""Test files, and folders, that `make quick` leaves out: they train, start processes of their own, or open a browser."""


class OneProcessPerCostlyFixture(LoadScopeScheduling):
    """Tests go to the process that is free. Those of a file with a fixture for the whole module go to the same one, which makes it once.

    xdist's `loadgroup` is meant for this, but does nothing under pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return file if _has_module_fixture(self.config.rootpath / file) else nodeid


@cache
def _has_module_fixture(path: Path) -> bool:
    return 'scope="module"' in path.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return OneProcessPerCostlyFixture(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # a test may have prepared the process as a worker does
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(random)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test changes in the environment, as a worker does in its process, ends with it."""
    before = os.environ.copy()
    yield
    os.environ.clear()
    os.environ.update(before)


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
        shown = [line.replace(f"{tmp_path}/", "").replace(f"{yamlfile.FOLDER}/", "") for line in problems]
        return Asked(sweep, trials, shown)

    return ask
