"""Q-learning and SARSA in textbook form: a table of action values over boxes of states, updated at every step.

The boxes are the 162 of Barto, Sutton and Anderson (1983, "Neuronlike adaptive elements ..."): position split at +-0.8 m,
velocity at +-0.5 m/s, angle at 0, +-1 and +-6 degrees, angular velocity at +-50 degrees/s.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl.draws import UniformDraws
from ddl.rl.environments import EnvState
from ddl.rl.policies import choose
from ddl.rl.scores import AgentScore
from ddl.rl.settings import AgentSettings, TableSettings
from ddl.rl.training import Training
from ddl.rl.update_rules import td_target

EDGES = (
    (-0.8, 0.8),
    (-0.5, 0.5),
    tuple(math.radians(degrees) for degrees in (-6, -1, 0, 1, 6)),
    tuple(math.radians(degrees) for degrees in (-50, 50)),
)
"""m, m/s, rad, rad/s."""

BOXES = math.prod(len(edges) + 1 for edges in EDGES)


def boxes(state: EnvState) -> Tensor:
    """Number of the box of each environment's state [agents, envs], from 0 to BOXES - 1."""
    numbers = torch.zeros_like(state.steps)
    for values, edges in zip(state.physics, EDGES, strict=True):
        numbers = numbers * (len(edges) + 1) + torch.bucketize(values.contiguous(), _boundaries(edges, values.device))
    return numbers


@cache
def _boundaries(edges: tuple[float, ...], device: torch.device) -> Tensor:
    """`edges` as fp64 [n]; cached, because copying them to the device at every step would make the host wait."""
    return torch.tensor(edges, dtype=torch.float64, device=device)


class TableTraining(Training):
    """Training of agents with a table each, [agents, boxes, actions]. The step size is alpha; `AgentSettings.lr` is not used.

    Every step updates the tables from all environments at once: a cell that several environments visit moves by alpha times
    their mean error. SARSA's next action is the action that is taken next.
    """

    settings: TableSettings

    def __init__(self, agents: Sequence[AgentSettings], settings: TableSettings, device: torch.device, stop_when_solved: bool = False):
        super().__init__(agents, settings, device, stop_when_solved)
        scale, envs = self.agents.value_scale, settings.envs
        start = scale if settings.optimistic else torch.zeros_like(scale)
        self.table = start.expand(-1, BOXES, self.environment.actions).clone()
        self.scores = [AgentScore(table.clone()) for table in self.table]
        self._draws = UniformDraws(self.agents.seeds, "table", envs * (1 + self.environment.start_numbers), device)
        probabilities = self.agents.policy.probabilities(self.values(self.table)(self._env_state), 0)
        self._actions = choose(probabilities, self._draws.at(0)[:, :envs])

    @property
    def parameters_per_agent(self) -> int:
        return self.table[0].numel()

    def values(self, parameters: Tensor) -> Callable[[EnvState], Tensor]:
        def values(state: EnvState) -> Tensor:
            index = boxes(state).unsqueeze(2).expand(-1, -1, parameters.shape[2])
            return parameters.gather(1, index).transpose(1, 2)

        return values

    def _evaluated(self) -> Tensor:
        return self.table

    def _advance(self) -> Tensor:
        state, agents, envs, total = self._env_state, self.agents, self.settings.envs, self.settings.env_steps
        cells = boxes(state) * self.environment.actions + self._actions
        old = self.table.flatten(1).gather(1, cells)
        after, terminated, truncated = self.environment.step(state, self._actions)
        self._env_steps += envs
        uniforms = self._draws.at(self._env_steps // envs)
        next_values = self.values(self.table)(after)
        probabilities = agents.policy.probabilities(next_values, self._env_steps)
        bootstrap = agents.update_rule.bootstrap(next_values, probabilities, uniforms[:, :envs])
        alpha = agents.alpha * (1 - (1 - self.settings.alpha_end) * min(self._env_steps, total) / total)
        change = td_target(torch.ones_like(old), terminated.float(), bootstrap, agents.gamma, old, alpha) - old
        mean = torch.zeros_like(self.table.flatten(1)).scatter_reduce(1, cells, change, "mean", include_self=False)
        self.table += mean.view_as(self.table)
        over = terminated | truncated
        self._collect((after.steps * over).unsqueeze(0))
        self._env_state = self.environment.restart(after, over, uniforms[:, envs:])
        restarted = agents.policy.probabilities(self.values(self.table)(self._env_state), self._env_steps)
        self._actions = choose(torch.where(over.unsqueeze(1), restarted, probabilities), uniforms[:, :envs])
        return (change / alpha.clamp_min(torch.finfo(alpha.dtype).tiny)).abs().mean(1)  # alpha may end at 0

    def state(self, agent: int) -> State:
        return super().state(agent) | {"table": self.table[agent : agent + 1], "actions": self._actions[agent : agent + 1]}

    def load(self, states: Sequence[State]) -> None:
        super().load(states)
        self.table, self._actions = (torch.cat([state[name] for state in states]).to(self.device) for name in ("table", "actions"))
