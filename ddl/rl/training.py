"""Training loop of vectorised agents: rollouts, updates, greedy evaluations, best parameters and checkpoints."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl.environments import EnvState, find_environment
from ddl.rl.evaluation import greedy_returns
from ddl.rl.scores import AgentScore
from ddl.rl.settings import AgentSettings, SharedSettings
from ddl.rl.vectorised_agents import VectorisedAgents

CHECK_EVERY = 100
"""Updates between checks for agents with NaN or infinite parameters, and the most rollouts between two counts of the episodes that
ended: reading the result synchronises the device."""


@dataclass(frozen=True)
class TrainingStep:
    """A finished rollout and its updates. `env_steps` counts the steps of each agent.

    `measured` maps the index of an agent to its metrics, and is empty between evaluations. `diverged` maps the index of every
    diverged agent to the reason. `td_error` [agents] is the mean absolute TD error in units of the return, None without an
    update. `state` returns an agent's state for a checkpoint.
    """

    env_steps: int
    measured: dict[int, dict[str, float]]
    diverged: dict[int, str]
    td_error: Tensor | None
    state: Callable[[int], State]


@dataclass
class Clock:
    """Training time in seconds, without the time that the consumer of the steps takes."""

    before_s: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds up to now; only valid while the clock is running."""
        return self.before_s + time.perf_counter() - self._began

    def pause(self) -> None:
        """Stop the clock."""
        self.before_s = self.seconds

    def resume(self) -> None:
        """Start the clock again."""
        self._began = time.perf_counter()


class Training(ABC):
    """Training of vectorised agents whose action values follow from parameters [agents, ...].

    Iterate `run` to train. `best_values` can be called at any time; `scores` lack the episodes since the last evaluation or `state`.
    """

    settings: SharedSettings
    scores: list[AgentScore]

    def __init__(self, agents: Sequence[AgentSettings], settings: SharedSettings, device: torch.device, stop_when_solved: bool = False):
        """`stop_when_solved`: end as soon as every agent that has not diverged has solved the environment."""
        self.agents, self.settings, self.device = VectorisedAgents(agents, device), settings, device
        self.environment = find_environment(settings.environment)
        self._stop_when_solved = stop_when_solved
        self._env_steps, self._clock, self._started = 0, Clock(), False
        self._earlier_s = [0.0] * len(agents)
        self._env_state = self.environment.start(self.agents.seeds, "first episodes", settings.envs, device)
        self._lengths: list[Tensor] = []

    @property
    @abstractmethod
    def parameters_per_agent(self) -> int:
        """Number of parameters of one agent."""

    @abstractmethod
    def values(self, parameters: Tensor) -> Callable[[EnvState], Tensor]:
        """Function from states to action values [agents, actions, envs], or to numbers in the same order."""

    @abstractmethod
    def _evaluated(self) -> Tensor:
        """Parameters [agents, ...] that are evaluated."""

    @abstractmethod
    def _advance(self) -> Tensor | None:
        """Step the environments and learn; returns the mean absolute TD error [agents], None without an update."""

    @torch.inference_mode()  # a sixth faster: the gradient is written out, so autograd need not look at the operations
    def run(self) -> Iterator[TrainingStep]:
        """Train up to the last env step and yield after every step. A new training also yields a first evaluation."""
        total, every = self.settings.env_steps, self.settings.evaluate_every
        if not self._started:
            self._started = True
            yield from self._yield_step(None, self._evaluate(None))
        while self._env_steps < total and not self._finished():
            before = self._env_steps
            td_error = self._advance()
            due = self._env_steps // every > before // every or self._env_steps >= total
            yield from self._yield_step(td_error, self._evaluate(td_error) if due else {})

    def _collect(self, lengths: Tensor) -> None:
        """Collect the lengths of episodes that ended (`Rollout.lengths`), and count them if it is time."""
        self._lengths.append(lengths)
        if len(self._lengths) == CHECK_EVERY:
            self._count_episodes()

    def _count_episodes(self) -> None:
        """Add the collected episodes to the scores."""
        if self._lengths:
            lengths = torch.cat(self._lengths).cpu()
            for agent, score in enumerate(self.scores):
                for length in lengths[:, agent][lengths[:, agent] > 0].tolist():
                    score.add(length)
            self._lengths = []

    def _yield_step(self, td_error: Tensor | None, measured: dict[int, dict[str, float]]) -> Iterator[TrainingStep]:
        diverged = {index: score.diverged for index, score in enumerate(self.scores) if score.diverged}
        self._clock.pause()
        yield TrainingStep(self._env_steps, measured, diverged, td_error, self.state)
        self._clock.resume()

    def _finished(self) -> bool:
        running = [score for score in self.scores if not score.diverged]
        return not running or (self._stop_when_solved and all(score.solved for score in running))

    def _evaluate(self, td_error: Tensor | None) -> dict[int, dict[str, float]]:
        """Metrics of every agent that has not diverged; its score and, if it is newly solved, its learner are updated."""
        self._count_episodes()
        running = [index for index, score in enumerate(self.scores) if not score.diverged]
        chosen = [index for index in running if self.scores[index].recent_return >= self.settings.evaluate_from]
        if self._stop_when_solved:
            chosen = [index for index in chosen if not self.scores[index].solved]
        parameters, threshold = self._evaluated(), self.environment.solved_return
        means = self.greedy(chosen, parameters, f"val {self._env_steps}")
        candidates = [index for index in chosen if means[index] >= threshold and not self.scores[index].solved]
        confirmed = self.greedy(candidates, parameters, f"confirm {self._env_steps}")
        for index in chosen:
            score = self.scores[index]
            if means[index] > score.best:
                score.best, score.best_parameters = means[index], parameters[index].clone()
            if confirmed.get(index, 0.0) >= threshold:
                score.solve(self._env_steps, self._earlier_s[index] + self._clock.seconds)
        return {index: self.scores[index].metrics(self._env_steps, means.get(index)) for index in running}

    def greedy(self, indices: Sequence[int], parameters: Tensor, purpose: str) -> dict[int, float]:
        """Mean greedy return of the agents `indices` with `parameters` [agents, ...]; use a new `purpose` for new episodes."""
        if not indices:
            return {}
        seeds = [self.agents.seeds[index] for index in indices]
        values, episodes = self.values(parameters[list(indices)]), self.settings.evaluation_episodes
        returns = greedy_returns(values, self.environment, seeds, purpose, episodes, self.device)
        return dict(zip(indices, returns.mean(1).tolist(), strict=True))

    def best(self) -> Tensor:
        """Each agent's best parameters [agents, ...], chosen by validation."""
        return torch.stack([score.best_parameters.to(self.device) for score in self.scores])

    def best_values(self) -> Callable[[EnvState], Tensor]:
        """The `values` of the best parameters."""
        return self.values(self.best())

    def keep(self, indices: Sequence[int]) -> Self:
        """A training of the agents `indices` only, which continues after the last step of this one."""
        kept = type(self)([self.agents.settings[index] for index in indices], self.settings, self.device, self._stop_when_solved)
        kept.load([self.state(index) for index in indices])
        return kept

    def state(self, agent: int) -> State:
        """State of one agent for a checkpoint, equal to that of the agent trained alone. Call it before the next step.

        The tensors are views with an axis of one agent.
        """
        self._count_episodes()
        return {
            "env_steps": self._env_steps,
            "seconds": self._earlier_s[agent] + self._clock.before_s,
            "physics": self._env_state.physics[:, agent : agent + 1],
            "episode_steps": self._env_state.steps[agent : agent + 1],
            "scores": [self.scores[agent].state()],
        }

    def load(self, states: Sequence[State]) -> None:
        """Restore a `state` for each agent, so that `run` continues after the step that they were taken at.

        Raises ValueError if the states are not of the same step.
        """
        if len(steps := {state["env_steps"] for state in states}) > 1:
            raise ValueError(f"agents resume together from states of the same step only, not of {sorted(steps)} env steps")
        self._env_steps, self._clock, self._started = steps.pop(), Clock(), True
        self._earlier_s = [state["seconds"] for state in states]
        physics = torch.cat([state["physics"] for state in states], dim=1)
        self._env_state = EnvState(physics, torch.cat([state["episode_steps"] for state in states])).to(self.device)
        self.scores = [AgentScore.of(state["scores"][0]) for state in states]
