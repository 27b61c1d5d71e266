"""Training of vectorised agents with networks, from replayed transitions."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl.draws import UniformDraws
from ddl.rl.env_runners import Sampler, make_env_runners, make_network
from ddl.rl.environments import EnvState
from ddl.rl.learner import QLearner
from ddl.rl.replay import ReplayBuffer
from ddl.rl.scores import AgentScore
from ddl.rl.settings import AgentSettings, TrainingSettings
from ddl.rl.training import CHECK_EVERY, Training, TrainingStep


class VectorisedTraining(Training):
    """Training of agents whose action values are a network's, from replayed transitions. The average weights are evaluated."""

    settings: TrainingSettings

    def __init__(self, agents: Sequence[AgentSettings], settings: TrainingSettings, device: torch.device, stop_when_solved: bool = False):
        super().__init__(agents, settings, device, stop_when_solved)
        self.network = make_network(self.agents, settings)
        self.learner = QLearner(self.agents, self.network, settings)
        self.scores = [AgentScore(parameters.clone()) for parameters in self.learner.average]
        self._replay = ReplayBuffer(len(agents), settings.replay_size, self.environment.observation_size, device)
        self._draws = UniformDraws(self.agents.seeds, "replay", 2 * settings.batch_size, device)
        self._sampler: Sampler

    @property
    def parameters_per_agent(self) -> int:
        return self.network.parameters_per_agent

    def values(self, parameters: Tensor) -> Callable[[EnvState], Tensor]:
        layers = self.network.layers(parameters)
        return lambda state: self.network.activations(layers, self.environment.observe(state))[-1]

    def _evaluated(self) -> Tensor:
        return self.learner.average

    def run(self) -> Iterator[TrainingStep]:
        with make_env_runners(self.agents, self.settings, self.environment) as self._sampler:
            yield from super().run()

    def _advance(self) -> Tensor | None:
        settings, learner = self.settings, self.learner
        rollout = self._sampler.sample(learner.newest, self._env_state, self._env_steps // settings.envs, settings.rollout_steps)
        self._env_state = rollout.state
        self._replay.add(rollout.rows.flatten(1, 2))
        self._collect(rollout.lengths)
        self._env_steps += settings.envs * settings.rollout_steps
        if self._env_steps < settings.learning_starts:
            return None
        for _ in range(settings.updates):
            uniforms = self._draws.at(learner.updates)
            batch = self._replay.sample(uniforms[:, : settings.batch_size])
            td_error = learner.step(batch, uniforms[:, settings.batch_size :], self._env_steps)
            if learner.updates % CHECK_EVERY == 0:
                self._look()
        return td_error

    def _look(self) -> None:
        """Count the episodes that ended, and find the agents that have diverged."""
        self._count_episodes()
        for score, finite in zip(self.scores, self.learner.finite().tolist(), strict=True):
            if not finite and not score.diverged:
                score.diverged = f"Q values are not finite after {self.learner.updates} updates ({self._env_steps} env steps)"

    def _evaluate(self, td_error: Tensor | None) -> dict[int, dict[str, float]]:
        self._look()
        unsolved = [index for index, score in enumerate(self.scores) if not score.solved]
        began = time.perf_counter()
        measured = super()._evaluate(td_error)
        evaluate_s = time.perf_counter() - began
        for index in unsolved:
            if self.scores[index].solved:
                self.learner.continue_from_average(index)
        for index, metrics in measured.items():
            metrics["time/evaluate_s"] = evaluate_s
            if td_error is not None:
                seconds = self._earlier_s[index] + self._clock.seconds
                metrics |= {"train/td_error": td_error[index].item(), "time/env_steps_per_s": self._env_steps / seconds}
        return measured

    def state(self, agent: int) -> State:
        return super().state(agent) | {"learner": self.learner.state(agent), "replay": self._replay.state(agent)}

    def load(self, states: Sequence[State]) -> None:
        super().load(states)
        self.learner.load([state["learner"] for state in states])
        self._replay.load([state["replay"] for state in states])
