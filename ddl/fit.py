"""The training loop: trains learners on one split, evaluates them on another, and yields their `Progress` after every step.

The loop never reports, records or stores anything: its consumer does.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddl.data.splits import Examples
from ddl.devices import Device
from ddl.epoch_orders import EpochOrders
from ddl.evaluation import evaluate_split, evaluate_test, figures_and_texts
from ddl.learners.learner import Learner
from ddl.learners.stacked import StackedLearner
from ddl.model_selection import BestEpoch
from ddl.progress import Diverged, Predictor, Progress, StackSteps, State, alone

CHECK_EVERY = 20
"""Steps between two checks of the loss. Reading the loss synchronises the device, so it is not checked at every step."""

FORWARD_FRACTION = 1 / 3
"""The forward pass's fraction of a step: a backward pass takes about two forward passes, for weights' and inputs' gradients."""

BLOW_UP = 1e3
"""A loss this many times the first step's counts as diverged, even if it is finite."""


@dataclass(frozen=True, eq=False)
class Member:
    """A trial that `fit_together` trains, alone or with others as one model: its learner, its seed, its metadata and its state to resume."""

    learner: Learner
    seed: int
    metadata: Mapping[str, Any]
    resume: State | None = None


@dataclass(frozen=True, eq=False)
class FitSettings:
    """The data and the settings of `fit`, which all members share. The examples are already on the device.

    `batch_size` is the global one: with several processes each takes an equal shard of every batch. If an epoch's last batch cannot be
    split equally, some examples are taken twice, so that a trial may resume with another number of processes. `unit` names the examples in
    the metric of speed.

    If `test` is given, each member is evaluated on it once, after the last epoch, with the weights of its best epoch by `selected_by`
    (`model_selection.parse_selection`). The member keeps these weights.
    """

    train: Examples
    val: Examples
    epochs: int
    batch_size: int
    device: Device
    unit: str
    test: Examples | None = None
    selected_by: str = ""


def fit(member: Member, settings: FitSettings) -> Iterator[Progress]:
    """Train one trial, as `fit_together` does. Raises Diverged."""
    yield from alone(fit_together([member], settings))


def fit_together(members: Sequence[Member], settings: FitSettings) -> StackSteps:
    """Train each member for `epochs` passes over `train`, and evaluate it on `val` after each; several are trained as one model.

    Yields after every step, by the index of each member: its progress, or why it diverged, after which it has left. So have the members
    whose indices are sent to the generator. They start at one step: all without a state, or with states of the same step.

    Each epoch's order, and all randomness within a step, follow from a member's seed and the step's number, so a run that resumes at any
    step, alone or with others, is the same run. An epoch's last batch may be smaller; it is not dropped. Several processes train one member.

    Metrics: `train/...`, the means of the learner's steps over the epoch's examples, with augmentation and dropout on; `val/...`;
    `time/{unit}_per_s`, the member's training speed without evaluation; and once `test/...`.
    """
    batch_size, device = settings.batch_size, settings.device
    if batch_size % device.world_size:
        raise ValueError(
            f"batch_size: {batch_size} cannot be shared by {device.world_size} workers. Make it a multiple of {device.world_size}."
        )
    loop = _Loop(members, settings)
    if loop.first_step == 0:
        cost = {"evaluations": settings.epochs, "evaluation_steps": len(settings.val) / batch_size * FORWARD_FRACTION}
        loop.remove((yield {index: loop.progress(index, 0, metadata={**cost, **members[index].metadata}) for index in loop.indices}) or ())
    if loop.first_step == loop.total_steps:
        yield {index: loop.progress(index, loop.first_step) for index in loop.indices}  # complete; state and predictor are still available

    began, examples = time.perf_counter(), 0
    for step in range(loop.first_step, loop.total_steps):
        if not loop.indices:
            return
        epoch, position = divmod(step, loop.steps_per_epoch)
        if position == 0 or step == loop.first_step:
            loop.orders.start(loop.seeds, epoch)
        parts = loop.step(step)
        examples += loop.orders.batch_length(position)
        ends_epoch = position == loop.steps_per_epoch - 1
        results: dict[int, Progress | Diverged] = {}
        if step % CHECK_EVERY == 0 or ends_epoch:
            results |= loop.diverged(parts["loss"], step)
        losses = dict(zip(loop.indices, parts["loss"].unbind(), strict=True))
        trained = [index for index in loop.indices if index not in results]
        if ends_epoch:
            loop.orders.prepare(loop.seeds, epoch + 1)
            device.synchronise()
            speed = {f"time/{settings.unit}_per_s": examples / (time.perf_counter() - began)}
            means = loop.epoch_means()
            for index in trained:
                results[index] = loop.measured(index, step + 1, losses[index], speed | means[index])
        else:
            results |= {index: loop.progress(index, step + 1, loss=losses[index], evaluate=loop.evaluation(index)) for index in trained}
        paused = time.perf_counter()
        leaving = (yield results) or ()
        loop.remove({*leaving, *(index for index, result in results.items() if isinstance(result, Diverged))})
        began += time.perf_counter() - paused  # the consumer's time is not training time
        if ends_epoch:
            began, examples = time.perf_counter(), 0


class _Loop:
    """State of the loop between steps: the members that are left, by index, their first losses, and the sums of the current epoch."""

    def __init__(self, members: Sequence[Member], settings: FitSettings):
        self.steps_per_epoch = math.ceil(len(settings.train) / settings.batch_size)
        self.total_steps = settings.epochs * self.steps_per_epoch
        self.indices = list(range(len(members)))
        """Members that are left; the values of a step are in this order."""
        self.orders = EpochOrders(settings.train, settings.epochs, settings.batch_size, settings.device)
        self._members, self._settings, self._device = members, settings, settings.device
        selected_by, self._test = settings.selected_by, settings.test
        self._best = [BestEpoch(selected_by, each.resume and each.resume["best"]) for each in members] if self._test is not None else []
        self._first_losses: list[float | None] = [None] * len(members)
        self._epoch_sums: dict[str, Tensor] = {}
        self.first_step = self._load([member.resume for member in members if member.resume is not None])
        # The learners load their own states first: a stack copies them.
        self._learner = StackedLearner([member.learner for member in members], [member.seed for member in members], self._device)

    def _load(self, states: Sequence[State]) -> int:
        """Restore what `_state` returned for each member, and return its step."""
        if not states:
            return 0
        assert len(states) == len(self._members), "states for some members only"
        assert len({state["step"] for state in states}) == 1, "states of different steps"
        for member, state in zip(self._members, states, strict=True):
            member.learner.load_state_dict(state["learner"])
        self._first_losses = [state["first_loss"] for state in states]
        sums = [state["epoch_sums"] for state in states]
        self._epoch_sums = {name: torch.stack([each[name] for each in sums]).to(self._device.torch) for name in sums[0]}
        step: int = states[0]["step"]
        return step

    def remove(self, indices: Collection[int]) -> None:
        """Remove members, which take no further step."""
        left = [position for position, index in enumerate(self.indices) if index in indices]
        if not left:
            return
        stay = [position for position, index in enumerate(self.indices) if index not in indices]
        self.indices = [self.indices[position] for position in stay]
        if not stay:
            return
        self._learner.remove(left)
        rows = torch.tensor(stay, device=self._device.torch)
        self._epoch_sums = {name: value.index_select(0, rows) for name, value in self._epoch_sums.items()}
        self.orders.keep(stay)

    @property
    def seeds(self) -> list[int]:
        return [self._members[index].seed for index in self.indices]

    def step(self, step: int) -> dict[str, Tensor]:
        """Train on each member's batch, of which this process takes its shard. Returns the losses and their parts, each [k]."""
        position = step % self.steps_per_epoch
        batch, length = self.orders.batch(position), self.orders.batch_length(position)
        parts = self._learner.step(batch, step)
        for name, value in parts.items():
            weighted = value * length
            self._epoch_sums[name] = self._epoch_sums[name] + weighted if name in self._epoch_sums else weighted
        return parts

    def diverged(self, losses: Tensor, step: int) -> dict[int, Diverged]:
        """The members whose loss, the mean over the processes, is not finite or has blown up."""
        found = {}
        for index, value in zip(self.indices, self._mean(losses).tolist(), strict=True):
            first = self._first_losses[index]
            if first is None:
                first = self._first_losses[index] = value
            if not math.isfinite(value) or abs(value) > BLOW_UP * max(abs(first), 1.0):
                found[index] = Diverged(f"training loss {value:g} at step {step + 1} (first step: {first:g})")
        return found

    def epoch_means(self) -> dict[int, dict[str, float]]:
        """The `train/...` metrics of each member for the epoch that ends here."""
        means = {f"train/{name}": (self._mean(total) / len(self._settings.train)).tolist() for name, total in self._epoch_sums.items()}
        self._epoch_sums = {}
        return {index: {name: values[row] for name, values in means.items()} for row, index in enumerate(self.indices)}

    def evaluation(self, index: int) -> Callable[[], dict[str, float]]:
        """The evaluation of a member."""
        return partial(evaluate_split, self._members[index].learner, self._settings.val, "val", self._settings.batch_size, self._device)

    def progress(self, index: int, done: int, **given: Any) -> Progress:
        """A member's `Progress` after `done` steps."""
        return Progress(
            step=done,
            total_steps=self.total_steps,
            epoch=done // self.steps_per_epoch,
            state=partial(self._state, index, done),
            predictor=partial(self._predictor, index),
            **given,
        )

    def measured(self, index: int, done: int, loss: Tensor, metrics: Mapping[str, float]) -> Progress | Diverged:
        """A member's `Progress` after an epoch, with its evaluation; Diverged if that finds that it has."""
        learner = self._members[index].learner
        try:
            evaluated = self.evaluation(index)()
        except Diverged as diverged:
            return diverged
        files = figures_and_texts(learner, done // self.steps_per_epoch)
        if self._test is not None:
            self._best[index].take(learner, evaluated)
            if done == self.total_steps:
                self._best[index].restore(learner)
                evaluated |= evaluate_test(learner, self._test, self._settings.batch_size, self._device)
        return self.progress(index, done, loss=loss, metrics={**metrics, **evaluated}, **files)

    def _state(self, index: int, done: int) -> State:
        row = self.indices.index(index)
        # The mean of the sums, so that each process resumes with an equal part of them, whatever its own was.
        sums = {name: self._mean(value[row]) for name, value in self._epoch_sums.items()}
        learner = self._device.gather(self._members[index].learner.state_dict())
        best = {"best": self._best[index].state(self._device)} if self._best else {}
        return {"step": done, "first_loss": self._first_losses[index], "epoch_sums": sums, "learner": learner, **best}

    def _predictor(self, index: int) -> Predictor | None:
        module = self._members[index].learner.predictor()
        middle = torch.full((1,), len(self._settings.val) // 2, device=self._device.torch)  # texts are sorted by their length
        return None if module is None else Predictor(module, self._settings.val.batch(middle)[0])

    def _mean(self, value: Tensor) -> Tensor:
        """The mean of every process's `value`."""
        return self._device.sum(value.clone()) / self._device.world_size
