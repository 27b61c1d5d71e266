"""The training loop: what it yields, and that a trial is the same however often it was stopped and whatever ran beside it."""

import copy
import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddl import fit as fitting
from ddl.data.augment import STRENGTHS
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.epoch_orders import EpochOrders
from ddl.fit import FitSettings, Member, fit
from ddl.learners.learner import Batch, Learner, Pipeline, SeveralNetworksLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.stacked import StackedLearner
from ddl.learners.supervised import Classifier
from ddl.models.cnn import ConvNet
from ddl.models.dropout import Dropout
from ddl.precision import Precision
from ddl.progress import Diverged, Progress
from tests.tasks.steps import without_times

CPU = Device(torch.device("cpu"))


def split(n: int) -> Split:
    """Images with something to tell them apart; their targets are 0, 1, 2, 0, 1, 2, ..."""
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    return Split(images, torch.arange(n) % 3)


def numbered(n: int) -> Split:
    """Each image's target is its own number."""
    return Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.arange(n))


def classifier(weights: int = 0) -> Classifier:
    """With all that draws random numbers (augmentation, dropout) and all that has a memory (momentum, batch normalisation)."""
    torch.manual_seed(weights)
    model = ConvNet(1, 8, 3, widths=[4], convolutions=1, dense=8, dropout=0.3, batch_norm_layers=1, initialisation="glorot")
    return Classifier(
        OptimisedModule(model, lambda parameters: torch.optim.Adam(parameters, lr=0.01), Precision.parse("fp32"), CPU),
        training=lambda images: STRENGTHS["aggressive"](images.float()) / 255,
        evaluation=lambda images: images.float() / 255,
        device=CPU,
    )


class Notes(Learner):
    """Learns nothing and notes what it is given. `losses` are those of its steps, in order; without any, the batch's mean target."""

    def __init__(self, losses: Iterable[float] = ()):
        self.batches: list[list[int]] = []
        self.evaluated: list[list[int]] = []
        self.losses = iter(losses)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.batches.append(batch[1].tolist())
        loss = torch.tensor(next(self.losses, batch[1].double().mean().item()))
        return {"loss": loss, "half": loss / 2}

    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self.evaluated.append([target for _, targets in batches for target in targets.tolist()])
        yield "count", float(len(self.evaluated))

    def state_dict(self) -> dict:
        return {"steps": len(self.batches)}

    def load_state_dict(self, state: dict) -> None:
        self.batches = [[]] * state["steps"]


def run(learner: Learner, train: Split | None = None, val: Split | None = None, **changed) -> Iterator[Progress]:
    given = {"seed": 7, "metadata": {}, "epochs": 3, "batch_size": 4, "device": CPU, "unit": "images"} | changed
    member = Member(learner, given.pop("seed"), given.pop("metadata"), given.pop("resume", None))
    return fit(member, FitSettings(train or numbered(10), val or numbered(5), **given))


def measured(progress: Iterable[Progress]) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics) without what a clock says."""
    steps = [(one.step, without_times(one.metrics)) for one in progress]
    return [(step, metrics) for step, metrics in steps if metrics]


def weights(learner: Learner) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in learner.state_dict()["model"].items()}


# What it yields


def test_every_step_is_yielded_and_measurements_come_after_each_epoch():
    steps = list(run(Notes()))
    assert [one.step for one in steps] == list(range(10))
    assert {one.total_steps for one in steps} == {9}
    assert [one.step for one in steps if one.metrics] == [3, 6, 9]
    assert [one.epoch for one in steps if one.metrics] == [1, 2, 3]
    assert [one.epoch for one in steps][:5] == [0, 0, 0, 1, 1]
    assert all(one.loss is not None for one in steps[1:])
    assert set(steps[3].metrics) == {"train/loss", "train/half", "val/count", "time/evaluate_s", "time/images_per_s"}


def test_facts_come_once_with_the_first():
    steps = list(run(Notes(), val=numbered(24), metadata={"parameters": 3}))
    assert steps[0].metadata == {"parameters": 3, "evaluations": 3, "evaluation_steps": 2.0}
    assert not any(one.metadata for one in steps[1:])


def test_the_work_that_is_queued_on_the_device_counts_in_the_times(monkeypatch):
    now = [0.0]

    class Queued(Device):
        def synchronise(self) -> None:
            now[0] += 5.0

    monkeypatch.setattr(fitting.time, "perf_counter", lambda: now[0])
    steps = run(Notes(), epochs=1, device=Queued(torch.device("cpu")))
    *_, last = steps
    assert last.metrics["time/images_per_s"] == 10 / 5.0
    assert last.metrics["time/evaluate_s"] == 5.0


class Shows(Notes):
    """Has a figure and a text for every epoch, and a model that doubles."""

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield f"picture-{epoch:03d}.png", b"PNG"
        yield f"words-{epoch:03d}.txt", "as written"

    def predictor(self) -> nn.Module:
        return Pipeline(lambda images: images * 2, nn.Identity())


def test_what_a_learner_shows_comes_with_the_epochs_measurement():
    steps = list(run(Shows()))
    assert [(one.step, dict(one.figures), dict(one.texts)) for one in steps if one.figures or one.texts] == [
        (3, {"picture-001.png": b"PNG"}, {"words-001.txt": "as written"}),
        (6, {"picture-002.png": b"PNG"}, {"words-002.txt": "as written"}),
        (9, {"picture-003.png": b"PNG"}, {"words-003.txt": "as written"}),
    ]


def test_the_model_can_be_taken_as_it_is_used_with_an_input_for_it():
    val = split(5)
    *_, last = run(Shows(), val=val)
    predictor = last.predictor()
    assert torch.equal(predictor.module(predictor.example), 2 * val.inputs[2:3])
    *_, last = run(Notes())
    assert last.predictor() is None


class Reversed(Split):
    """Examples that want to be read from the last to the first, two apart."""

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        return torch.arange(len(self)).flip(0)

    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Tensor, ...]:
        return self.inputs[indices], 2 * self.targets[indices]


def test_examples_say_how_they_form_batches():
    notes = Notes()
    list(run(notes, train=Reversed(**vars(numbered(5))), val=Reversed(**vars(numbered(2))), epochs=1))
    assert notes.batches == [[8, 6, 4, 2], [0]]
    assert notes.evaluated == [[0, 2]]


def test_training_batches_get_their_indices_on_the_host_too():
    asked = []

    class Asked(Split):
        def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Tensor, ...]:
            asked.append((indices.tolist(), on_host.tolist()))
            return super().batch(indices)

    list(run(Notes(), train=Asked(**vars(numbered(10))), epochs=2))
    assert [len(indices) for indices, _ in asked] == [4, 4, 2] * 2
    assert all(indices == on_host for indices, on_host in asked)


def test_every_example_once_an_epoch_the_last_smaller_batch_too():
    learner = Notes()
    list(run(learner))
    assert [len(batch) for batch in learner.batches] == [4, 4, 2] * 3
    for epoch in range(3):
        seen = [target for batch in learner.batches[3 * epoch : 3 * epoch + 3] for target in batch]
        assert sorted(seen) == list(range(10))


def test_all_of_validation_each_time_in_its_order():
    learner = Notes()
    list(run(learner, val=numbered(37)))
    assert learner.evaluated == [list(range(37))] * 3


def test_training_metrics_are_means_over_examples_not_over_batches():
    learner = Notes()
    steps = [one for one in run(learner, epochs=1) if one.metrics]
    assert [len(batch) for batch in learner.batches] == [4, 4, 2]
    assert steps[-1].metrics["train/loss"] == pytest.approx(sum(range(10)) / 10)
    assert steps[-1].metrics["train/half"] == pytest.approx(sum(range(10)) / 20)


def test_training_metrics_of_an_epoch_are_of_that_epoch_alone():
    steps = [one for one in run(Notes(itertools.chain([1.0] * 3, [2.0] * 3, [3.0] * 3))) if one.metrics]
    assert [one.metrics["train/loss"] for one in steps] == pytest.approx([1.0, 2.0, 3.0])


def test_speed_counts_training_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: now[0])

    class Slow(Notes):
        def step(self, batch):
            now[0] += 2.0
            return super().step(batch)

        def evaluate(self, batches):
            now[0] += 50.0
            return super().evaluate(batches)

    speeds = []
    for one in run(Slow()):
        speeds.append(one.metrics.get("time/images_per_s"))
        now[0] += 1000.0  # what the consumer does
        if one.metrics:
            assert one.metrics["time/evaluate_s"] == 50.0
    assert [speed for speed in speeds if speed] == pytest.approx([10 / 6] * 3)


# Order and randomness


def order(seed: int, **changed) -> list[list[int]]:
    learner = Notes()
    list(run(learner, seed=seed, **changed))
    return learner.batches


def test_each_epoch_and_each_seed_has_its_own_order():
    batches = order(7)
    assert batches == order(7)
    assert batches[:3] != batches[3:6] != batches[6:]
    orders = [str(order(seed)[:3]) for seed in range(20)]
    assert len(set(orders)) == 20


def test_an_epochs_order_is_computed_while_the_device_may_still_compute_the_epoch_before(monkeypatch):
    events = []
    prepare = EpochOrders.prepare
    monkeypatch.setattr(EpochOrders, "prepare", lambda self, seeds, epoch: events.append(f"order {epoch}") or prepare(self, seeds, epoch))
    monkeypatch.setattr(Device, "synchronise", lambda self: events.append("wait"))
    for _ in run(Notes()):
        pass
    waits = ["wait", "wait"]  # for the last step, and for the evaluation
    assert events == ["order 0", "order 1", *waits, "order 2", *waits, "order 3", *waits], "there is no epoch 3, so it has no order"


def test_an_order_that_was_computed_ahead_stays_with_its_member():
    orders, alone = (EpochOrders(split(10), 2, 4, CPU) for _ in range(2))
    orders.start([1, 2, 3], 0)
    orders.prepare([1, 2, 3], 1)
    orders.keep([2])
    orders.start([3], 1)
    alone.start([3], 1)
    for position in range(3):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(orders.batch(position), alone.batch(position), strict=True))


@pytest.mark.parametrize("shift", [32, 33, 48, 53])
def test_seeds_that_differ_in_high_bits_only_differ_in_all_that_is_random(shift):
    # torch's CPU generator looks at the lowest 32 bits of a seed alone.
    assert order(7) != order(7 + 2**shift)
    ends = [list(run(classifier(), split(10), split(5), epochs=1, seed=seed))[-1].loss.item() for seed in (7, 7 + 2**shift)]
    assert ends[0] != ends[1]


def test_one_seeds_second_epoch_is_not_the_next_seeds_first():
    assert order(7)[3:6] != order(8)[:3]
    assert order(8)[3:6] != order(7)[:3]


def test_dropout_and_augmentation_differ_between_steps_and_between_seeds():
    class Draws(Notes):
        def step(self, batch):
            drawn.append(torch.rand(()).item())
            return super().step(batch)

    drawn: list[float] = []
    list(run(Draws(), seed=1))
    list(run(Draws(), seed=2))
    assert len(set(drawn)) == 18


def test_what_ran_before_in_the_process_changes_nothing():
    def losses(disturb) -> list[float]:
        found = []
        for one in run(classifier(), split(10), split(5)):
            found.append(one.loss if one.loss is None else one.loss.item())
            disturb()
        return found

    alone = losses(lambda: None)
    assert losses(lambda: torch.manual_seed(99)) == alone
    assert losses(lambda: torch.rand(1000)) == alone


def test_trials_that_take_turns_are_the_same_as_alone():
    alone = [measured(run(classifier(), split(10), split(5), seed=seed)) for seed in (1, 2)]
    a, b = classifier(), classifier()
    both = zip(run(a, split(10), split(5), seed=1), run(b, split(10), split(5), seed=2), strict=True)
    first, second = zip(*both, strict=True)
    assert [measured(first), measured(second)] == alone


# Resuming


def test_resuming_at_every_step_ends_in_the_same_bits():
    train, val = split(10), split(7)
    undisturbed = classifier()
    states, all_measured = [], []
    for one in run(undisturbed, train, val):
        states.append((one.step, copy.deepcopy(one.state())))
        all_measured += measured([one])
    assert len(states) == 10
    for step, state in states:
        torch.manual_seed(1000 + step)
        resumed = classifier(weights=99)
        assert weights(resumed) != weights(undisturbed)
        rest = list(run(resumed, train, val, resume=state))
        # At the very end one more comes, without measurements: what was trained can be taken from it.
        assert [one.step for one in rest] == (list(range(step + 1 if step else 0, 10)) or [9])
        assert measured(rest) == [(at, metrics) for at, metrics in all_measured if at > step or step == 0], step
        assert weights(resumed) == weights(undisturbed), step
        assert all(math.isfinite(value) for _, metrics in measured(rest) for value in metrics.values())


def test_a_state_taken_at_each_step_of_a_resumed_run_is_as_good():
    train, val = split(10), split(7)
    undisturbed = classifier()
    expected = measured(run(undisturbed, train, val))
    state, found = None, []
    for _ in range(9):
        learner = classifier(weights=99 if state else 0)
        steps = run(learner, train, val, resume=state)
        one = next(steps)
        if one.step == 0:
            found += measured([one])
            one = next(steps)
        found += measured([one])
        state = copy.deepcopy(one.state())
    assert found == expected
    assert weights(learner) == weights(undisturbed)


def test_resuming_at_the_end_trains_no_further():
    *_, last = run(classifier(), split(10), split(5))
    learner = classifier(weights=99)
    (only,) = run(learner, split(10), split(5), resume=last.state())
    assert (only.step, dict(only.metrics)) == (9, {})
    assert weights(learner) == {name: tensor.numpy().tobytes() for name, tensor in last.state()["learner"]["model"].items()}


# Divergence


def test_a_loss_that_is_not_a_number_ends_the_trial_within_twenty_steps():
    learner = Notes([1.0] * 25 + [float("nan")] * 100)
    with pytest.raises(Diverged, match=r"training loss nan at step 41 \(first step: 1\)"):
        list(run(learner, numbered(1000)))
    assert fitting.CHECK_EVERY == 20


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_first_loss_that_is_none_ends_the_trial_at_once(loss):
    learner = Notes([loss] * 100)
    with pytest.raises(Diverged, match="at step 1 "):
        list(run(learner))
    assert len(learner.batches) == 1


def test_a_loss_far_above_the_first_has_diverged_though_it_is_finite():
    with pytest.raises(Diverged, match=r"training loss 2501 at step 21 \(first step: 2.5\)"):
        list(run(Notes([2.5] * 20 + [2501.0] * 100), numbered(1000)))
    assert len(list(run(Notes([2.5] * 20 + [2499.0] * 300), numbered(400), epochs=1))) == 101


def test_a_small_first_loss_makes_no_later_one_a_divergence():
    assert len(list(run(Notes([0.001] + [900.0] * 300), numbered(400), epochs=1))) == 101


def test_a_divergence_at_an_epochs_last_step_is_seen_before_it_is_measured():
    learner = Notes([1.0, 1.0, float("nan")])
    with pytest.raises(Diverged, match="at step 3 "):
        list(run(learner))
    assert learner.evaluated == []


def test_a_resumed_trial_still_knows_its_first_loss():
    for one in run(Notes([0.5] * 100), numbered(400)):
        if one.step == 30:
            state = one.state()
            break
    with pytest.raises(Diverged, match=r"at step 41 \(first step: 0.5\)"):
        list(run(Notes([5000.0] * 100), numbered(400), resume=state))


def test_a_rate_far_too_high_diverges_for_real():
    torch.manual_seed(0)
    model = ConvNet(1, 8, 3, widths=[8], convolutions=2, dense=8, dropout=0.0, batch_norm_layers=0, initialisation="glorot")
    learner = Classifier(
        OptimisedModule(model, lambda parameters: torch.optim.SGD(parameters, lr=1000.0), Precision.parse("fp32"), CPU),
        training=lambda images: images.float(),
        evaluation=lambda images: images.float(),
        device=CPU,
    )
    with pytest.raises(Diverged, match="training loss"):
        list(run(learner, split(40), split(5), epochs=10))


class TwoNetworks(SeveralNetworksLearner):
    """Notes which units its dropout keeps."""

    def __init__(self):
        network = OptimisedModule(
            Dropout(0.5), lambda parameters: torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), Precision.parse("fp32"), CPU
        )
        super().__init__({"first": network})
        self.kept: list[list[bool]] = []

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.kept.append((self.modules["first"].train()(torch.ones(1, 64)) > 0)[0].tolist())
        return {"loss": torch.zeros(())}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        return {}


def test_dropout_of_a_learner_with_several_networks_changes_from_step_to_step():
    masks = []
    for seed in (0, 0, 1):
        learner = TwoNetworks()
        stack = StackedLearner([learner], [seed], CPU)
        for step in range(2):
            stack.step((torch.zeros(1),), step)
        masks.append(learner.kept)
    assert masks[0][0] != masks[0][1]
    assert masks[0] == masks[1] != masks[2]
