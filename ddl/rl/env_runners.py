"""Who steps the environments: this process, or env runners in processes of their own.

`num_env_runners` is RLlib's: 0 samples in this process, N makes N Ray actors, which share every member's environments
between them. Both give the same numbers.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ddl.rl.environments import EnvState, VectorisedCartPole, find_environment
from ddl.rl.networks import VectorisedQNetwork
from ddl.rl.rollouts import Rollout, RolloutSampler, join_rollouts
from ddl.rl.vectorised_agents import AgentSettings, TrainingSettings, VectorisedAgents

TIMEOUT_S = 60.0
"""After which a runner that has not answered is taken for dead, where the settings say nothing."""

ATTEMPTS = 5
"""Runners tried in turn for one rollout before it is given up: something kills every one of them."""


@contextlib.contextmanager
def private_ray(cpus: int) -> Iterator[None]:
    """Ray on this machine alone, for as long as it is needed, unless this process has one already."""
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "token"}.items():
        os.environ.setdefault(name, value)
    import ray

    from ddl import ray_private

    if ray.is_initialized():
        yield
        return
    ray_private.start(cpus, 0, {}, quiet=True)
    try:
        yield
    finally:
        ray.shutdown()


class EnvRunners(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def start(self) -> EnvState: ...

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        """`Sampler.sample` over all environments."""
        ...


class LocalRunner(contextlib.AbstractContextManager["LocalRunner"]):
    """Samples in this process."""

    def __init__(self, sampler: RolloutSampler):
        self._sampler = sampler

    def start(self) -> EnvState:
        return self._sampler.start()

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        return self._sampler.sample(parameters, state, step, steps)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class RayRunners:
    """N Ray actors, each with a part of every member's environments.

    The state of the environments comes back with every rollout, so a runner that dies, or does not answer in time, takes
    nothing with it: another is started in its place and asked for the same rollout, which gives the same numbers.
    """

    def __init__(self, stack: VectorisedAgents, settings: TrainingSettings):
        self._stack, self._settings = stack, settings
        self._timeout_s = settings.runner_timeout_s or TIMEOUT_S
        n, envs = settings.num_env_runners, settings.envs
        self._parts = [(envs * index // n, envs * (index + 1) // n) for index in range(n)]
        self._actors: list[Any] = []
        self.replaced = 0

    def __enter__(self) -> Self:
        self._ray = contextlib.ExitStack()
        self._ray.enter_context(private_ray(len(self._parts)))
        self._actors = [self._launch(part) for part in self._parts]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._ray.close()

    def start(self) -> EnvState:
        return local_sampler(self._stack, self._settings, 0, self._settings.envs).start()

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        asked = [(parameters.cpu(), _cpu(state.part(*part)), step, steps) for part in self._parts]
        pending = [actor.sample.remote(*question) for actor, question in zip(self._actors, asked, strict=True)]
        found = [self._wait(index, asked[index], reference) for index, reference in enumerate(pending)]
        return _to(join_rollouts(found), self._stack.device)

    def _wait(self, index: int, question: tuple, reference: Any) -> Rollout:
        """The runner's answer, or its replacement's."""
        import ray

        for _ in range(ATTEMPTS):
            try:
                return ray.get(reference, timeout=self._timeout_s)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                ray.kill(self._actors[index])
                self._actors[index] = self._launch(self._parts[index])
                self.replaced += 1
                reference = self._actors[index].sample.remote(*question)
        raise RuntimeError(f"env runner {index}: {ATTEMPTS} in a row died or did not answer within {self._timeout_s:g} s")

    def _launch(self, part: tuple[int, int]) -> Any:
        import ray

        # No CPU of its own: a trial's processes share what the trial was given.
        remote = ray.remote(num_cpus=0, max_restarts=0)(_Runner)
        return remote.remote(self._stack.members, self._settings, part)


class _Runner:
    """Lives in a Ray actor."""

    def __init__(self, members: Sequence[AgentSettings], settings: TrainingSettings, part: tuple[int, int]):
        torch.set_num_threads(1)
        self._sampler = local_sampler(VectorisedAgents(members, torch.device("cpu")), settings, *part)

    def process_id(self) -> int:
        return os.getpid()

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        return self._sampler.sample(parameters, state, step, steps)


def local_sampler(stack: VectorisedAgents, settings: TrainingSettings, first: int, last: int) -> RolloutSampler:
    return RolloutSampler(stack, network_of(stack, settings), find_environment(settings.environment), settings.envs, first, last)


def network_of(stack: VectorisedAgents, settings: TrainingSettings) -> VectorisedQNetwork:
    inputs, actions = VectorisedCartPole.observation_size, VectorisedCartPole.actions
    return VectorisedQNetwork(inputs, settings.hidden, actions, stack.value_scale, settings.optimistic)


def make_env_runners(stack: VectorisedAgents, settings: TrainingSettings) -> EnvRunners:
    if settings.num_env_runners == 0:
        return LocalRunner(local_sampler(stack, settings, 0, settings.envs))
    return RayRunners(stack, settings)


def _cpu(state: EnvState) -> EnvState:
    return EnvState(state.physics.cpu().contiguous(), state.steps.cpu().contiguous())


def _to(rollout: Rollout, device: torch.device) -> Rollout:
    state = EnvState(rollout.state.physics.to(device), rollout.state.steps.to(device))
    return Rollout(rollout.rows.to(device), rollout.ended, state)
