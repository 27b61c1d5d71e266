"""Contract tests of every task at its smallest size. A new task needs only an entry in `TINY` (steps.py)."""

import copy
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError

from ddl import checkpoints
from ddl.data import sources
from ddl.data.names import NAMES
from ddl.data.sets import DATA_SETS
from ddl.progress import Progress

from .steps import CPU, TASKS, TINY, build, without_times

FALLBACK_FOR = {"denoising": "Tiny ImageNet", "sentiment": "imdb", "text_generation": "the Game of Thrones script of the study"}
"""Data that the task's data are a fallback for."""

every_task = pytest.mark.parametrize("name", sorted(name for name in TINY if name.partition(":")[0] in TASKS))


def measured(progress: Iterator[Progress]) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics) without durations and speeds."""
    found = [(one.step, without_times(one.metrics)) for one in progress]
    return [(step, metrics) for step, metrics in found if metrics]


def test_every_task_has_contract_tests():
    assert TINY.keys() >= TASKS


@every_task
def test_building_a_task_touches_no_data(name, monkeypatch):
    for function in ("load_data_set", "load_file"):
        monkeypatch.setattr(sources, function, lambda *arguments: pytest.fail("data was loaded"))
    task = build(name)
    assert set(task.data_sets) <= set(NAMES)
    task.run(CPU)


@every_task
def test_a_task_cannot_be_changed_and_takes_all_its_hyperparameters_and_no_other(name):
    task = build(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.seed = 4
    for item in dataclasses.fields(task):
        given = item.kw_only or item.default is item.default_factory is dataclasses.MISSING
        assert given, f"{item.name} has a default, which YAML should give"
    values = {item.name: getattr(task, item.name) for item in dataclasses.fields(task)}
    with pytest.raises(ValidationError, match="surprise"):
        type(task)(**values, surprise=1)
    values.pop("seed")
    with pytest.raises(ValidationError, match="seed"):
        type(task)(**values)


@every_task
def test_the_first_progress_has_the_metadata(name):
    steps = build(name).run(CPU)
    first, second = next(steps), next(steps)
    assert first.step == 0
    assert second.step > 0
    metadata = json.loads(json.dumps(first.metadata, allow_nan=False))
    assert metadata["parameters"] > 0
    if build(name).data_sets:
        assert metadata["data"]["name"]
        assert metadata["data"]["source"]
        assert metadata["data"]["fallback_for"] == FALLBACK_FOR.get(name, "")
    assert metadata["evaluations"] > 0
    assert first.metrics.get("time/evaluate_s") is not None or metadata["evaluation_steps"] > 0
    assert not second.metadata


@every_task
def test_steps_count_up_to_their_total_and_metrics_have_a_split_and_a_finite_value(name):
    steps = list(build(name).run(CPU))
    assert [one.step for one in steps] == sorted({one.step for one in steps})
    assert {one.total_steps for one in steps} == {steps[-1].step}
    assert steps[-1].metrics
    for one in steps:
        for metric, value in one.metrics.items():
            assert re.fullmatch(r"\w+/\w+", metric)
            assert math.isfinite(value)


@every_task
def test_a_trial_resumed_from_a_stored_state_ends_with_the_same_metrics(name, tmp_path):
    undisturbed = list(build(name).run(CPU))
    middle = len(undisturbed) // 2
    for one in itertools.islice(build(name).run(CPU), middle + 1):
        if one.step == undisturbed[middle].step:
            checkpoints.store(tmp_path, "trial", one.step, one.state())
    step, state = checkpoints.newest(tmp_path, "trial")
    torch.manual_seed(12345)
    resumed = list(build(name).run(CPU, state))
    assert resumed[0].step > step
    assert measured(resumed) == measured(one for one in undisturbed if one.step > step)


@every_task
def test_a_trial_is_reproducible_and_depends_on_its_seed(name):
    runs = []
    for seed in (3, 3, 4, 3 + 2**32):
        torch.manual_seed(seed * 17 % 1000)
        runs.append(measured(build(name, seed=seed).run(CPU)))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[0] != runs[3]


@every_task
def test_a_run_changes_no_data(name):
    task = build(name)
    before = {name: copy.deepcopy(sources.load_data_set(name, "sample").train.inputs[:40]) for name in set(task.data_sets) & set(DATA_SETS)}
    list(task.run(CPU))
    for data_set, inputs in before.items():
        assert torch.equal(sources.load_data_set(data_set, "sample").train.inputs[:40], inputs)
