"""Env runners: sampling in this process, or in several Ray actors that divide every agent's environments among them.

`num_env_runners` has RLlib's meaning: 0 samples in this process, N starts N Ray actors. All give the same numbers.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ddl.rl.environments import EnvState, VectorisedCartPole
from ddl.rl.networks import VectorisedQNetwork
from ddl.rl.rollouts import Rollout, RolloutSampler, join_rollouts
from ddl.rl.settings import AgentSettings, TrainingSettings
from ddl.rl.vectorised_agents import VectorisedAgents

TIMEOUT_S = 60.0
"""Default time after which a runner that has not answered is replaced."""

START_S = 300.0
"""Time for the process of a runner to start."""

ATTEMPTS = 5
"""Runners tried for one rollout before it fails."""


@contextlib.contextmanager
def private_ray(cpus: int) -> Iterator[None]:
    """Start Ray for the duration of the context, reachable from this machine only. Does nothing if Ray is already running."""
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "token"}.items():
        os.environ.setdefault(name, value)
    import ray

    from ddl import ray_private

    if ray.is_initialized():
        yield
        return
    with ray_private.session_folder() as folder:
        ray_private.start(folder, cpus, 0, {}, quiet=True)
        try:
            yield
        finally:
            ray_private.stop()


class Sampler(Protocol):
    """Samples rollouts; a `RolloutSampler` or `RayRunners`."""

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        """See `RolloutSampler.sample`."""
        ...


class RayRunners:
    """N Ray actors, each with a part of every agent's environments. A context manager: actors run between enter and exit.

    Every rollout returns the state of the environments. So a runner that dies or misses the timeout is replaced, and its
    replacement samples the same rollout with the same numbers. `replaced` counts these runners.
    """

    def __init__(self, agents: VectorisedAgents, settings: TrainingSettings, environment: VectorisedCartPole):
        self._agents, self._settings, self._environment = agents, settings, environment
        self._timeout_s = settings.runner_timeout_s or TIMEOUT_S
        n, envs = settings.num_env_runners, settings.envs
        self._parts = [(envs * index // n, envs * (index + 1) // n) for index in range(n)]
        self._actors: list[Any] = []
        self.replaced = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as contexts:
            contexts.enter_context(private_ray(len(self._parts)))
            contexts.callback(self._kill_actors)
            for part in self._parts:
                self._actors.append(self._launch(part))
            self._await_start(self._actors)
            self._contexts = contexts.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._contexts.close()

    def _kill_actors(self) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        """See `RolloutSampler.sample`. Raises RuntimeError if `ATTEMPTS` runners in a row die or miss the timeout."""
        cpu = torch.device("cpu")
        requests = [(parameters.to(cpu), state.part(*part).to(cpu), step, steps) for part in self._parts]
        pending = [actor.sample.remote(*request) for actor, request in zip(self._actors, requests, strict=True)]
        rollouts = [self._wait(index, requests[index], reference) for index, reference in enumerate(pending)]
        return join_rollouts(rollouts).to(self._agents.device)

    def _wait(self, index: int, request: tuple, reference: Any) -> Rollout:
        """Rollout of runner `index`, or of its replacement."""
        import ray

        for _ in range(ATTEMPTS):
            try:
                return ray.get(reference, timeout=self._timeout_s)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                ray.kill(self._actors[index])
                self._actors[index] = self._launch(self._parts[index])
                self.replaced += 1
                self._await_start([self._actors[index]])
                reference = self._actors[index].sample.remote(*request)
        raise RuntimeError(f"env runner {index}: {ATTEMPTS} in a row died or did not answer within {self._timeout_s:g} s")

    def _await_start(self, actors: list[Any]) -> None:
        """Wait until the actors' processes have started, which the timeout of a rollout does not include."""
        import ray

        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):  # their rollouts then fail
            ray.get([actor.process_id.remote() for actor in actors], timeout=START_S)

    def _launch(self, part: tuple[int, int]) -> Any:
        import ray

        # Actors request no CPU from Ray: they use the trial's allocation.
        remote = ray.remote(num_cpus=0, max_restarts=0)(_Runner)
        return remote.remote(self._agents.settings, self._settings, self._environment, part)


class _Runner:
    """The class of the Ray actors."""

    def __init__(self, agents: Sequence[AgentSettings], settings: TrainingSettings, environment: VectorisedCartPole, part: tuple[int, int]):
        torch.set_num_threads(1)
        self._sampler = make_sampler(VectorisedAgents(agents, torch.device("cpu")), settings, environment, part)

    def process_id(self) -> int:
        return os.getpid()

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        return self._sampler.sample(parameters, state, step, steps)


def make_network(agents: VectorisedAgents, settings: TrainingSettings) -> VectorisedQNetwork:
    """The network of these agents."""
    inputs, actions = VectorisedCartPole.observation_size, VectorisedCartPole.actions
    return VectorisedQNetwork(inputs, settings.hidden, actions, agents.value_scale, settings.optimistic)


def make_sampler(
    agents: VectorisedAgents, settings: TrainingSettings, environment: VectorisedCartPole, part: tuple[int, int] | None = None
) -> RolloutSampler:
    """A sampler in this process for the environments from `part[0]` to `part[1] - 1`, all of them by default."""
    first, last = part or (0, settings.envs)
    return RolloutSampler(agents, make_network(agents, settings), environment, settings.envs, first, last)


def make_env_runners(
    agents: VectorisedAgents, settings: TrainingSettings, environment: VectorisedCartPole
) -> contextlib.AbstractContextManager[Sampler]:
    """A context with the sampler for `num_env_runners`."""
    if settings.num_env_runners == 0:
        return contextlib.nullcontext(make_sampler(agents, settings, environment))
    return RayRunners(agents, settings, environment)
