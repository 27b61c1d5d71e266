"""CartPole with Q-learning and SARSA on a table: the textbook form of the rules that the study puts on a network."""

from collections.abc import Iterator
from typing import Literal

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.rl import environments
from ddl.rl.film import strip
from ddl.rl.members import Member
from ddl.rl.tables import TableTraining
from ddl.tasks.cartpole import Environment, Probability, Rate
from ddl.tasks.task import STRICT, Count, Positive, Share, Task


@dataclass(frozen=True, config=STRICT)
class CartPoleTable(Task):
    """One agent: a stack of one member. Steps are env steps. Fields are those of `CartPole` where they have its names."""

    environment: Environment
    agent: Literal["q_learning", "sarsa"]
    policy: Literal["epsilon_greedy", "softmax"]
    temperature: Positive
    epsilon_start: Probability
    epsilon_end: Probability
    epsilon_decay_steps: Count
    alpha: Rate
    """Step size of equations 2 and 3, falling linearly to the share `alpha_end` of itself."""
    alpha_end: Probability
    gamma: Share
    optimistic: bool
    env_steps: Count
    envs: Count
    evaluate_every: Count
    evaluation_episodes: Count

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        member = Member(
            seed=self.seed, agent=self.agent, policy=self.policy, temperature=self.temperature, epsilon_start=self.epsilon_start,
            epsilon_end=self.epsilon_end, epsilon_decay_steps=self.epsilon_decay_steps, lr=1.0, gamma=self.gamma, alpha=self.alpha,
        )  # fmt: skip
        environment = environments.find(self.environment)
        training = TableTraining(
            [member], environment, self.envs, self.env_steps, self.evaluate_every, self.evaluation_episodes, self.alpha_end,
            self.optimistic, device.torch,
        )  # fmt: skip
        if resume is not None:
            training.load(resume)
        facts = {
            "environment": self.environment,
            "parameters": training.table[0].numel(),
            "evaluations": self.env_steps // self.evaluate_every + 2,
        }
        for step in training.run():
            metrics, last = step.measured.get(0, {}), step.env_steps >= self.env_steps
            figures = {}
            if last:
                metrics = metrics | {"test/episode_return": training.greedy(training.best(), "test")[0]}
                figures["learned_episode.png"] = strip(training.values(training.best()), environment, self.seed, device.torch)
            yield Progress(
                step=min(step.env_steps, self.env_steps),
                total_steps=self.env_steps,
                state=step.state,
                metrics=metrics,
                facts=facts if step.env_steps == 0 else {},
                figures=figures,
                loss=None if step.td_error is None else step.td_error[0],
            )
