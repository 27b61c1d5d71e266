"""CartPole trials trained as one model give bit for bit the numbers that each of them gives alone, whatever the others do."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from ddl import checkpoints
from ddl.devices import Device
from ddl.progress import Diverged, Progress, State
from ddl.sweeps.first_steps import state_digest
from ddl.tasks.cartpole import CartPole, CartPoleTask
from ddl.tasks.cartpole_table import CartPoleTable
from tests.tasks.steps import without_times

from .agents import STRATEGIES
from .test_tasks import task_of

CPU = Device(torch.device("cpu"))
SIZES = ("task.env_steps=480", "task.evaluate_every=160", "task.evaluation_episodes=5")
SWEEPS = ("cartpole", "cartpole_table")
EVERY = 32
"""Env steps between two compared states: a rollout of `cartpole`, two steps of `cartpole_table`."""


def members(sweep: str) -> list[CartPoleTask]:
    """Five trials that differ in everything in which a stack's may: each strategy, then the first one with another seed."""
    sizes = ("task.learning_starts=64", "task.replay_size=300") if sweep == "cartpole" else ()
    task = task_of(sweep, *SIZES, *sizes)
    made = []
    for number, (agent, policy) in enumerate([*STRATEGIES, STRATEGIES[0]]):
        changed: dict[str, Any] = {"seed": number, "agent": agent, "policy": policy, "temperature": 0.025 * (1 + number)}
        changed |= {"epsilon_start": 1 - 0.1 * number, "epsilon_end": 0.01 * number, "epsilon_decay_steps": 100 * (1 + number)}
        changed |= {"gamma": 0.99 - 0.02 * number, "alpha": 1 - 0.2 * number}
        changed |= {"lr": 10.0 ** -(1 + number / 2)} if sweep == "cartpole" else {}
        made.append(replace(task, **changed))
    return made


Row = tuple[int, int, dict[str, float], dict[str, Any], str, str | None, str]


def row(progress: Progress) -> Row:
    """All of a `Progress`, without times: numbers exactly, figures and the tensors and counts of the state as their hashes."""
    digest = ""
    if progress.step % EVERY == 0:
        state = progress.state()
        rest = [state["env_steps"], *({k: v for k, v in s.items() if k != "best_parameters"} for s in state["scores"])]
        for score in rest[1:]:
            score["solved"] = without_times(score["solved"] or {})
        digest = state_digest(state) + repr(rest)
    figures = hashlib.sha256(b"".join(progress.figures.values())).hexdigest()
    loss = None if progress.loss is None else progress.loss.item().hex()
    return progress.step, progress.total_steps, without_times(dict(progress.metrics)), dict(progress.metadata), figures, loss, digest


def train_alone(task: CartPoleTask, resume: State | None = None) -> list[Row]:
    return [row(progress) for progress in task.run(CPU, resume)]


def train_stacked(
    tasks: Sequence[CartPoleTask], resume: Sequence[State | None] | None = None, leaving: dict[int, Collection[int]] | None = None
) -> tuple[list[list[Row]], dict[int, str]]:
    """Rows of each member, and why members diverged. `leaving` maps a step to the members that leave after it."""
    rows: list[list[Row]] = [[] for _ in tasks]
    diverged = {}
    steps = type(tasks[0]).run_stacked(tasks, CPU, resume or [None] * len(tasks))
    step = next(steps, None)
    while step is not None:
        at = 0
        for index, progress in step.items():
            if isinstance(progress, Diverged):
                assert index not in diverged, "a member that diverged has left"
                diverged[index] = str(progress)
            else:
                rows[index].append(row(progress))
                at = progress.step
        try:
            step = steps.send((leaving or {}).get(at))
        except StopIteration:
            step = None
    return rows, diverged


@pytest.mark.parametrize("sweep", SWEEPS)
def test_trials_trained_as_one_model_give_the_numbers_of_each_alone(sweep):
    tasks = members(sweep)
    assert len({task.stack_key() for task in tasks}) == 1
    stacked, diverged = train_stacked(tasks)

    assert not diverged
    for task, rows in zip(tasks, stacked, strict=True):
        assert rows == train_alone(task)
        assert [step for step, _, metrics, *_ in rows if metrics] == [0, 160, 320, 480]
        assert "test/episode_return" in rows[-1][2]
    assert len({rows[-1][-1] for rows in stacked}) == len(tasks), "no two members have the same state"


def states_at(tasks: Sequence[CartPoleTask], step: int, tmp_path) -> list[State]:
    """States after `step`, each stored and read as a checkpoint; all but the first two are of a stack."""
    folders = [tmp_path / str(index) for index in range(len(tasks))]
    for task, folder in list(zip(tasks, folders, strict=True))[:2]:
        progress = next(progress for progress in task.run(CPU) if progress.step == step)
        checkpoints.store(folder, "it", step, progress.state())
    steps = type(tasks[0]).run_stacked(tasks[2:], CPU, [None] * len(tasks[2:]))
    for progress, folder in zip(next(item for item in steps if item[0].step == step).values(), folders[2:], strict=True):
        checkpoints.store(folder, "it", step, progress.state())
    found = [checkpoints.newest(folder, "it") for folder in folders]
    return [state for _, state in found]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_trials_resume_in_any_stack_from_states_of_any_other(sweep, tmp_path):
    tasks = members(sweep)
    states = states_at(tasks, 256, tmp_path)
    expected = [[item for item in train_alone(task) if item[0] > 256] for task in tasks]

    for group in ([3, 0], [4, 1, 2]):
        found, _ = train_stacked([tasks[index] for index in group], [states[index] for index in group])
        assert found == [expected[index] for index in group]
    assert train_alone(tasks[2], states[2]) == expected[2]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_members_that_leave_change_nothing_for_the_others(sweep):
    tasks = members(sweep)
    # The second at an evaluation, between evaluations two at once, and one that has left already.
    found, _ = train_stacked(tasks, leaving={160: [1], 224: {0, 3}, 320: [1]})

    assert [rows[-1][0] for rows in found] == [224, 160, 480, 224, 480]
    for task, rows in zip(tasks, found, strict=True):
        assert rows == train_alone(task)[: len(rows)]


def test_a_step_takes_no_time_for_members_that_left(monkeypatch):
    tasks, sizes = members("cartpole"), []
    baddbmm = torch.baddbmm
    monkeypatch.setattr(torch, "baddbmm", lambda bias, *rest: sizes.append(len(bias)) or baddbmm(bias, *rest))
    steps = CartPole.run_stacked(tasks, CPU, [None] * 5)
    while next(steps)[0].step < 96:
        pass
    assert set(sizes) == {5}
    steps.send([0, 1, 4])
    sizes.clear()
    assert set(next(steps)) == {2, 3}
    assert set(sizes) == {2}


def test_a_stack_ends_once_all_have_left():
    steps = CartPoleTable.run_stacked(members("cartpole_table"), CPU, [None] * 5)
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(range(5))


def test_a_member_that_diverges_leaves_at_the_step_at_which_it_ends_alone():
    tasks = members("cartpole")
    tasks[1] = replace(tasks[1], lr=1e38)
    found, diverged = train_stacked(tasks)

    alone: list[Row] = []
    with pytest.raises(Diverged, match="Q values are not finite") as ended:
        alone.extend(map(row, tasks[1].run(CPU)))
    assert diverged == {1: str(ended.value)}
    assert found[1] == alone
    assert alone[-1][0] == 128, "the last step before the first evaluation"
    for index in (0, 2, 3, 4):
        assert found[index] == train_alone(tasks[index])


def test_a_state_is_readable_after_the_last_step():
    *_, last = CartPole.run_stacked(members("cartpole")[:2], CPU, [None] * 2)
    assert [last[index].state()["scores"][0]["episodes"] for index in range(2)] == [
        last[index].metrics["train/episodes"] for index in range(2)
    ]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_what_a_stack_shares_is_its_key(sweep):
    task = task_of(sweep, *SIZES)
    shared = {
        "env_steps": 960,
        "envs": 8,
        "optimistic": False,
        "evaluate_every": 96,
        "evaluation_episodes": 7,
        "environment": "CartPole-v0",
    }
    shared |= {"hidden": [8], "lr_end": 0.5, "batch_size": 8} if sweep == "cartpole" else {"alpha_end": 0.5}
    for name, value in shared.items():
        assert replace(task, **{name: value}).stack_key() != task.stack_key(), name
    assert replace(task, seed=9).stack_key() == task.stack_key()


def test_a_trial_with_env_runners_or_of_rllib_is_trained_alone():
    assert task_of("cartpole", "task.num_env_runners=2").stack_key() is None
    own = task_of("cartpole_rllib")
    assert [replace(own, algorithm=name).can_stack() for name in ("own", "rllib_dqn", "rllib_ppo")] == [True, False, False]
