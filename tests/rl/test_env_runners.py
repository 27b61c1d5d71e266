"""Env runners in processes of their own: the same numbers, whatever becomes of them."""

import os
import signal
import threading
import time

import pytest
import torch

from ddl.rl.env_runners import RayRunners, local_sampler, private_ray
from ddl.rl.rollouts import Rollout
from ddl.rl.training import VectorisedTraining
from ddl.rl.vectorised_agents import VectorisedAgents

from .stacks import members, settings

CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    with private_ray(2):
        yield


def same(ours: Rollout, theirs: Rollout) -> None:
    assert torch.equal(ours.rows, theirs.rows)
    assert ours.ended.tolist() == theirs.ended.tolist()
    assert torch.equal(ours.state.physics, theirs.state.physics)
    assert torch.equal(ours.state.steps, theirs.state.steps)


def test_several_runners_give_the_numbers_of_none():
    expected = list(VectorisedTraining(members(1), settings(env_steps=640), CPU).run())[-1].measured
    remote = list(VectorisedTraining(members(1), settings(env_steps=640, num_env_runners=3), CPU).run())[-1].measured
    for index in range(4):
        assert {k: v for k, v in remote[index].items() if "time/" not in k} == {
            k: v for k, v in expected[index].items() if "time/" not in k
        }


def test_a_killed_runner_is_replaced_and_nothing_is_lost():
    chosen = settings(num_env_runners=2)
    stack = VectorisedAgents(members(1), CPU)
    local = local_sampler(stack, chosen, 0, chosen.envs)
    parameters = local._network.initial(stack.seeds)
    with RayRunners(stack, chosen) as runners:
        state = runners.start()
        first = runners.sample(parameters, state, 0, 40)
        import ray

        victim = ray.get(runners._actors[1].process_id.remote())
        os.kill(victim, signal.SIGKILL)
        second = runners.sample(parameters, first.state, 40, 40)
        third = runners.sample(parameters, second.state, 80, 10)
        assert runners.replaced == 1
    expected = local.sample(parameters, local.start(), 0, 40)
    same(first, expected)
    same(second, local.sample(parameters, expected.state, 40, 40))
    assert third.rows.shape == (4, 10, 16, 11)


def test_a_runner_that_hangs_is_replaced():
    chosen = settings(num_env_runners=1, runner_timeout_s=8.0)
    stack = VectorisedAgents(members(1), CPU)
    local = local_sampler(stack, chosen, 0, chosen.envs)
    parameters = local._network.initial(stack.seeds)
    with RayRunners(stack, chosen) as runners:
        import ray

        state = runners.start()
        victim = ray.get(runners._actors[0].process_id.remote())
        os.kill(victim, signal.SIGSTOP)
        began = time.monotonic()
        found = runners.sample(parameters, state, 0, 5)
        assert runners.replaced == 1
        assert time.monotonic() - began < 60
    same(found, local.sample(parameters, local.start(), 0, 5))


def test_runners_that_all_die_end_in_an_error_that_names_them(monkeypatch):
    chosen = settings(num_env_runners=1)
    stack = VectorisedAgents(members(1), CPU)
    monkeypatch.setattr("ddl.rl.env_runners.ATTEMPTS", 2)
    with RayRunners(stack, chosen) as runners:
        state = runners.start()
        bad = torch.zeros(4, 3)  # not this network's parameters
        with pytest.raises(Exception, match=r"invalid|shape|size"):
            runners.sample(bad, state, 0, 1)
        stop = threading.Event()
        killer = threading.Thread(target=_kill_all, args=(runners, stop))
        killer.start()
        try:
            with pytest.raises(RuntimeError, match="env runner 0: 2 in a row died"):
                runners.sample(torch.zeros(4, local_sampler(stack, chosen, 0, 16)._network.parameters_per_member), state, 0, 100_000_000)
        finally:
            stop.set()
            killer.join()


def _kill_all(runners: RayRunners, stop: threading.Event) -> None:
    import ray

    while not stop.is_set():
        for actor in list(runners._actors):
            ray.kill(actor)
        time.sleep(0.2)
