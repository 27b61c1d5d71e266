"""CartPole with Q-learning and SARSA on a network, epsilon-greedy and softmax (Karshenas, section 6 and 7.6)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Len
from pydantic import AfterValidator, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from ddl.progress import Diverged, Progress, StackStep, StackSteps, State, alone
from ddl.rl.environment_names import ENVIRONMENTS, known_environment
from ddl.rl.settings import CHECKED, AgentSettings, TrainingSettings, check_setting
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction, Number, Positive, Task, Width

if TYPE_CHECKING:
    import torch

    from ddl.devices import Device
    from ddl.rl.rllib import RLlibAgent
    from ddl.rl.training import Training

Probability = Annotated[Number, Ge(0), Le(1)]
UpToOne = Annotated[Number, Gt(0), Le(1)]


Environment = Annotated[str, AfterValidator(known_environment)]


@dataclass(frozen=True, config=STRICT)
class CartPoleTask(Task):
    """One agent on CartPole; base class for action values in networks and in tables. Steps are env steps."""

    strategies = ()
    stackable: ClassVar[tuple[str, ...]] = (
        "agent",
        "policy",
        "temperature",
        "epsilon_start",
        "epsilon_end",
        "epsilon_decay_steps",
        "alpha",
        "gamma",
    )

    environment: Environment
    """Environment by its gymnasium name: CartPole-v0 (200 steps) or CartPole-v1 (500 steps)."""
    agent: Literal["q_learning", "sarsa"]
    """Update rule of the action values (equations 2 to 5)."""
    policy: Literal["epsilon_greedy", "softmax"]
    """Exploration during training; evaluation is greedy."""
    temperature: Positive
    """Temperature T of softmax (equation 6), in units of the return; ignored by epsilon_greedy."""
    epsilon_start: Probability
    """Initial probability of a random action, 0 to 1; ignored by softmax."""
    epsilon_end: Probability
    """Final probability of a random action, 0 to 1; ignored by softmax."""
    epsilon_decay_steps: Count
    """Env steps in which epsilon decays linearly from `epsilon_start` to `epsilon_end`; ignored by softmax."""
    alpha: UpToOne
    """Step size of equations 2 and 3, above 0 and at most 1; with 1 they are equations 4 and 5."""
    gamma: Fraction
    """Discount factor, 0 to below 1."""
    optimistic: bool
    """Start of all action values: true for the highest possible value, 1 / (1 - gamma), false for 0."""
    env_steps: Count
    """Length of training in env steps, summed over all environments."""
    envs: Count
    """Number of environments that are stepped at once."""
    evaluate_every: Count
    """Env steps between two greedy evaluations."""
    evaluation_episodes: Count
    """Episodes per greedy evaluation, including the test."""

    @classmethod
    @abstractmethod
    def make_training(cls, members: Sequence[Self], device: torch.device) -> Training:
        """A new training with an agent for each of `members`, which have equal keys."""

    def metadata(self) -> dict[str, Any]:
        """Keys of `Progress.metadata` that the plan reads; the number of evaluations is added to them."""
        return {"evaluation_steps": self.evaluation_steps}

    def can_stack(self) -> bool:
        return True

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        yield from alone(self.run_stacked([self], device, [resume]))

    @classmethod
    def run_stacked(cls, members: Sequence[Self], device: Device, resume: Sequence[State | None]) -> StackSteps:
        training = cls.make_training(members, device.torch)
        if states := [state for state in resume if state is not None]:
            assert len(states) == len(members), "either all members of a stack resume or none"
            training.load(states)
        present: dict[int, CartPoleTask] = dict(enumerate(members))
        while present:
            steps = progress_of(present, training, members[0].env_steps, members[0].metadata())
            for step in steps:
                diverged = {index for index, progress in step.items() if isinstance(progress, Diverged)}
                if leaving := present.keys() & diverged.union((yield step) or ()):
                    break
            else:
                return
            kept = [agent for agent, index in enumerate(present) if index not in leaving]
            present = {index: member for index, member in present.items() if index not in leaving}
            if present:
                training = training.keep(kept)

    @property
    def evaluation_steps(self) -> float:
        """Env steps of training that take as long as one evaluation; `Progress.metadata` explains the use.

        The time of the first evaluation is not typical: a trained agent's episodes last up to the step limit. All episodes
        are stepped at once, and a step without learning takes about a third of the time.
        """
        step_limit, _ = ENVIRONMENTS[self.environment]
        return step_limit * self.envs / 3


def progress_of(
    members: Mapping[int, CartPoleTask], training: Training | RLlibAgent, env_steps: int, metadata: dict[str, Any]
) -> Iterator[StackStep]:
    """Steps of `training`, which has an agent for each of `members` in their order, up to `env_steps`; the first has `metadata`.

    The last step has each agent's test return and film strip. Both are from the weights that were best in validation. The
    episodes of the test have no part in choosing them.
    """
    from ddl.rl.evaluation import greedy_returns
    from ddl.rl.film_strip import film_strips

    task = next(iter(members.values()))
    for step in training.run():
        known: dict[str, Any] = {}
        if step.env_steps == 0:
            known = {"environment": task.environment, "parameters": training.parameters_per_agent}
            known |= {"evaluations": env_steps // task.evaluate_every + 2} | metadata
        tests: list[dict[str, float]] = []
        strips: list[dict[str, bytes]] = []
        if step.env_steps >= env_steps:
            values, seeds = training.best_values(), [member.seed for member in members.values()]
            returns = greedy_returns(values, training.environment, seeds, "test", task.evaluation_episodes, training.device)
            tests = [{"test/episode_return": mean} for mean in returns.mean(1).tolist()]
            strips = [{"learned_episode.png": strip} for strip in film_strips(values, training.environment, seeds, training.device)]
        losses = None if step.td_error is None else step.td_error.unbind()
        progress: dict[int, Progress | Diverged] = {}
        for agent, index in enumerate(members):
            if agent in step.diverged:
                progress[index] = Diverged(step.diverged[agent])
                continue
            metrics = step.measured.get(agent, {})
            progress[index] = Progress(
                step=min(step.env_steps, env_steps),
                total_steps=env_steps,
                state=partial(step.state, agent),
                metrics=metrics | tests[agent] if tests else metrics,
                metadata=known,
                figures=strips[agent] if strips else {},
                loss=None if losses is None else losses[agent],
            )
        yield progress


@dataclass(frozen=True, config=STRICT)
class CartPole(CartPoleTask):
    """An agent whose action values are a network's."""

    stackable = (*CartPoleTask.stackable, "lr")

    lr: Positive
    """Learning rate of Adam; decays linearly to `lr_end` times this value."""
    lr_end: Probability
    """Final learning rate as a fraction of `lr`, 0 to 1."""
    lr_solved: Probability
    """Factor of the learning rate once the environment is solved, 0 to 1: 0 stops learning, 1 changes nothing."""
    hidden: Annotated[list[Width], Len(1, 4)]
    """Units of each hidden layer, 1 to 4 layers."""
    rollout_steps: Count
    """Steps in each environment between updates."""
    updates: Count
    """Updates after each rollout."""
    batch_size: Count
    """Replayed transitions per update."""
    replay_size: Count
    """Capacity of the replay buffer in transitions, at least `envs` times `rollout_steps`."""
    learning_starts: CountOrZero
    """Env steps before the first update."""
    target_rate: UpToOne
    """Fraction of the distance to the newest weights that the target network moves per update; 1 for no target network."""
    average_rate: UpToOne
    """Fraction of the distance to the newest weights that the evaluated average moves per update; 1 for no average."""
    num_env_runners: CountOrZero
    """Processes that step the environments, at most `envs`; 0 for the trial's own process."""
    runner_timeout_s: Positive | None
    """Seconds without an answer after which an env runner is replaced; null for the default, and without runners."""

    @field_validator(*CHECKED)
    @classmethod
    def _agrees_with_others(cls, value: Any, info: ValidationInfo) -> Any:
        check_setting(str(info.field_name), info.data | {str(info.field_name): value})
        return value

    @classmethod
    def make_training(cls, members: Sequence[Self], device: torch.device) -> Training:
        from ddl.rl.vectorised_training import VectorisedTraining

        return VectorisedTraining([AgentSettings.of(member) for member in members], TrainingSettings.of(members[0]), device)

    def metadata(self) -> dict[str, Any]:
        return super().metadata() | {"untimed_steps": self.learning_starts}

    def uses_ray(self) -> bool:
        return self.num_env_runners > 0

    def can_stack(self) -> bool:
        return not self.uses_ray()
