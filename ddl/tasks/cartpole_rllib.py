"""CartPole with RLlib's own DQN and PPO, and with our agents, in one ledger."""

from collections.abc import Iterator
from typing import Literal

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.rl import environments
from ddl.rl.film_strip import film_strip
from ddl.rl.rllib import RLlibAgent
from ddl.tasks.cartpole import CartPole
from ddl.tasks.task import STRICT, Count


@dataclass(frozen=True, config=STRICT)
class CartPoleRLlib(CartPole):
    """One agent by one of three hands. RLlib's algorithms have their own hyperparameters, those of its CartPole examples."""

    algorithm: Literal["own", "rllib_dqn", "rllib_ppo"]
    """`own`: as the task `cartpole`. The others heed its environment, evaluation and number of env runners only."""
    dqn_env_steps: Count
    ppo_env_steps: Count

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        if self.algorithm == "own":
            yield from super().run(device, resume)
            return
        name = self.algorithm.removeprefix("rllib_")
        env_steps = self.dqn_env_steps if name == "dqn" else self.ppo_env_steps
        environment = environments.find_environment(self.environment)
        peer = RLlibAgent(name, environment, self.seed, env_steps, self.evaluate_every, self.evaluation_episodes, self.num_env_runners)
        if resume is not None:
            peer.load(resume)
        for step in peer.run():
            metrics, last = step.measured.get(0, {}), step.env_steps >= env_steps
            metadata = {}
            if step.env_steps == 0:
                metadata = {
                    "environment": self.environment,
                    "parameters": peer.parameters,
                    "evaluations": env_steps // self.evaluate_every + 2,
                }
            yield Progress(
                step=min(step.env_steps, env_steps),
                total_steps=env_steps,
                state=step.state,
                # RLlib keeps no best weights: its last ones are what it ends with.
                metrics=metrics | {"test/episode_return": peer.greedy("test")} if last else metrics,
                metadata=metadata,
                figures={"learned_episode.png": film_strip(peer.values(), environment, self.seed, device.torch)} if last else {},
            )
