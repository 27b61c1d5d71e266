"""Prepares the runs of one command: what it names, its scale and its options."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ddl import config
from ddl.config import ConfigError
from ddl.function_sweep import FunctionSweep, find_function
from ddl.gpus import machine_gpus
from ddl.storage import urls
from ddl.sweeps import prepare
from ddl.sweeps.executor_choice import check_address, check_executor
from ddl.sweeps.prepare import PreparedRun, RunOptions
from ddl.tasks.function import FunctionTask
from ddl.tasks.user_code import is_reference
from ddl.yamlfile import config_names

ALL = "all"
"""The name that selects every sweep."""


def default_scale() -> tuple[str, str]:
    """(scale, reason) if the user names none."""
    gpus = machine_gpus()
    if gpus.usable:
        return "paper", f"{gpus.usable[0].name} was found"
    reason = "no usable GPU was found" if gpus.problems else "no GPU was found"
    return "sample", f"{reason}; --scale paper runs the study's own size"


def prepare_runs(
    console: Console,
    sweep: str | FunctionSweep,
    overrides: Sequence[str],
    scale: str | None,
    executor: str,
    address: str | None,
    out: str,
) -> list[PreparedRun]:
    """The runs of one or several sweeps. `out` is the folder or URL of all runs. Raises ConfigError with every problem."""
    problems: list[str] = []
    if urls.is_url(out) and (problem := urls.url_problem(out)):
        problems.append(f"--out {problem}")
    is_function = isinstance(sweep, FunctionSweep) or is_reference(sweep)
    if is_function and scale:
        problems.append(f"--scale {scale}: a function has no scales. Give its hyperparameters other values instead.")
    scale, reason = (scale, "as asked") if scale or is_function else default_scale()
    scale = scale or "sample"
    if scale not in config.SCALES:
        problems.append(f"scale: {scale!r} is unknown. Use {', '.join(config.SCALES)}.")
    check_executor(executor, problems)
    folder = urls.local_folder(out) if urls.is_url(out) else Path(out)
    options = RunOptions(tuple(overrides), scale, executor, address, folder)
    names = _sweeps(sweep, problems)
    check_address(executor, address, "Remove --address or --executor inline", problems)
    if len(set(names)) < len(names):
        problems.append(f"--sweep {sweep!r}: names a sweep twice. Name each once.")
    runs = [run for name in names if (run := prepare.prepare_run(name, options, problems))]
    if len({run.name for run in runs}) < len(runs):
        problems.append(f"--sweep {sweep!r}: two files have the same name. Rename one.")
    if len(runs) > 1 and any(run.launch.early_stopping.scheduler != "none" for run in runs):
        problems.append("early_stopping.scheduler: compares the trials of one sweep. Use none for several sweeps.")
    if len(runs) > 1 and any(run.launch.race for run in runs):
        problems.append(
            "until: settled races the configurations of one sweep. Set it to all for several sweeps, or start one after another."
        )
    if len(runs) > 1 and any(run.population for run in runs):
        problems.append(
            "search.algorithm: pbt compares the trials of one sweep. Set it to random for several sweeps, or start one after another."
        )
    if urls.is_url(out) and any(run.population for run in runs):
        problems.append(f"--out {out}: search.algorithm: pbt needs local checkpoints. Name a folder.")
    if problems or not runs:
        raise ConfigError(list(dict.fromkeys(problems)))
    if is_function:
        _show_function(console, runs[0])
    elif any(run.about["scale"] for run in runs):
        console.print(f"scale: {scale} ({reason})")
    return runs


def _sweeps(sweep: str | FunctionSweep, problems: list[str]) -> Sequence[str | FunctionSweep]:
    """The sweeps that an argument names, or the function's."""
    if isinstance(sweep, FunctionSweep):
        return [sweep]
    if is_reference(sweep):
        return [found] if (found := find_function(sweep, problems)) else []
    return config_names("sweep") if sweep == ALL else [sweep] if os.path.isfile(sweep) else sweep.split(",")


def _show_function(console: Console, run: PreparedRun) -> None:
    """Print what the user has not said about a function: the metric's direction, and what happens to a trial that is lost."""
    better = "larger" if run.metric.mode == "max" else "smaller"
    console.print(f"metric: {run.metric.name} ({better} is better)")
    task = run.timed[0].task
    if isinstance(task, FunctionTask) and not task.can_resume():
        console.print(f"{run.name} has no argument `resume`, so an interrupted trial starts again from its beginning", soft_wrap=True)
