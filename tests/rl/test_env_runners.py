"""Env runners in Ray actors give the same numbers as sampling in-process, also after failures."""

import os
import signal
import threading
import time

import pytest
import ray
import torch

from ddl.rl.env_runners import RayRunners, make_sampler, private_ray
from ddl.rl.environments import EnvState, find_environment
from ddl.rl.rollouts import Rollout
from ddl.rl.settings import TrainingSettings
from ddl.rl.vectorised_agents import VectorisedAgents
from ddl.rl.vectorised_training import VectorisedTraining
from tests.tasks.steps import without_times

from .agents import agents, settings

CPU = torch.device("cpu")
CARTPOLE = find_environment("CartPole-v1")

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of Ray's own


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    with private_ray(2):
        yield


def start_state(vectorised: VectorisedAgents, chosen: TrainingSettings) -> EnvState:
    return CARTPOLE.start(vectorised.seeds, "first episodes", chosen.envs, CPU)


def same(ours: Rollout, theirs: Rollout) -> None:
    assert torch.equal(ours.rows, theirs.rows)
    assert torch.equal(ours.lengths, theirs.lengths)
    assert torch.equal(ours.state.physics, theirs.state.physics)
    assert torch.equal(ours.state.steps, theirs.state.steps)


def test_several_runners_give_the_same_numbers_as_none():
    expected = list(VectorisedTraining(agents(1), settings(env_steps=640), CPU).run())[-1].measured
    remote = list(VectorisedTraining(agents(1), settings(env_steps=640, num_env_runners=3), CPU).run())[-1].measured
    for index in range(4):
        assert without_times(remote[index]) == without_times(expected[index])


def test_a_killed_runner_is_replaced_and_nothing_is_lost():
    chosen = settings(num_env_runners=2)
    vectorised = VectorisedAgents(agents(1), CPU)
    local = make_sampler(vectorised, chosen, CARTPOLE)
    parameters = local._network.initial(vectorised.seeds)
    with RayRunners(vectorised, chosen, CARTPOLE) as runners:
        state = start_state(vectorised, chosen)
        first = runners.sample(parameters, state, 0, 40)
        import ray

        victim = ray.get(runners._actors[1].process_id.remote())
        os.kill(victim, signal.SIGKILL)
        second = runners.sample(parameters, first.state, 40, 40)
        third = runners.sample(parameters, second.state, 80, 10)
        assert runners.replaced == 1
    expected = local.sample(parameters, start_state(vectorised, chosen), 0, 40)
    same(first, expected)
    same(second, local.sample(parameters, expected.state, 40, 40))
    assert third.rows.shape == (4, 10, 16, 11)


@pytest.mark.campaign
def test_a_runner_that_hangs_is_replaced():
    chosen = settings(num_env_runners=1, runner_timeout_s=8.0)
    vectorised = VectorisedAgents(agents(1), CPU)
    local = make_sampler(vectorised, chosen, CARTPOLE)
    parameters = local._network.initial(vectorised.seeds)
    with RayRunners(vectorised, chosen, CARTPOLE) as runners:
        import ray

        state = start_state(vectorised, chosen)
        victim = ray.get(runners._actors[0].process_id.remote())
        os.kill(victim, signal.SIGSTOP)
        found = runners.sample(parameters, state, 0, 5)
        assert runners.replaced == 1
    same(found, local.sample(parameters, start_state(vectorised, chosen), 0, 5))


def test_runners_that_all_die_end_in_an_error_that_names_them(monkeypatch):
    chosen = settings(num_env_runners=1)
    vectorised = VectorisedAgents(agents(1), CPU)
    monkeypatch.setattr("ddl.rl.env_runners.ATTEMPTS", 2)
    with RayRunners(vectorised, chosen, CARTPOLE) as runners:
        state = start_state(vectorised, chosen)
        bad = torch.zeros(4, 3)  # not this network's parameters
        with pytest.raises(Exception, match=r"invalid|shape|size"):
            runners.sample(bad, state, 0, 1)
        stop = threading.Event()
        killer = threading.Thread(target=_kill_all, args=(runners, stop))
        killer.start()
        try:
            with pytest.raises(RuntimeError, match="env runner 0: 2 in a row died"):
                runners.sample(
                    torch.zeros(4, make_sampler(vectorised, chosen, CARTPOLE)._network.parameters_per_agent), state, 0, 100_000_000
                )
        finally:
            stop.set()
            killer.join()


def _kill_all(runners: RayRunners, stop: threading.Event) -> None:
    import ray

    while not stop.is_set():
        for actor in list(runners._actors):
            ray.kill(actor)
        time.sleep(0.2)


def test_runners_that_do_not_start_leave_no_actor(monkeypatch):
    runners = RayRunners(VectorisedAgents(agents(1), CPU), settings(num_env_runners=2), CARTPOLE)
    launch, launched = runners._launch, []

    def start(part):
        if launched:
            raise OSError("no memory")
        launched.append(launch(part))
        return launched[0]

    monkeypatch.setattr(runners, "_launch", start)
    with pytest.raises(OSError, match="no memory"), runners:
        pass
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(launched[0].process_id.remote(), timeout=60)
