"""Tests of a classifier's loss, accuracy and steps."""

import math

import pytest
import torch
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.supervised import Classifier, Regressor
from ddl.models.mlp import RestoreUnit
from ddl.precision import Precision


class Logits(nn.Module):
    """The inputs are the logits. The only weight shifts all of them, which has no effect."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        return logits + self.shift


def classifier(model: nn.Module, lr: float = 1.0, training=lambda x: x, evaluation=lambda x: x, precision: str = "fp32") -> Classifier:
    return Classifier(
        OptimisedModule(
            model, lambda parameters: torch.optim.SGD(parameters, lr=lr), Precision.parse(precision), Device(torch.device("cpu"))
        ),
        training=training,
        evaluation=evaluation,
        device=Device(torch.device("cpu")),
    )


LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
TARGETS = torch.tensor([0, 1, 1])
LOSSES = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log1p(math.exp(3))]


def test_loss_in_nats_and_accuracy_as_a_share():
    assert dict(classifier(Logits()).evaluate([(LOGITS, TARGETS)])) == pytest.approx({"loss": sum(LOSSES) / 3, "accuracy": 2 / 3})


def test_batches_of_different_sizes_weigh_by_their_examples():
    batches = [(LOGITS[:1], TARGETS[:1]), (LOGITS[1:], TARGETS[1:])]
    assert dict(classifier(Logits()).evaluate(batches)) == pytest.approx({"loss": sum(LOSSES) / 3, "accuracy": 2 / 3})


def test_a_steps_figures_are_those_before_the_step():
    parts = classifier(nn.Linear(2, 2, bias=False)).step((torch.zeros(3, 2), TARGETS))
    assert parts["loss"].item() == pytest.approx(math.log(2))
    parts = classifier(Logits()).step((LOGITS, TARGETS))
    assert parts["loss"].item() == pytest.approx(sum(LOSSES) / 3)
    assert parts["accuracy"].item() == pytest.approx(2 / 3)


def test_a_step_is_the_optimisers_on_the_gradient_of_the_mean_loss():
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    learner = classifier(model, lr=0.5)
    learner.step((torch.ones(4, 1), torch.tensor([0, 0, 0, 1])))
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[0.5 * 0.25], [-0.5 * 0.25]]))
    learner.step((torch.ones(4, 1), torch.tensor([0, 0, 0, 1])))
    assert 0.5 * 0.25 < model.weight[0].item() < 2 * 0.5 * 0.25, "the first step's gradient is not added again"


def test_training_and_evaluation_each_have_their_own_transform():
    learner = classifier(Logits(), training=lambda logits: -logits, evaluation=lambda logits: 0 * logits)
    assert learner.step((LOGITS, TARGETS))["accuracy"].item() == pytest.approx(1 / 3)
    assert dict(learner.evaluate([(LOGITS, TARGETS)]))["loss"] == pytest.approx(math.log(2))


def test_dropout_is_on_in_training_and_off_in_evaluation_whatever_came_before():
    learner = classifier(nn.Sequential(nn.Dropout(0.5), Logits()), lr=1e-9)
    batch = (torch.rand(50, 2), torch.zeros(50, dtype=torch.int64))
    first = dict(learner.evaluate([batch]))
    steps = {learner.step(batch)["loss"].item() for _ in range(3)}
    assert len(steps) == 3
    assert dict(learner.evaluate([batch])) == pytest.approx(first)


def test_the_learning_rate_is_the_configurations_and_not_the_states():
    model, others = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False)
    nn.init.zeros_(others.weight)
    learner = classifier(model, lr=0.5)
    learner.load_state_dict(classifier(others, lr=0.125).state_dict())
    learner.step((torch.ones(4, 1), torch.tensor([0, 0, 0, 1])))
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[0.5 * 0.25], [-0.5 * 0.25]]))


@pytest.mark.parametrize("precision", ["bf16", "fp32 channels_last", "bf16 channels_last"])
def test_another_precision_computes_the_same_but_for_rounding(precision):
    batch = (torch.rand(16, 3, 8, 8), torch.arange(16) % 4)
    losses = []
    for name in ("fp32", precision):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        learner = classifier(model, lr=0.1, precision=name)
        losses.append([learner.step(batch)["loss"] for _ in range(4)])
        losses[-1].append(torch.tensor(dict(learner.evaluate([batch]))["loss"]))
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    torch.testing.assert_close(torch.stack(losses[0]), torch.stack(losses[1]), rtol=0.02, atol=0, check_dtype=False)
    assert losses[1][0].dtype == torch.float32


class Values(nn.Module):
    """The inputs are the predictions, with an added weight."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.shift


def regressor() -> Regressor:
    device = Device(torch.device("cpu"))
    network = OptimisedModule(Values(), lambda parameters: torch.optim.SGD(parameters, lr=0.5), Precision.parse("fp32"), device)
    return Regressor(network, RestoreUnit(mean=100.0, std=10.0), device)


def test_a_regressors_metrics_are_in_the_targets_unit_and_independent_of_batches():
    predicted, targets = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 2.0, 5.0])
    errors, variance = 5.0, (targets - targets.mean()).square().sum().item()
    expected = {"loss": errors / 4, "rmse": 10 * math.sqrt(errors / 4), "r2": 1 - errors / variance}
    assert dict(regressor().evaluate([(predicted, targets)])) == pytest.approx(expected)
    assert dict(regressor().evaluate([(predicted[:1], targets[:1]), (predicted[1:], targets[1:])])) == pytest.approx(expected)
    assert dict(regressor().evaluate([(targets, targets)])) == pytest.approx({"loss": 0, "rmse": 0, "r2": 1})


def test_a_regressor_predicts_in_the_targets_unit_and_steps_towards_the_mean_error():
    learner = regressor()
    assert learner.predictor()(torch.tensor([0.0, -1.0])).tolist() == [100.0, 90.0]
    assert learner.step((torch.zeros(2), torch.tensor([1.0, 3.0])))["loss"].item() == pytest.approx(5.0)
    assert learner.predictor()(torch.zeros(1)).item() == pytest.approx(120.0)
