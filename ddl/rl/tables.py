"""Q-learning and SARSA in their textbook form: a table of values over boxes of states, updated at every step.

The boxes are the 162 of Barto, Sutton and Anderson (1983, "Neuronlike adaptive elements ..."): position at +-0.8 m, velocity
at +-0.5 m/s, angle at 0, +-1 and +-6 degrees, angular velocity at +-50 degrees/s.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl.draws import UniformDraws
from ddl.rl.environments import EnvState, VectorisedCartPole
from ddl.rl.evaluation import greedy_returns
from ddl.rl.policies import choose
from ddl.rl.scores import AgentScore
from ddl.rl.training import Clock, TrainingStep
from ddl.rl.update_rules import td_target
from ddl.rl.vectorised_agents import AgentSettings, VectorisedAgents

EDGES = (
    (-0.8, 0.8),
    (-0.5, 0.5),
    tuple(math.radians(degrees) for degrees in (-6, -1, 0, 1, 6)),
    tuple(math.radians(degrees) for degrees in (-50, 50)),
)
"""m, m/s, rad, rad/s."""

BOXES = math.prod(len(edges) + 1 for edges in EDGES)


def boxes(state: EnvState) -> Tensor:
    """The number of the box each environment is in, [members, envs] from 0 to BOXES - 1."""
    found = torch.zeros_like(state.steps)
    for values, edges in zip(state.physics, EDGES, strict=True):
        found = found * (len(edges) + 1) + torch.bucketize(values.contiguous(), values.new_tensor(edges))
    return found


class TableTraining:
    """A stack of members with a table each, [members, boxes, actions]. `Member.lr` is not used: alpha is the step size.

    Every step of a member's `envs` environments updates the table at once; a cell that several of them visit moves by
    alpha times their mean error. SARSA's next action is the very one that is taken next.
    """

    def __init__(
        self, members: Sequence[AgentSettings], environment: VectorisedCartPole, envs: int, env_steps: int, evaluate_every: int, episodes: int,
        alpha_end: float, optimistic: bool, device: torch.device,
    ):  # fmt: skip
        """`alpha` falls linearly to the share `alpha_end` of itself; `optimistic` tables start at 1 / (1 - gamma), others at 0."""
        self.stack, self.environment = VectorisedAgents(members, device), environment
        self._envs, self._total, self._every, self._episodes, self._alpha_end = envs, env_steps, evaluate_every, episodes, alpha_end
        start = self.stack.value_scale if optimistic else torch.zeros_like(self.stack.value_scale)
        self.table = start.expand(-1, BOXES, environment.actions).clone()
        self.scores = [AgentScore(table.clone()) for table in self.table]
        self._draws = UniformDraws(self.stack.seeds, "table", envs * (1 + environment.start_numbers), device)
        begin = UniformDraws(self.stack.seeds, "first episodes", envs * environment.start_numbers, device)
        self._env_state = environment.start(begin.at(0))
        self._env_steps, self._clock = 0, Clock()
        self._actions = torch.zeros_like(self._env_state.steps)

    def run(self) -> Iterator[TrainingStep]:
        if self._env_steps == 0:
            self._actions = self._choose(self._values(self.table, self._env_state))
            yield from self._hand_over(None, self._evaluate())
        while self._env_steps < self._total:
            error = self._step()
            due = self._env_steps % self._every < self._envs or self._env_steps >= self._total
            yield from self._hand_over(error, self._evaluate() if due else {})

    def _hand_over(self, error: Tensor | None, measured: dict[int, dict[str, float]]) -> Iterator[TrainingStep]:
        self._clock.pause()
        yield TrainingStep(self._env_steps, measured, {}, error, self.state)
        self._clock.go_on()

    @staticmethod
    def _values(table: Tensor, state: EnvState) -> Tensor:
        """[members, actions, envs]"""
        index = boxes(state).unsqueeze(2).expand(-1, -1, table.shape[2])
        return table.gather(1, index).transpose(1, 2)

    def _choose(self, values: Tensor) -> Tensor:
        chances = self.stack.policy.probabilities(values, self._env_steps)
        return choose(chances, self._draws.at(self._env_steps // self._envs)[:, : self._envs])

    def _step(self) -> Tensor:
        """One step of every environment and the update from it; each member's mean distance to its target."""
        state, stack = self._env_state, self.stack
        cells = boxes(state) * self.environment.actions + self._actions
        old = self.table.flatten(1).gather(1, cells)
        after, terminated, truncated = self.environment.step(state, self._actions)
        self._env_steps += self._envs
        drawn = self._draws.at(self._env_steps // self._envs)
        following = self._values(self.table, after)
        chances = stack.policy.probabilities(following, self._env_steps)
        bootstrap = stack.agent.bootstrap(following, chances, drawn[:, : self._envs])
        alpha = stack.alpha * (1 - (1 - self._alpha_end) * self._env_steps / self._total)
        change = td_target(torch.ones_like(old), terminated.float(), bootstrap, stack.gamma, old, alpha) - old
        mean = torch.zeros_like(self.table.flatten(1)).scatter_reduce(1, cells, change, "mean", include_self=False)
        self.table += mean.view_as(self.table)
        over = terminated | truncated
        if over.any():
            for member, env in over.nonzero().tolist():
                self.scores[member].add(int(after.steps[member, env]))
            after = self.environment.restart(after, over, drawn[:, self._envs :])
            following = self._values(self.table, after)
            chances = torch.where(over.unsqueeze(1), stack.policy.probabilities(following, self._env_steps), chances)
        self._env_state, self._actions = after, choose(chances, drawn[:, : self._envs])
        return (change / alpha).abs().mean(1)

    def _evaluate(self) -> dict[int, dict[str, float]]:
        means = self.greedy(self.table, f"val {self._env_steps}")
        confirmed = None
        for index, (score, mean) in enumerate(zip(self.scores, means, strict=True)):
            if mean > score.best:
                score.best, score.best_parameters = mean, self.table[index].clone()
            if mean >= self.environment.solved_return and not score.solved:
                confirmed = confirmed or self.greedy(self.table, f"confirm {self._env_steps}")
                if confirmed[index] >= self.environment.solved_return:
                    score.solve(self._env_steps, self._clock.seconds)
        return {index: score.metrics(self._env_steps, mean) for index, (score, mean) in enumerate(zip(self.scores, means, strict=True))}

    def greedy(self, tables: Tensor, purpose: str) -> list[float]:
        """Each member's mean greedy return with these tables, over fresh episodes for every purpose."""
        returns = greedy_returns(self.values(tables), self.environment, self.stack.seeds, purpose, self._episodes, self.stack.device)
        return returns.mean(1).tolist()

    def values(self, tables: Tensor) -> Callable[[EnvState], Tensor]:
        """States -> action values [members, actions, envs]."""
        return lambda state: self._values(tables, state)

    def best(self) -> Tensor:
        """Each member's best table [members, boxes, actions], chosen by validation."""
        return torch.stack([score.best_parameters.to(self.stack.device) for score in self.scores])

    def state(self) -> State:
        return {
            "env_steps": self._env_steps,
            "seconds": self._clock.before_s,
            "table": self.table,
            "physics": self._env_state.physics,
            "episode_steps": self._env_state.steps,
            "actions": self._actions,
            "scores": [score.state() for score in self.scores],
        }

    def load(self, state: State) -> None:
        device = self.stack.device
        self._env_steps, self._clock = state["env_steps"], Clock(state["seconds"])
        self.table, self._actions = state["table"].to(device), state["actions"].to(device)
        self._env_state = EnvState(state["physics"].to(device), state["episode_steps"].to(device))
        self.scores = [AgentScore.of(score) for score in state["scores"]]
