"""Trials trained as one model: each is the trial that it is alone, whoever it is trained with, diverges, leaves or resumes."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddl.progress import Diverged, Progress, StackStep, State
from ddl.tasks.task import Task

from .steps import CPU, STEPPED, TABLE, build, make_task, stray_synchronisations, watch_cpu, without_times

CLOSE = 1e-4
"""Largest difference in any metric, loss or element of a state; fp32 rounds each operation to 6e-8."""

IMAGES = {"train_limit": 42, "batch_size": 4, "epochs": 2}
WINDOWS = {"passes": 10, "batch_size": 64}
TEXTS = {"batch_size": 5}
ROWS = {"batch_size": 4}
CLASSES = str(Path(TABLE).with_name("classes.npz"))
STACKS: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "forecasting": ("forecasting", WINDOWS, [{"dropout": 0.1}, {"dropout": 0.4, "weight_decay": 0.5}, {"dropout": 0.0, "lr": 0.03}]),
    "forecasting, no dropout": ("forecasting", WINDOWS | {"dropout": 0.0}, [{}, {"seed": 4}]),
    "classification, adam": (
        "classification",
        IMAGES | {"batch_norm_layers": 1, "schedule": "linear"},
        [{"dropout": 0.1}, {"dropout": 0.4, "augmentation": "aggressive"}, {"lr": 3e-3, "augmentation": "none", "seed": 5}],
    ),
    "classification, sgd": (
        "classification",
        IMAGES | {"optimiser": "sgd", "precision": "fp32 channels_last"},
        [{"momentum": 0.9, "lr": 0.01}, {"momentum": 0.0, "lr": 0.03}, {"momentum": 0.5, "seed": 5}],
    ),
    # Adam divides the gradient by its size, so rounding errors in one that is nearly 0 would be as large as the learning rate.
    "classification, no dropout": ("classification", IMAGES | {"dropout": 0.0, "optimiser": "sgd"}, [{}, {"seed": 5}]),
    "sentiment, average": ("sentiment", TEXTS | {"model": "average", "embedding": 3}, [{}, {"lr": 0.02}, {"seed": 5}]),
    "sentiment, lstm": ("sentiment", TEXTS, [{"dropout": 0.1}, {"dropout": 0.4, "lr": 0.01}, {"dropout": 0.0, "seed": 5}]),
    "sentiment, frozen": ("sentiment", TEXTS | {"model": "lstm_frozen", "pooling": "max"}, [{"dropout": 0.3}, {"lr": 0.02}]),
    "tabular": ("tabular", ROWS, [{"dropout": 0.1}, {"dropout": 0.4, "weight_decay": 0.5}, {"lr": 0.03}, {"seed": 5}]),
    "tabular, classification": (
        "tabular",
        ROWS | {"dropout": 0.0, "path": CLASSES, "kind": "classification", "hidden": []},
        [{}, {"lr": 0.03}],
    ),
    "representation, dense": ("representation", IMAGES, [{}, {"lr": 0.01}, {"seed": 5}]),
    "representation, convolutional": ("representation: convolutional", IMAGES, [{}, {"lr": 0.01}]),
}
"""Configurations in `TINY` with changed values, and what each member changes further; in all the stackable hyperparameters, and the seed."""

every_stack = pytest.mark.parametrize("name", STACKS)


def members(name: str) -> list[Task]:
    """The members of a stack. Each has its own seed."""
    configuration, changed, each = STACKS[name]
    return [build(configuration, **{"seed": 10 + number} | changed | further) for number, further in enumerate(each)]


def stacked(
    tasks: Sequence[Task], resume: Sequence[State | None] | None = None, leaving: dict[int, list[int]] | None = None
) -> list[StackStep]:
    """All steps of a stack, with copies of their states. `leaving` are indices sent after a step, by its number."""
    run = type(tasks[0]).run_stacked(tasks, CPU, resume or [None] * len(tasks))
    steps = [next(run)]
    try:
        while True:
            keep(steps[-1].values())
            done = max(one.step for one in steps[-1].values() if isinstance(one, Progress))
            steps.append(run.send((leaving or {}).get(done)))
    except StopIteration:
        return steps


def keep(progress: Iterable[Progress | Diverged]) -> None:
    """Replace the states, which the next step changes, by copies."""
    for one in progress:
        if isinstance(one, Progress):
            state = copy.deepcopy(one.state())
            object.__setattr__(one, "state", lambda state=state: state)


def alone(task: Task, resume: State | None = None) -> list[Progress]:
    """All steps of a trial, with copies of their states."""
    steps = []
    for one in task.run(CPU, resume):
        keep([one])
        steps.append(one)
    return steps


@cache
def all_alone(name: str) -> list[list[Progress]]:
    """Each member of a stack, trained alone."""
    torch.set_num_threads(1)
    return [alone(task) for task in members(name)]


def of(steps: Sequence[StackStep], index: int) -> list[Progress]:
    """One member's progress."""
    found = [step[index] for step in steps if index in step]
    assert all(isinstance(one, Progress) for one in found)
    return found


def values(one: Progress) -> dict[str, Any]:
    metrics = without_times(one.metrics)
    return {"loss": one.loss, "metrics": metrics, "state": one.state(), "epoch": one.epoch, "total": one.total_steps, "step": one.step}


def assert_close(a: Any, b: Any, place: str = "") -> None:
    """Nested values are equal, numbers and tensors within `CLOSE`."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert list(a) == list(b), place
        for name in a:
            assert_close(a[name], b[name], f"{place}/{name}")
    elif isinstance(a, Tensor):
        torch.testing.assert_close(a, b, rtol=CLOSE, atol=CLOSE, msg=lambda text: f"{place}: {text}")
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=CLOSE, abs=CLOSE), place
    else:
        assert a == b, place


def assert_same_trial(found: Sequence[Progress], expected: Sequence[Progress]) -> None:
    assert [one.step for one in found] == [one.step for one in expected]
    for a, b in zip(found, expected, strict=True):
        assert_close(values(a), values(b), f"step {a.step}")
    assert found[0].metadata == expected[0].metadata
    assert found[-1].texts.keys() == expected[-1].texts.keys()
    assert found[-1].figures.keys() == expected[-1].figures.keys()


def test_members_differ_in_every_stackable_hyperparameter():
    differing: dict[type, set[str]] = {}
    for name in STACKS:
        tasks = members(name)
        found = {field for field in type(tasks[0]).stackable if len({getattr(task, field) for task in tasks}) > 1}
        differing[type(tasks[0])] = differing.get(type(tasks[0]), set()) | found
    assert differing == {task: set(task.stackable) for task in differing}


@every_stack
def test_a_member_of_a_stack_is_the_trial_alone(name):
    tasks = members(name)
    assert len({task.stack_key() for task in tasks}) == 1
    together = stacked(tasks)
    expected = all_alone(name)
    assert len(together) > 20
    for index in range(len(tasks)):
        assert_same_trial(of(together, index), expected[index])
    assert not torch.equal(expected[0][-1].loss, expected[1][-1].loss)


@every_stack
def test_a_member_resumes_alone_and_a_trial_resumes_in_a_stack(name):
    tasks = members(name)
    expected = all_alone(name)
    middle = len(expected[0]) // 2
    together = stacked(tasks)
    for index, task in enumerate(tasks):
        assert_same_trial(alone(task, of(together, index)[middle].state()), expected[index][middle + 1 :])
    again = stacked(tasks, [steps[middle].state() for steps in expected])
    for index in range(len(tasks)):
        assert_same_trial(of(again, index), expected[index][middle + 1 :])


def test_a_trial_can_resume_in_another_stack():
    tasks, expected = members("classification, adam"), all_alone("classification, adam")
    first, second = stacked(tasks[:2]), stacked(tasks[1:])
    regrouped = stacked([tasks[2], tasks[0]], [of(second, 1)[5].state(), of(first, 0)[5].state()])
    assert_same_trial(of(regrouped, 0), expected[2][6:])
    assert_same_trial(of(regrouped, 1), expected[0][6:])


def test_a_finished_stack_trains_no_further():
    tasks = members("forecasting")
    *_, last = stacked(tasks)
    (only,) = stacked(tasks, [last[index].state() for index in range(len(tasks))])
    assert [one.step for one in only.values()] == [last[0].total_steps] * len(tasks)
    assert not any(one.metrics for one in only.values())


@pytest.mark.parametrize("name", ["forecasting", "classification, adam", "sentiment, lstm", "tabular", "representation, dense"])
@pytest.mark.parametrize("going", [1, 2])
def test_members_that_are_sent_away_leave_the_others_as_they_are(name, going):
    tasks = members(name)
    leave = list(range(going))
    together = stacked(tasks, leaving={9: leave})
    for index, expected in enumerate(all_alone(name)):
        assert_same_trial(of(together, index), expected[:10] if index in leave else expected)


def test_the_last_member_holds_no_memory_of_the_others():
    run = type(members("forecasting")[0]).run_stacked(members("forecasting"), CPU, [None] * 3)
    for _ in range(3):
        next(run)
    state = run.send([0, 2])[1].state()["learner"]
    tensors = [*state["model"].values(), *(value for slot in state["optimiser"]["state"].values() for value in slot.values())]
    assert all(tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() for tensor in tensors)


def test_a_stack_ends_when_all_members_have_been_sent_away():
    together = stacked(members("forecasting"), leaving={3: [0, 2], 5: [1]})
    assert [sorted(step) for step in together] == [[0, 1, 2]] * 4 + [[1]] * 2


@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize(
    ("configuration", "changed", "absurd"),
    [
        ("forecasting", WINDOWS | {"epochs": 3}, {"lr": 1e12}),
        ("classification", IMAGES | {"optimiser": "sgd", "batch_norm_layers": 1, "epochs": 3}, {"lr": 1e12}),
        ("sentiment", TEXTS | {"epochs": 3}, {"lr": 1e30}),
        ("representation", IMAGES | {"output": "relu", "epochs": 3}, {"lr": 1e12}),
        ("tabular", ROWS | {"epochs": 3}, {"lr": 1e12}),
    ],
)
def test_a_member_that_diverges_leaves_the_others_as_they_are(configuration, changed, absurd, others):
    tasks = [build(configuration, **changed | {"seed": 10 + number}) for number in range(others)]
    tasks.insert(1, build(configuration, **changed | absurd))
    together = stacked(tasks)
    steps = [step[1] for step in together if 1 in step]
    assert len(steps) < len(together)
    assert isinstance(steps[-1], Diverged)
    with pytest.raises(Diverged) as raised:
        alone(tasks[1])
    assert str(steps[-1]).partition("loss")[2].partition("step")[2] == str(raised.value).partition("loss")[2].partition("step")[2]
    for index in {*range(len(tasks))} - {1}:
        assert_same_trial(of(together, index), alone(tasks[index]))


def test_members_share_the_data(monkeypatch):
    tasks = members("classification, adam")
    loads = []
    original = type(tasks[0]).load_data
    monkeypatch.setattr(type(tasks[0]), "load_data", lambda task, device: loads.append(task) or original(task, device))
    next(type(tasks[0]).run_stacked(tasks, CPU, [None] * len(tasks)))
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("forecasting", {"model": "last_year"}),
        ("classification", {"precision": "bf16 channels_last compiled"}),
        ("classification", {"precision": "bf16 channels_last cuda_graphs"}),
        ("classification", {"precision": "fp16 channels_last"}),
        ("representation", {"precision": "fp32 compiled"}),
        ("representation", {"method": "pca"}),
        ("sentiment", {"bidirectional": True}),
        *((name, {}) for name in ("colouring", "denoising", "generation", "text_generation", "transfer")),
    ],
)
def test_these_trials_cannot_be_stacked(name, changed):
    assert build(name, **changed).stack_key() is None


@pytest.mark.parametrize(
    ("name", "a", "b", "equal"),
    [
        ("classification", {"dropout": 0.1}, {"dropout": 0.2}, True),
        ("classification", {"dropout": 0.0}, {"dropout": 0.2}, False),
        ("classification", {"widths": [4]}, {"widths": [5]}, False),
        ("classification", {"precision": "auto"}, {"precision": "fp32"}, False),
        ("sentiment", {"model": "average", "bidirectional": True}, {"model": "average", "bidirectional": True, "lr": 1.0}, True),
        ("forecasting", {"window": 4}, {"window": 5}, False),
    ],
)
def test_trials_with_equal_keys_are_those_of_equal_structure(name, a, b, equal):
    keys = [build(name, **changed).stack_key() for changed in (a, b)]
    assert None not in keys
    assert (keys[0] == keys[1]) is equal


@pytest.mark.parametrize("name", ["forecasting", "classification", "sentiment", "representation", "tabular"])
def test_a_stacks_step_reads_nothing_from_the_device(name):
    tasks = [make_task(name, **STEPPED[name] | {"seed": seed}) for seed in (3, 4)]

    def first_members() -> Iterator[Progress]:
        for step in type(tasks[0]).run_stacked(tasks, CPU, [None, None]):
            yield step[0]

    checked, stray = stray_synchronisations(first_members(), watch_cpu)
    assert checked > 1
    assert stray == []


def test_the_speed_is_a_members_own():
    tasks = members("forecasting")
    *_, last = stacked(tasks)
    assert len({one.metrics["time/windows_per_s"] for one in last.values()}) == 1


def test_trials_that_are_dropped_in_the_middle_need_no_further_step():
    run = type(members("forecasting")[0]).run_stacked(members("forecasting"), CPU, [None] * 3)
    assert len(list(itertools.islice(run, 4))) == 4
    run.close()
