"""CartPole with Q-learning and SARSA on a table: the textbook form of the rules that the study applies to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic.dataclasses import dataclass

from ddl.rl.settings import AgentSettings, TableSettings
from ddl.tasks.cartpole import CartPoleTask, Probability
from ddl.tasks.task import STRICT

if TYPE_CHECKING:
    import torch

    from ddl.rl.training import Training


@dataclass(frozen=True, config=STRICT)
class CartPoleTable(CartPoleTask):
    """An agent whose action values are a table's."""

    alpha_end: Probability
    """Final step size as a fraction of `alpha`, 0 to 1; the decay is linear."""

    @classmethod
    def make_training(cls, members: Sequence[Self], device: torch.device) -> Training:
        from ddl.rl.tables import TableTraining

        agents = [AgentSettings.of(member, lr=1.0) for member in members]  # a table has no optimiser
        return TableTraining(agents, TableSettings.of(members[0]), device)
