"""CartPole with Q-learning and SARSA on a table: the textbook form of the rules that the study puts on a network."""

from collections.abc import Iterator

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.rl import environments
from ddl.rl.film_strip import film_strip
from ddl.rl.tables import TableTraining
from ddl.tasks.cartpole import CartPoleTask, Probability
from ddl.tasks.task import STRICT


@dataclass(frozen=True, config=STRICT)
class CartPoleTable(CartPoleTask):
    """An agent whose values are a table's; `alpha` falls linearly to the share `alpha_end` of itself."""

    alpha_end: Probability

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        member = self.member(lr=1.0)  # a table has no optimiser
        environment = environments.find_environment(self.environment)
        training = TableTraining(
            [member], environment, self.envs, self.env_steps, self.evaluate_every, self.evaluation_episodes, self.alpha_end,
            self.optimistic, device.torch,
        )  # fmt: skip
        if resume is not None:
            training.load(resume)
        metadata = self.metadata(training.table[0].numel())
        for step in training.run():
            metrics, last = step.measured.get(0, {}), step.env_steps >= self.env_steps
            figures = {}
            if last:
                metrics = metrics | {"test/episode_return": training.greedy(training.best(), "test")[0]}
                figures["learned_episode.png"] = film_strip(training.values(training.best()), environment, self.seed, device.torch)
            yield Progress(
                step=min(step.env_steps, self.env_steps),
                total_steps=self.env_steps,
                state=step.state,
                metrics=metrics,
                metadata=metadata if step.env_steps == 0 else {},
                figures=figures,
                loss=None if step.td_error is None else step.td_error[0],
            )
