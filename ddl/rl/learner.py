"""The update of a stack of agents: replayed transitions in, every member's network one step further."""

import torch
from torch import Tensor

from ddl.progress import State
from ddl.rl import update_rules
from ddl.rl.networks import VectorisedQNetwork
from ddl.rl.replay import TransitionBatch
from ddl.rl.vectorised_agents import TrainingSettings, VectorisedAgents

BETAS, EPS = (0.9, 0.999), 1e-8
"""Of Adam (Kingma and Ba 2015)."""


class QLearner:
    """Parameters [members, n] of three networks: the newest, the target's, and the average that is evaluated.

    A step minimises the mean squared distance of Q(s, a) to `agents.target` over a batch, in units of `value_scale`. No target lies
    outside the values there can be, 0 to `value_scale`: rewards are 0 to 1.
    """

    def __init__(self, stack: VectorisedAgents, network: VectorisedQNetwork, settings: TrainingSettings):
        self._stack, self._network, self._settings = stack, network, settings
        self.newest = network.initial(stack.seeds).to(stack.device)
        self.target, self.average = self.newest.clone(), self.newest.clone()
        self._gradient, self._m, self._v = (torch.zeros_like(self.newest) for _ in range(3))
        self._share = torch.ones_like(stack.lr)
        self._layers, self._target_layers, self._into = map(network.layers, (self.newest, self.target, self._gradient))
        self.updates = 0

    def slow(self, member: int) -> None:
        """The member's average weights have solved its environment: it goes on from those, at the share `lr_solved` of its rate.

        From its newest weights it would not do: at a high rate they wander about the average, and that is what it averages out.
        """
        self._share[member] = self._settings.lr_solved
        self.newest[member] = self.target[member] = self.average[member]
        self._m[member] = 0

    def step(self, batch: TransitionBatch, uniforms: Tensor, env_steps: int) -> Tensor:
        """One update; returns each member's mean distance of Q(s, a) to its target [members], in returns.

        `uniforms` [members, items] are for sampling SARSA's next action.
        """
        stack, network = self._stack, self._network
        following = network.values(self._target_layers, batch.next_observations)
        bootstrap = stack.agent.bootstrap(following, stack.policy.probabilities(following, env_steps), uniforms)
        activations = network.activations(self._layers, batch.observations)
        taken = batch.actions.unsqueeze(1)
        output = activations[-1].gather(1, taken).squeeze(1)
        old = network.to_values(output.unsqueeze(1)).squeeze(1)
        aim = update_rules.td_target(batch.rewards, batch.terminated, bootstrap, stack.gamma, old, stack.alpha)
        ceiling = network.value_scale.squeeze(-1)
        aim = torch.minimum(aim.clamp_(min=0), ceiling)
        error = output - network.to_outputs(aim)
        slope = torch.zeros_like(activations[-1]).scatter_(1, taken, (error / error.shape[1]).unsqueeze(1))
        network.gradient(self._layers, activations, slope, self._into)
        self._adam(env_steps)
        self.updates += 1
        self.target.lerp_(self.newest, self._settings.target_rate)
        # The first weights are soon forgotten: to begin with, the average is that of all updates so far.
        self.average.lerp_(self.newest, max(self._settings.average_rate, 1 / self.updates))
        return error.abs().mean(1) * ceiling.squeeze(1)

    def _adam(self, env_steps: int) -> None:
        """torch.optim.Adam's step with a learning rate for each member."""
        (b1, b2), t, g = BETAS, self.updates + 1, self._gradient
        self._m.lerp_(g, 1 - b1)
        self._v.mul_(b2).addcmul_(g, g, value=1 - b2)
        settings = self._settings
        rates = self._stack.lr * self._share * (1 - (1 - settings.lr_end) * env_steps / settings.env_steps) / (1 - b1**t)
        deviation = (self._v / (1 - b2**t)).sqrt_().add_(EPS)
        self.newest.sub_((self._m / deviation).mul_(rates))

    def finite(self) -> Tensor:
        """Whether all of a member's parameters are numbers [members]."""
        return self.newest.isfinite().all(1)

    def state(self) -> State:
        return {name: getattr(self, name) for name in (*_TENSORS, "updates")}

    def load(self, state: State) -> None:
        for name in _TENSORS:
            getattr(self, name).copy_(state[name])
        self.updates = state["updates"]


_TENSORS = ("newest", "target", "average", "_m", "_v", "_share")
