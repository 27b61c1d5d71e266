"""Held-out training data: the splits, the epoch that validation selects, and the one evaluation on the test split."""

import copy
from collections.abc import Iterable, Iterator

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import ddl
from ddl.data.splits import Split, holdout_mask
from ddl.devices import Device
from ddl.fit import FitSettings, Member, fit
from ddl.learners import language
from ddl.learners.learner import Batch, Learner
from ddl.model_selection import parse_selection
from ddl.progress import Progress
from tests.tasks.steps import TINY, build, without_times

CPU = Device(torch.device("cpu"))
HOLDING_OUT = [name for name in TINY if not name.startswith(("cartpole", "generation"))]
METRICS = {"forecasting": "min val/rmse_passengers", "text_generation": "min val/bits_per_character"}


class Recorder(Learner):
    """Has as its only weight the number of its steps, and scores `scores[epoch]` on validation data, 4 steps per epoch."""

    def __init__(self, scores: Iterable[float]):
        self.weight = torch.zeros(())
        self.scores = list(scores)
        self.evaluated: list[tuple[str, float]] = []

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.weight += 1
        return {"loss": torch.tensor(1.0)}

    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        (first, *_) = [int(targets[0]) for _, targets in batches]
        split = "test" if first >= 100 else "val"
        self.evaluated.append((split, self.weight.item()))
        yield "score", 1000 + self.weight.item() if split == "test" else self.scores[int(self.weight) // 4 - 1]

    def state_dict(self) -> dict:
        return {"weight": self.weight}

    def load_state_dict(self, state: dict) -> None:
        self.weight.copy_(state["weight"])


def numbered(n: int, first: int = 0) -> Split:
    return Split(torch.zeros(n, 1), torch.arange(first, first + n))


def run(learner: Learner, selected_by: str, resume: dict | None = None, epochs: int = 4) -> Iterator[Progress]:
    settings = FitSettings(numbered(16), numbered(4), epochs, 4, CPU, "images", numbered(4, 100), selected_by)
    return fit(Member(learner, 7, {}, resume), settings)


@pytest.mark.parametrize(("selected_by", "weight"), [("max val/score", 8.0), ("min val/score", 4.0), ("", 16.0)])
def test_the_test_split_is_evaluated_once_at_the_end_with_the_weights_of_the_best_epoch(selected_by, weight):
    learner = Recorder([0.1, 0.9, 0.5, 0.9])
    steps = list(run(learner, selected_by))
    assert learner.evaluated == [("val", 4.0), ("val", 8.0), ("val", 12.0), ("val", 16.0), ("test", weight)]
    assert [one.step for one in steps if "test/score" in one.metrics] == [16]
    assert steps[-1].metrics["test/score"] == 1000 + weight
    assert steps[-1].metrics["val/score"] == 0.9  # of the last epoch
    assert steps[-1].state()["learner"]["weight"] == weight


@pytest.mark.parametrize("stopped", [1, 8, 9, 13, 16])
def test_a_resumed_trial_keeps_its_best_epoch_and_tests_once(stopped):
    scores = [0.1, 0.9, 0.5, 0.2]
    learner = Recorder(scores)
    state = copy.deepcopy(next(one for one in run(learner, "max val/score") if one.step == stopped).state())
    second = Recorder(scores)
    steps = list(run(second, "max val/score", state))
    tested = [value for split, value in learner.evaluated + second.evaluated if split == "test"]
    assert tested == [8.0]
    assert steps[-1].state()["learner"]["weight"] == 8.0


def test_without_test_data_the_state_and_the_metrics_are_as_ever():
    *_, last = fit(Member(Recorder([0.1]), 7, {}), FitSettings(numbered(16), numbered(4), 1, 4, CPU, "images"))
    assert set(last.state()) == {"step", "first_loss", "epoch_sums", "learner"}
    assert not any(name.startswith("test/") for name in last.metrics)


def test_a_metric_that_is_not_measured_is_named():
    with pytest.raises(ValueError, match=r"task\.selected_by: val/acuracy is not measured\. Name one of .*val/score"):
        list(run(Recorder([0.1] * 4), "max val/acuracy"))


@pytest.mark.parametrize("text", ["val/accuracy", "max train/loss", "best val/accuracy", "max val/"])
def test_a_selection_that_names_no_validation_metric_is_refused(text):
    with pytest.raises(ValueError, match="as in max val/accuracy"):
        parse_selection(text)
    with pytest.raises(ValidationError, match="as in max val/accuracy"):
        build("classification", selected_by=text)


# The splits


def test_a_tenth_of_each_class_is_held_out_and_never_a_whole_class():
    labels = [0] * 100 + [1] * 30 + [2] * 4 + [3]
    held = holdout_mask(labels, 0.1)
    assert [sum(chosen for chosen, label in zip(held, labels, strict=True) if label == each) for each in range(4)] == [10, 3, 1, 0]
    assert held == holdout_mask(labels, 0.1)
    with pytest.raises(ValueError, match=r"task\.holdout: 0\.1: no class has two"):
        holdout_mask([0, 1, 2], 0.1)


def rows(split: Split) -> set[bytes]:
    return {part.numpy().tobytes() for part in split.inputs}


@pytest.mark.parametrize("name", ["classification", "tabular"])
def test_the_splits_are_disjoint_complete_and_the_same_for_all_seeds(name):
    whole = build(name).load_data(CPU)
    parts = [build(name, holdout=0.25, seed=seed).load_data(CPU) for seed in (3, 4)]
    for data in parts:
        assert rows(data.train) | rows(data.val) == rows(whole.train)
        assert not rows(data.train) & rows(data.val)
        assert len(data.train) + len(data.val) == len(whole.train)
        assert torch.equal(data.test.inputs, whole.val.inputs)
    assert torch.equal(parts[0].val.inputs, parts[1].val.inputs)


def test_a_table_is_scaled_by_the_rows_that_are_trained_on():
    data = build("tabular", holdout=0.25).load_data(CPU)
    assert torch.allclose(data.features.mean, data.train.inputs.mean(0))


def test_labels_are_stratified():
    whole, data = (
        build("classification", train_limit=400).load_data(CPU),
        build("classification", train_limit=400, holdout=0.1).load_data(CPU),
    )
    for label in range(10):
        assert (data.val.targets == label).sum() == max(1, round(0.1 * (whole.train.targets == label).sum().item()))


def test_texts_are_held_out_before_the_vocabulary_is_made():
    whole, data = build("sentiment").load_data(CPU), build("sentiment", holdout=0.2).load_data(CPU)
    assert len(data.train) + len(data.val) == len(whole.train)
    assert len(data.test) == len(whole.val)
    assert len(data.words) < len(whole.words)
    assert data.train.targets.bincount().tolist() != [0, 0]
    assert (data.val.targets == 1).sum() == round(0.2 * (whole.train.targets == 1).sum().item())


def test_the_last_months_before_the_test_months_validate_a_forecast():
    whole, data = build("forecasting").load_data(CPU), build("forecasting", holdout=0.2).load_data(CPU)
    assert torch.equal(data.test.actual, whole.val.actual)
    months = torch.cat([data.train.actual, data.val.actual])
    assert torch.equal(months, whole.train.actual)
    assert len(data.val.actual) == round(0.2 * (144 - len(whole.val.actual)))
    assert data.scaler != whole.scaler


@pytest.mark.parametrize("name", HOLDING_OUT)
def test_every_task_tests_once_at_its_end(name):
    metric = METRICS.get(name, "min val/mae" if name.startswith("colouring") else "min val/loss")
    settings = {"holdout": 0.3, "selected_by": metric, "epochs": 1}
    steps = list(build(name, **settings | ({"convolutional_epochs": 1} if "convolutional" in name else {})).run(CPU))
    metrics = without_times(steps[-1].metrics)
    assert [one.step for one in steps if any(key.startswith("test/") for key in one.metrics)] == [steps[-1].total_steps]
    named = {key.partition("/")[2] for key in metrics if key.startswith("val/")}
    assert {key.partition("/")[2] for key in metrics if key.startswith("test/")} == named
    assert metrics[metric.split()[1]] != metrics[metric.split()[1].replace("val", "test")]
    lengths = steps[0].metadata["data"]
    assert lengths["train"] > lengths["val"]
    assert lengths["test"] > 0


@pytest.mark.parametrize("name", ["representation", "forecasting"])
def test_methods_without_training_have_a_test_value(name):
    task = build(name, holdout=0.2, **({"method": "pca"} if name == "representation" else {"model": "last_year"}))
    first, last = task.run(CPU)
    metric = "mse" if name == "representation" else "rmse_passengers"
    assert last.metrics[f"test/{metric}"] != last.metrics[f"val/{metric}"]
    plain = build(name, **({"method": "pca"} if name == "representation" else {"model": "last_year"}))
    *_, alone = plain.run(CPU)
    if name == "forecasting":
        assert last.metrics[f"test/{metric}"] == alone.metrics[f"val/{metric}"]
    assert first.metadata["data"]["test"] > 0


def test_the_test_text_has_references_of_its_own(monkeypatch):
    used = []
    monkeypatch.setattr(language, "corpus_bleu", lambda texts, references: used.append(references) or 0.0)
    list(build("text_generation", holdout=0.3, epochs=2).run(CPU))
    *validation, first, second = used  # two temperatures per evaluation
    assert first == second
    assert all(references == validation[0] for references in validation)
    assert validation[0] != first


def test_a_task_that_cannot_hold_out_says_so():
    with pytest.raises(ValidationError, match=r"0\.1: Generation cannot hold out training data\. Set it to 0\."):
        build("generation", holdout=0.1)
    assert build("generation", holdout=0.0).holdout == 0


@ddl.task
class Line(ddl.SupervisedTask):
    def data(self):
        x = torch.linspace(-1, 1, 60).unsqueeze(1)
        return (x[::2], 2 * x[::2]), (x[1::2], 2 * x[1::2])

    def model(self):
        return nn.Linear(1, 1)

    def loss(self, outputs, targets):
        return nn.functional.mse_loss(outputs, targets)


def test_a_task_of_the_users_holds_data_out():
    steps = list(Line(seed=0, lr=0.1, epochs=3, holdout=0.1, selected_by="min val/loss").run(CPU))
    assert steps[0].metadata["data"] | {} == {
        "name": "Line", "source": "the task's own data", "complete": True, "train": 27, "val": 3, "test": 30,
    }  # fmt: skip
    assert sum("test/loss" in one.metrics for one in steps) == 1


# Trials that are trained as one model


def test_each_member_of_a_stack_has_its_own_best_epoch():
    tasks = [
        build("classification", holdout=0.3, epochs=3, selected_by="max val/accuracy", lr=lr, seed=seed)
        for lr, seed in ((3e-2, 3), (1e-3, 4))
    ]
    alone = [list(task.run(CPU))[-1] for task in tasks]
    *_, last = type(tasks[0]).run_stacked(tasks, CPU, [None, None])
    for index, one in enumerate(alone):
        assert {name for name in one.metrics if name.startswith("test/")} == {"test/loss", "test/accuracy"}
        for name, value in without_times(one.metrics).items():
            assert last[index].metrics[name] == pytest.approx(value, abs=1e-3), name


def test_a_stack_resumes_with_the_best_epoch_of_each_member():
    tasks = [build("tabular", holdout=0.3, epochs=3, selected_by="min val/loss", seed=seed) for seed in (3, 4)]
    run = type(tasks[0]).run_stacked(tasks, CPU, [None, None])
    undisturbed = [{index: (one, copy.deepcopy(one.state())) for index, one in step.items()} for step in run]
    middle = len(undisturbed) // 2
    *_, last = type(tasks[0]).run_stacked(tasks, CPU, [undisturbed[middle][index][1] for index in (0, 1)])
    for index in (0, 1):
        assert without_times(last[index].metrics) == without_times(undisturbed[-1][index][0].metrics)
