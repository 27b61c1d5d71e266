"""Training of a stack of agents, from members in to measurements out."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl.draws import UniformDraws
from ddl.rl.env_runners import EnvRunners, make_env_runners, network_of
from ddl.rl.environments import EnvState, find_environment
from ddl.rl.evaluation import greedy_returns
from ddl.rl.learner import QLearner
from ddl.rl.replay import ReplayBuffer
from ddl.rl.scores import AgentScore
from ddl.rl.vectorised_agents import AgentSettings, TrainingSettings, VectorisedAgents

LOOK_EVERY = 100
"""Updates between looks for members that are not a number any more."""


@dataclass(frozen=True)
class TrainingStep:
    """A rollout and its updates are done. `env_steps` is each member's count.

    `measured` maps a member's index to its metrics, and is empty between evaluations; `diverged` maps the index of every
    member that has diverged to the reason. `td_error` [members] is the mean distance to the target, in returns.
    """

    env_steps: int
    measured: dict[int, dict[str, float]]
    diverged: dict[int, str]
    td_error: Tensor | None
    state: Callable[[], State]


@dataclass
class Clock:
    """Seconds trained: what the consumer of the steps does meanwhile is not counted."""

    before_s: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return self.before_s + time.perf_counter() - self._began

    def pause(self) -> None:
        self.before_s = self.seconds

    def go_on(self) -> None:
        self._began = time.perf_counter()


class VectorisedTraining:
    """A stack of agents on the way. Iterating trains; afterwards, or any time, `best` gives each member's best weights."""

    def __init__(self, members: Sequence[AgentSettings], settings: TrainingSettings, device: torch.device, stop_when_solved: bool = False):
        """`stop_when_solved`: end as soon as every member that has not diverged has solved the environment."""
        self.stack, self.settings = VectorisedAgents(members, device), settings
        self.environment = find_environment(settings.environment)
        self.network = network_of(self.stack, settings)
        self.learner = QLearner(self.stack, self.network, settings)
        self.scores = [AgentScore(parameters.clone()) for parameters in self.learner.average]
        self._replay = ReplayBuffer(len(members), settings.replay_size, self.environment.observation_size, device)
        self._draws = UniformDraws(self.stack.seeds, "replay", 2 * settings.batch_size, device)
        self._stop_when_solved = stop_when_solved
        self._env_steps = 0
        self._clock = Clock()
        self._env_state: EnvState | None = None

    def run(self) -> Iterator[TrainingStep]:
        """Train from wherever it stands to the last env step, yielding after every rollout; before the first too, if fresh."""
        settings = self.settings
        with make_env_runners(self.stack, settings) as sampling:
            if self._env_state is None:
                self._env_state = sampling.start()
                yield from self._hand_over(None, self._evaluate())
            while self._env_steps < settings.env_steps and not self._finished():
                td_error = self._rollout(sampling)
                due = self._env_steps % settings.evaluate_every < settings.rollout or self._env_steps >= settings.env_steps
                yield from self._hand_over(td_error, self._evaluate(td_error) if due else {})

    def _hand_over(self, td_error: Tensor | None, measured: dict[int, dict[str, float]]) -> Iterator[TrainingStep]:
        diverged = {index: score.diverged for index, score in enumerate(self.scores) if score.diverged}
        self._clock.pause()
        yield TrainingStep(self._env_steps, measured, diverged, td_error, self.state)
        self._clock.go_on()

    def _finished(self) -> bool:
        running = [score for score in self.scores if not score.diverged]
        return not running or (self._stop_when_solved and all(score.solved for score in running))

    def _rollout(self, sampling: EnvRunners) -> Tensor | None:
        """Step the environments, then learn; each member's distance to its target where something was learnt."""
        settings, learner = self.settings, self.learner
        assert self._env_state is not None
        rollout = sampling.sample(learner.newest, self._env_state, self._env_steps // settings.envs, settings.rollout_steps)
        self._env_state = rollout.state
        self._replay.add(rollout.rows.flatten(1, 2))
        for _, member, _, length in rollout.ended.tolist():
            self.scores[member].add(length)
        self._env_steps += settings.rollout
        if self._env_steps < settings.learning_starts:
            return None
        for _ in range(settings.updates):
            drawn = self._draws.at(learner.updates)
            batch = self._replay.sample(drawn[:, : settings.batch_size])
            td_error = learner.step(batch, drawn[:, settings.batch_size :], self._env_steps)
            if learner.updates % LOOK_EVERY == 0:
                self._look()
        return td_error

    def _look(self) -> None:
        for index, finite in enumerate(self.learner.finite().tolist()):
            score = self.scores[index]
            if not finite and not score.diverged:
                score.diverged = f"Q values are not numbers after {self.learner.updates} updates ({self._env_steps} env steps)"

    def _evaluate(self, td_error: Tensor | None = None) -> dict[int, dict[str, float]]:
        """Greedy episodes of the average weights, and what else there is to say of each member that has not diverged."""
        self._look()
        settings = self.settings
        alive = [index for index, score in enumerate(self.scores) if not score.diverged]
        chosen = [index for index in alive if self.scores[index].recent_return >= settings.evaluate_from]
        if self._stop_when_solved:
            chosen = [index for index in chosen if not self.scores[index].solved]
        began = time.perf_counter()
        means = self.greedy(chosen, self.learner.average, f"val {self._env_steps}")
        again = [i for i in chosen if means[i] >= self.environment.solved_return and not self.scores[i].solved]
        confirmed = self.greedy(again, self.learner.average, f"confirm {self._env_steps}")
        took = time.perf_counter() - began
        for index in chosen:
            score = self.scores[index]
            if means[index] > score.best:
                score.best, score.best_parameters = means[index], self.learner.average[index].clone()
            if confirmed.get(index, 0.0) >= self.environment.solved_return:
                score.solve(self._env_steps, self._clock.seconds)
                self.learner.slow(index)
        return {index: self._metrics(index, means.get(index), td_error, took) for index in alive}

    def _metrics(self, index: int, mean: float | None, td_error: Tensor | None, evaluate_s: float) -> dict[str, float]:
        metrics = self.scores[index].metrics(self._env_steps, mean) | {"time/evaluate_s": evaluate_s}
        if td_error is not None:
            metrics |= {"train/td_error": td_error[index].item(), "time/env_steps_per_s": self._env_steps / self._clock.seconds}
        return metrics

    def greedy(self, indices: Sequence[int], parameters: Tensor, purpose: str) -> dict[int, float]:
        """Mean greedy return of these members' `parameters` [members, n], by index; fresh episodes for every purpose."""
        if not indices:
            return {}
        values = self.values(parameters[list(indices)])
        seeds = [self.stack.seeds[index] for index in indices]
        found = greedy_returns(values, self.environment, seeds, purpose, self.settings.evaluation_episodes, self.stack.device)
        return dict(zip(indices, found.mean(1).tolist(), strict=True))

    def values(self, parameters: Tensor) -> Callable[[EnvState], Tensor]:
        """States -> what orders actions as Q does, [members, actions, items]."""
        layers = self.network.layers(parameters)
        return lambda state: self.network.activations(layers, self.environment.observe(state))[-1]

    def best(self) -> Tensor:
        """Each member's best weights [members, n], chosen by validation."""
        return torch.stack([score.best_parameters.to(self.stack.device) for score in self.scores])

    def state(self) -> State:
        assert self._env_state is not None
        return {
            "env_steps": self._env_steps,
            "seconds": self._clock.before_s,
            "learner": self.learner.state(),
            "replay": self._replay.state(),
            "physics": self._env_state.physics,
            "episode_steps": self._env_state.steps,
            "scores": [score.state() for score in self.scores],
        }

    def load(self, state: State) -> None:
        self._env_steps = state["env_steps"]
        self._clock = Clock(state["seconds"])
        self.learner.load(state["learner"])
        self._replay.load(state["replay"])
        device = self.stack.device
        self._env_state = EnvState(state["physics"].to(device), state["episode_steps"].to(device))
        self.scores = [AgentScore.of(score) for score in state["scores"]]
