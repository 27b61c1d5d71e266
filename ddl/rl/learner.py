"""Q-learner: updates the networks of all vectorised agents from replayed transitions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl import update_rules
from ddl.rl.networks import VectorisedQNetwork
from ddl.rl.replay import TransitionBatch
from ddl.rl.settings import TrainingSettings
from ddl.rl.vectorised_agents import VectorisedAgents

BETAS, EPS = (0.9, 0.999), 1e-8
"""Constants of Adam (Kingma and Ba 2015)."""


class QLearner:
    """Newest, target and average parameters [agents, n]; the average ones are evaluated.

    A step minimises the mean squared TD error of a batch, (Q(s, a) - `td_target`)^2, in units of `value_scale`. Rewards are
    0 to 1, so targets are clamped to the possible values, 0 to `value_scale`.
    """

    def __init__(self, agents: VectorisedAgents, network: VectorisedQNetwork, settings: TrainingSettings):
        self._agents, self._network, self._settings = agents, network, settings
        self.newest = network.initial(agents.seeds).to(agents.device)
        self.target, self.average = self.newest.clone(), self.newest.clone()
        self._gradient, self._m, self._v = (torch.zeros_like(self.newest) for _ in range(3))
        self._lr_factor = torch.ones_like(agents.lr)
        self._layers, self._target_layers, self._gradients = map(network.layers, (self.newest, self.target, self._gradient))
        self.updates = 0

    def continue_from_average(self, agent: int) -> None:
        """Reset a solved agent to its average parameters and multiply its learning rate by `lr_solved`.

        The newest parameters are no solution: at a high learning rate they scatter around the average.
        """
        self._lr_factor[agent] = self._settings.lr_solved
        self.newest[agent] = self.target[agent] = self.average[agent]
        self._m[agent] = 0

    def step(self, batch: TransitionBatch, uniforms: Tensor, env_steps: int) -> Tensor:
        """Make one update; returns each agent's mean absolute TD error [agents], in units of the return.

        SARSA samples its next actions with `uniforms` [agents, items].
        """
        agents, network = self._agents, self._network
        next_values = network.values(self._target_layers, batch.next_observations)
        bootstrap = agents.update_rule.bootstrap(next_values, agents.policy.probabilities(next_values, env_steps), uniforms)
        activations = network.activations(self._layers, batch.observations)
        actions = batch.actions.unsqueeze(1)
        output = activations[-1].gather(1, actions).squeeze(1)
        old = network.to_values(output.unsqueeze(1)).squeeze(1)
        targets = update_rules.td_target(batch.rewards, batch.terminated, bootstrap, agents.gamma, old, agents.alpha)
        ceiling = network.value_scale.squeeze(-1)
        targets = torch.minimum(targets.clamp_(min=0), ceiling)
        error = output - network.to_outputs(targets)
        output_gradient = torch.zeros_like(activations[-1]).scatter_(1, actions, (error / error.shape[1]).unsqueeze(1))
        network.gradient(self._layers, activations, output_gradient, self._gradients)
        self._adam(env_steps)
        self.updates += 1
        self.target.lerp_(self.newest, self._settings.target_rate)
        # At first a plain mean of all updates, so that the initial parameters do not weigh on the average for long.
        self.average.lerp_(self.newest, max(self._settings.average_rate, 1 / self.updates))
        return error.abs().mean(1) * ceiling.squeeze(1)

    def _adam(self, env_steps: int) -> None:
        """The step of torch.optim.Adam, with a learning rate for each agent."""
        (b1, b2), t, g = BETAS, self.updates + 1, self._gradient
        self._m.lerp_(g, 1 - b1)
        self._v.mul_(b2).addcmul_(g, g, value=1 - b2)
        settings = self._settings
        steps = min(env_steps, settings.env_steps)  # the last rollout may be longer than the rest of the trial
        lr = self._agents.lr * self._lr_factor * (1 - (1 - settings.lr_end) * steps / settings.env_steps) / (1 - b1**t)
        deviation = (self._v / (1 - b2**t)).sqrt_().add_(EPS)
        self.newest.sub_((self._m / deviation).mul_(lr))

    def finite(self) -> Tensor:
        """True for each agent whose parameters are all finite [agents]."""
        return self.newest.isfinite().all(1)

    def state(self, agent: int) -> State:
        """State of one agent for a checkpoint; its tensors are views [1, n]."""
        return {name: tensor[agent : agent + 1] for name, tensor in self._tensors().items()} | {"updates": self.updates}

    def load(self, states: Sequence[State]) -> None:
        """Restore a `state` for each agent, all after the same number of updates."""
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.cat([state[name] for state in states]))
        self.updates = states[0]["updates"]

    def _tensors(self) -> dict[str, Tensor]:
        names = ("newest", "target", "average", "_m", "_v", "_share")  # as in stored checkpoints and hashes of first steps
        return dict(zip(names, (self.newest, self.target, self.average, self._m, self._v, self._lr_factor), strict=True))
