"""Contract tests of every task at its smallest size. A new task needs only an entry in `TINY`."""

import copy
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator

import pytest
import torch
import yaml
from pydantic import ValidationError

from ddl import checkpoints, config
from ddl.data import sources
from ddl.devices import Device
from ddl.progress import Progress
from ddl.tasks.loading import load_task_class
from ddl.tasks.task import Task

CPU = Device(torch.device("cpu"))

CARTPOLE = {
    "hidden": [8],
    "env_steps": 320,
    "envs": 4,
    "learning_starts": 40,
    "replay_size": 200,
    "batch_size": 8,
    "evaluate_every": 80,
    "evaluation_episodes": 2,
}
IMAGES = {"content": "sample", "train_limit": 40, "val_limit": 20, "batch_size": 16, "epochs": 2}
DIGITS = {"widths": [2, 3], "dense": 8, "generated": 20, "judge_epochs": 1}
TINY = {
    "classification": {
        "content": "sample",
        "train_limit": 40,
        "val_limit": 20,
        "widths": [4],
        "convolutions": 1,
        "dense": 8,
        "dropout": 0.1,
        "augmentation": "light",
        "batch_size": 16,
        "epochs": 2,
    },
    "forecasting": {"window": 4, "hidden": 4, "passes": 5, "dropout": 0.1, "epochs": 2},
    "sentiment": {
        "content": "sample",
        "train_limit": 60,
        "val_limit": 30,
        "longest": 12,
        "hidden": 4,
        "batch_size": 16,
        "epochs": 2,
        "model": "lstm",
    },
    "text_generation": {
        "content": "sample",
        "limit": 5000,
        "embedding": 8,
        "hidden": 8,
        "layers": 1,
        "length": 16,
        "batch_size": 32,
        "epochs": 2,
        "temperatures": [0.5, 1.5],
        "texts": 2,
        "text_length": 30,
        "references": 2,
    },
    "transfer": {
        "data_set": "cifar10",
        "content": "sample",
        "train_limit": 12,
        "val_limit": 6,
        "size": 32,
        "network": "efficientnet_lite0",
        "weights": "none",
        "batch_size": 6,
        "epochs": 2,
        "augmentation": "light",
    },
    "cartpole": CARTPOLE,
    "cartpole_rllib": CARTPOLE,
    "cartpole_table": {"env_steps": 320, "envs": 4, "evaluate_every": 80, "evaluation_episodes": 2},
    "representation": IMAGES | {"size": 16, "latent": 3, "dense_down": [12], "dense_up": [12]},
    "representation: convolutional": IMAGES
    | {
        "size": 16,
        "latent": 3,
        "method": "convolutional",
        "convolutional_widths": [2, 3],
        "convolutional_up": [8],
        "convolutional_epochs": 2,
    },
    "generation": IMAGES | DIGITS,
    "generation: gan": IMAGES | DIGITS | {"model": "gan", "convolutions": 1, "dense": 0, "discriminator_dense": 8},
    "colouring": IMAGES | {"widths": [2, 3]},
    "colouring: cgan": IMAGES | {"widths": [2, 3], "model": "cgan", "discriminator_width": 2},
    "denoising": IMAGES | {"widths": [2, 3]},
}
"""Values that make a trial small, by the name of the task's YAML; the name of a variant follows a colon."""

FALLBACK_FOR = {"denoising": "Tiny ImageNet", "sentiment": "imdb", "text_generation": "the Game of Thrones script of the study"}
"""Data that the task's data are a fallback for."""

TASKS = {path.stem for path in (config.FOLDER / "task").glob("*.yaml")}
every_task = pytest.mark.parametrize("name", sorted(name for name in TINY if name.partition(":")[0] in TASKS))


def make_task(name: str, **changed) -> Task:
    """The task of the YAML `name`, with some of its values changed."""
    values = yaml.safe_load((config.FOLDER / "task" / f"{name}.yaml").read_text())
    return load_task_class(values.pop("class"))(**values | changed)


def build(name: str, **changed) -> Task:
    return make_task(name.partition(":")[0], **TINY[name] | {"seed": 3} | changed)


def measured(progress: Iterator[Progress]) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics) without durations and speeds."""
    found = [(one.step, {name: value for name, value in one.metrics.items() if not name.startswith("time/")}) for one in progress]
    return [(step, metrics) for step, metrics in found if metrics]


def test_every_task_has_contract_tests():
    assert TINY.keys() >= TASKS


@every_task
def test_building_a_task_touches_no_data(name, monkeypatch):
    for function in ("load_data_set", "load_file"):
        monkeypatch.setattr(sources, function, lambda *arguments: pytest.fail("data was loaded"))
    task = build(name)
    assert set(task.data_sets) <= {*sources.data_set_names(), *sources.file_names()}
    task.run(CPU)


@every_task
def test_a_task_cannot_be_changed_and_takes_all_its_hyperparameters_and_no_other(name):
    task = build(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.seed = 4
    for item in dataclasses.fields(task):
        assert item.default is item.default_factory is dataclasses.MISSING, f"{item.name} has a default, which YAML should give"
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
    before = {
        name: copy.deepcopy(sources.load_data_set(name, "sample").train.inputs[:40])
        for name in set(task.data_sets) & set(sources.data_set_names())
    }
    list(task.run(CPU))
    for data_set, inputs in before.items():
        assert torch.equal(sources.load_data_set(data_set, "sample").train.inputs[:40], inputs)
