"""CartPole with Q-learning and SARSA on a table: the textbook form of the rules that the study applies to a network."""

from collections.abc import Iterator

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.rl.tables import TableTraining
from ddl.rl.vectorised_agents import AgentSettings, TableSettings
from ddl.tasks.cartpole import CartPoleTask, Probability
from ddl.tasks.task import STRICT


@dataclass(frozen=True, config=STRICT)
class CartPoleTable(CartPoleTask):
    """An agent whose action values are a table's."""

    alpha_end: Probability
    """Final step size as a fraction of `alpha`, 0 to 1; the decay is linear."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        agent = AgentSettings.of(self, lr=1.0)  # a table has no optimiser
        training = TableTraining([agent], TableSettings.of(self), device.torch)
        yield from self.train(training, self.env_steps, resume, {"evaluation_steps": self.evaluation_steps})
