"""Tests of the strong baseline's learner: smoothed labels, averaged weights, mirror images and the epoch of a flip."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.averaged_classifier import AveragedClassifier
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import make_nesterov
from ddl.learners.running_mean import RunningMean
from ddl.precision import Precision

CPU = Device(torch.device("cpu"))
STILL = {"steps_per_epoch": 2, "label_smoothing": 0.0, "averaging": 0.0, "mirror": False}
IMAGES = torch.rand(6, 2, 4, 4)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3))


def optimised(lr: float = 0.1) -> OptimisedModule:
    return OptimisedModule(module(), make_nesterov(lr, 0.0, 0.0), Precision.parse("fp32"), CPU)


def unchanged(images: Tensor, positions: Tensor, epoch: int) -> Tensor:
    return images


def learner(network: OptimisedModule, augment=unchanged, **changed) -> AveragedClassifier:
    return AveragedClassifier(network, augment, nn.Identity(), **STILL | changed, device=CPU)


def batch(n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    return IMAGES[:n], LABELS[:n], torch.arange(n)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_a_step_is_the_cross_entropy_with_smoothed_labels(smoothing):
    logits = module().train()(IMAGES).log_softmax(1)
    spread = (1 - smoothing) * F.one_hot(LABELS, 3) + smoothing / 3
    parts = learner(optimised(), label_smoothing=smoothing).step(batch())
    assert parts["loss"].item() == pytest.approx(-(spread * logits).sum(1).mean().item())


def test_the_loss_of_an_evaluation_has_no_smoothed_labels():
    losses = {smoothing: dict(learner(optimised(), label_smoothing=smoothing).evaluate([batch()]))["loss"] for smoothing in (0.0, 0.5)}
    assert losses[0.0] == losses[0.5] == pytest.approx(F.cross_entropy(module().eval()(IMAGES), LABELS).item())


def test_evaluation_and_predictor_use_the_running_mean_of_weights_and_statistics():
    network = optimised(lr=1.0)
    made = learner(network, averaging=0.25)
    mean: dict[str, Tensor] = {}
    for step in range(4):
        made.step(batch())
        keep = min(0.25, (step + 1) / (step + 10)) if step else 0.0
        current = {name: value.clone() for name, value in network.module.state_dict().items()}
        mean = {
            name: keep * mean.get(name, value) + (1 - keep) * value if value.is_floating_point() else value
            for name, value in current.items()
        }
    expected = module().eval()
    expected.load_state_dict(mean)
    with torch.no_grad():
        torch.testing.assert_close(made.predictor()(IMAGES), expected(IMAGES), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(network.trained()(IMAGES), expected(IMAGES), atol=1e-3)
    assert dict(made.evaluate([batch()]))["loss"] == pytest.approx(F.cross_entropy(expected(IMAGES), LABELS).item(), rel=1e-4)


def test_without_averaging_the_current_weights_are_evaluated():
    network = optimised()
    made = learner(network)
    for _ in range(3):
        made.step(batch())
    assert torch.equal(made.predictor()(IMAGES), network.trained()(IMAGES))


def test_statistics_are_copied_unless_they_are_averaged():
    network = optimised()
    copied, averaged = RunningMean(network, 0.5), RunningMean(network, 0.5, average_buffers=True)
    for _ in range(2):
        network.train()
        network.minimise(network(IMAGES).square().mean())
        copied.update()
        averaged.update()
    current = network.module[1].running_var
    assert torch.equal(copied.module[1].running_var, current)
    assert not torch.allclose(averaged.module[1].running_var, current)


def test_mirrored_evaluation_is_that_of_the_mean_logits_of_both_images():
    network = optimised()
    model = module().eval()
    with torch.no_grad():
        logits = (model(IMAGES) + model(IMAGES.flip(3))) / 2
    made = learner(network, mirror=True)
    assert dict(made.evaluate([batch()]))["loss"] == pytest.approx(F.cross_entropy(logits, LABELS).item())
    torch.testing.assert_close(made.predictor()(IMAGES), logits)
    assert dict(learner(optimised()).evaluate([batch()]))["loss"] != pytest.approx(F.cross_entropy(logits, LABELS).item())


def test_augmentation_gets_positions_and_the_epoch_also_after_a_resume():
    seen = []

    def augment(images: Tensor, positions: Tensor, epoch: int) -> Tensor:
        seen.append((positions.tolist(), epoch))
        return images

    first = learner(optimised(), augment)
    for n in (4, 2, 4):
        first.step(batch(n))
    second = learner(optimised(), augment)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.step(batch(2))
    second.step(batch(4))
    assert seen == [([0, 1, 2, 3], 0), ([0, 1], 0), ([0, 1, 2, 3], 1), ([0, 1], 1), ([0, 1, 2, 3], 2)]


def test_nesterov_looks_ahead_and_decays_the_weights():
    """Two steps by hand: v = m v + g, w -= lr (g + m v), with g = 1 + decay w."""
    weight = nn.Parameter(torch.tensor(2.0))
    frozen = nn.Parameter(torch.tensor(3.0), requires_grad=False)
    optimiser = make_nesterov(0.1, 0.5, 0.01)([weight, frozen])
    expected, velocity = 2.0, 0.0
    for _ in range(2):
        optimiser.zero_grad()
        weight.backward()
        optimiser.step()
        gradient = 1 + 0.01 * expected
        velocity = 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
    assert weight.item() == pytest.approx(expected)
    assert frozen.item() == 3.0
    assert math.isclose(optimiser.param_groups[0]["weight_decay"], 0.01)
