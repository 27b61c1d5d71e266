"""CartPole with Q-learning and SARSA on a network, epsilon-greedy and softmax (Karshenas, section 6 and 7.6)."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len
from pydantic import AfterValidator, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Diverged, Progress, State
from ddl.rl import environments
from ddl.rl.film_strip import film_strip
from ddl.rl.training import VectorisedTraining
from ddl.rl.vectorised_agents import AgentSettings, TrainingSettings
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction, Number, Positive, Task

Probability = Annotated[Number, Ge(0), Le(1)]
UpToOne = Annotated[Number, Gt(0), Le(1)]


def known_environment(name: str) -> str:
    environments.find_environment(name)
    return name


Environment = Annotated[str, AfterValidator(known_environment)]


@dataclass(frozen=True, config=STRICT)
class CartPoleTask(Task):
    """One agent, whatever it keeps its values in: a stack of one member. Steps are env steps."""

    strategies = ()

    environment: Environment
    agent: Literal["q_learning", "sarsa"]
    policy: Literal["epsilon_greedy", "softmax"]
    temperature: Positive
    """Of softmax (equation 6); epsilon_greedy ignores it."""
    epsilon_start: Probability
    """Of epsilon_greedy, falling linearly to `epsilon_end` over the first `epsilon_decay_steps` env steps; softmax ignores all three."""
    epsilon_end: Probability
    epsilon_decay_steps: Count
    alpha: UpToOne
    """Step size of equations 2 and 3: how far towards its target Q(s, a) is asked to move. At 1, equations 4 and 5."""
    gamma: Fraction
    optimistic: bool
    """Let every action start at the greatest value there can be, 1 / (1 - gamma), instead of 0."""
    env_steps: Count
    envs: Count
    """Environments stepped at once."""
    evaluate_every: Count
    """Env steps."""
    evaluation_episodes: Count

    def metadata(self, parameters: int) -> dict[str, Any]:
        """What the trial says of itself (`Progress.metadata`); it is evaluated before the first step and after the last too.

        The first evaluation is no measure of the others: a good agent's episodes last to the limit. All episodes are stepped
        at once, and a step without learning takes about a third of one with it.
        """
        return {
            "environment": self.environment,
            "parameters": parameters,
            "evaluations": self.env_steps // self.evaluate_every + 2,
            "evaluation_steps": environments.find_environment(self.environment).step_limit * self.envs / 3,
        }

    def member(self, lr: float) -> AgentSettings:
        return AgentSettings(
            seed=self.seed, agent=self.agent, policy=self.policy, temperature=self.temperature, epsilon_start=self.epsilon_start,
            epsilon_end=self.epsilon_end, epsilon_decay_steps=self.epsilon_decay_steps, lr=lr, gamma=self.gamma, alpha=self.alpha,
        )  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class CartPole(CartPoleTask):
    """An agent whose values are a network's."""

    lr: Positive
    """Of Adam, falling linearly to the share `lr_end` of itself."""
    lr_end: Probability
    lr_solved: Probability
    """A further factor once the environment is solved: what is good should not be unlearnt. At 1 nothing changes then."""
    hidden: Annotated[list[Count], Len(1, 4)]
    """Units of the network's hidden layers."""
    rollout_steps: Count
    """Steps in each environment between updates."""
    updates: Count
    """After each rollout."""
    batch_size: Count
    replay_size: Count
    learning_starts: CountOrZero
    """Env steps before the first update."""
    target_rate: UpToOne
    """How far the target network moves towards the newest weights at each update; 1: there is no target network."""
    average_rate: UpToOne
    """The same for the averaged weights, which are evaluated."""
    num_env_runners: CountOrZero
    """0 samples in this process; N starts N processes that share the environments."""
    runner_timeout_s: Positive | None
    """A runner that has not answered by then is replaced. Only with runners; null for the default."""

    @field_validator("num_env_runners")
    @classmethod
    def _has_environments(cls, number: int, info: ValidationInfo) -> int:
        if number > info.data.get("envs", number):
            raise ValueError(f"{number} runners cannot share {info.data['envs']} environments. Take as many at most, or raise envs.")
        return number

    @field_validator("runner_timeout_s")
    @classmethod
    def _has_runners(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        if seconds is not None and info.data.get("num_env_runners") == 0:
            raise ValueError("there are no runners to time: num_env_runners is 0. Set that, or leave this null.")
        return seconds

    @field_validator("replay_size")
    @classmethod
    def _holds_a_rollout(cls, size: int, info: ValidationInfo) -> int:
        rollout = info.data.get("envs", 0) * info.data.get("rollout_steps", 0)
        if size < rollout:
            raise ValueError(f"must hold one rollout, {rollout} transitions (envs times rollout_steps).")
        return size

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        training = VectorisedTraining([self.member(self.lr)], self.settings(), device.torch)
        if resume is not None:
            training.load(resume)
        metadata = self.metadata(training.network.parameters_per_member) | {"untimed_steps": self.learning_starts}
        for step in training.run():
            last = step.env_steps >= self.env_steps
            if step.diverged:
                raise Diverged(step.diverged[0])
            metrics = step.measured.get(0, {})
            yield Progress(
                step=min(step.env_steps, self.env_steps),
                total_steps=self.env_steps,
                state=step.state,
                metrics=metrics | self._tested(training) if last else metrics,
                metadata=metadata if step.env_steps == 0 else {},
                figures={"learned_episode.png": self._film(training)} if last else {},
                loss=None if step.td_error is None else step.td_error[0],
            )

    def settings(self) -> TrainingSettings:
        return TrainingSettings(
            environment=self.environment, hidden=tuple(self.hidden), optimistic=self.optimistic, envs=self.envs,
            rollout_steps=self.rollout_steps, updates=self.updates, batch_size=self.batch_size, replay_size=self.replay_size,
            learning_starts=self.learning_starts, env_steps=self.env_steps, lr_end=self.lr_end, lr_solved=self.lr_solved, target_rate=self.target_rate,
            average_rate=self.average_rate, evaluate_every=self.evaluate_every, evaluation_episodes=self.evaluation_episodes,
            evaluate_from=0.0, num_env_runners=self.num_env_runners, runner_timeout_s=self.runner_timeout_s,
        )  # fmt: skip

    @staticmethod
    def _tested(training: VectorisedTraining) -> dict[str, float]:
        """The best weights by validation, on episodes that had no part in choosing them."""
        return {"test/episode_return": training.greedy([0], training.best(), "test")[0]}

    def _film(self, training: VectorisedTraining) -> bytes:
        return film_strip(training.values(training.best()), training.environment, self.seed, training.stack.device)
