"""CartPole with RLlib's DQN and PPO next to ddl's own agents, in one sweep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from ddl.progress import Progress, State, alone
from ddl.tasks.cartpole import CartPole, progress_of
from ddl.tasks.task import STRICT, Count

if TYPE_CHECKING:
    from ddl.devices import Device


@dataclass(frozen=True, config=STRICT)
class CartPoleRLlib(CartPole):
    """An agent of ddl or of RLlib. RLlib's algorithms use the hyperparameters of RLlib's CartPole examples."""

    algorithm: Literal["own", "rllib_dqn", "rllib_ppo"]
    """Training algorithm: `own` as in the task `cartpole`; RLlib's use only its environment, seed, evaluation and `num_env_runners`."""
    dqn_env_steps: Count
    """Length of training in env steps with `rllib_dqn`."""
    ppo_env_steps: Count
    """Length of training in env steps with `rllib_ppo`."""

    def uses_ray(self) -> bool:
        return self.algorithm != "own" or super().uses_ray()

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        if self.algorithm == "own":
            yield from super().run(device, resume)
            return
        from ddl.rl.environments import find_environment
        from ddl.rl.rllib import RLlibAgent

        name = self.algorithm.removeprefix("rllib_")
        env_steps = self.dqn_env_steps if name == "dqn" else self.ppo_env_steps
        environment = find_environment(self.environment)
        agent = RLlibAgent(name, environment, self.seed, env_steps, self.evaluate_every, self.evaluation_episodes, self.num_env_runners)
        if resume is not None:
            agent.load([resume])
        yield from alone(progress_of({0: self}, agent, env_steps, {}))
