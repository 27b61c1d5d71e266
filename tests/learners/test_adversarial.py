"""Tests of the gradient penalty and of the running mean of the generator's weights."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ddl.learners.adversarial import PENALISED_EVERY, GanLearner, GanPair
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.sample_gallery import SampleGallery
from ddl.metrics.generated_images import ScoringClassifier
from ddl.models.preprocess import ScaleToUnit
from ddl.models.strided import StridedDecoder, StridedEncoder

from .test_learner import CPU, network
from .test_optimised_module import network as one_weight


def discriminated(gradient_penalty: float, steps: int = 1) -> tuple[OptimisedModule, list[float]]:
    """A discriminator with one weight, initially 2, and learning rate 1 after `steps` steps, and its losses."""
    discriminator = one_weight()
    nn.init.constant_(discriminator.module.weight, 2.0)
    gan = GanPair(one_weight(), discriminator, CPU, gradient_penalty)
    real, generated = torch.ones(4, 1), torch.zeros(4, 1)
    return discriminator, [gan.train_discriminator(real, generated).item() for _ in range(steps)]


def test_the_penalty_is_on_the_squared_slope_at_real_images_and_no_part_of_the_loss_shown():
    (free, losses), (held, held_losses) = discriminated(0.0), discriminated(0.01)
    # The slope of w x is w, so the penalty, gamma / 2 w^2, moves w by gamma w, as often as steps pass without one.
    assert free.module.weight.item() - held.module.weight.item() == pytest.approx(PENALISED_EVERY * 0.01 * 2.0, rel=1e-5)
    assert held_losses == losses


def test_the_penalty_comes_with_every_so_many_steps():
    gamma, found = 0.001, []
    for steps in range(1, PENALISED_EVERY + 3):
        discriminator, _ = discriminated(gamma, steps)
        found.append(discriminator.module.weight.item())
    weight, expected = 2.0, []
    for step in range(PENALISED_EVERY + 2):
        # Half of the slope of the loss at a real image: the other half, at images of zeros, moves nothing.
        gradient = 0.5 * (torch.sigmoid(torch.tensor(weight)).item() - 0.9)
        weight -= gradient + (PENALISED_EVERY * gamma * weight if step % PENALISED_EVERY == 0 else 0.0)
        expected.append(weight)
    assert found == pytest.approx(expected, rel=1e-4)


def learner(averaging: float) -> tuple[GanLearner, GanPair]:
    torch.manual_seed(0)
    gan = GanPair(network(StridedDecoder(3, 8, 1, 8, [4, 6])), network(StridedEncoder(1, 8, [4, 6], 8, 1)), CPU)
    gallery = SampleGallery(20, 3, 0, lambda: ScoringClassifier(nn.Flatten(), nn.Linear(64, 3), 64).requires_grad_(False), CPU)
    return GanLearner(gan, ScaleToUnit(8), 3, gallery, grace_steps=1000, averaging=averaging, device=CPU), gan


def test_the_generator_that_is_evaluated_has_the_running_mean_of_the_weights():
    made, gan = learner(averaging=0.25)
    weights = dict(gan.generator.module.named_parameters())
    mean: dict[str, torch.Tensor] = {}
    for step in range(6):
        made.step((torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)))
        keep = min(0.25, (1 + step) / (10 + step)) if step else 0.0
        mean = {name: keep * mean.get(name, weight) + (1 - keep) * weight.detach() for name, weight in weights.items()}
    averaged = StridedDecoder(3, 8, 1, 8, [4, 6])
    averaged.load_state_dict(gan.generator.module.state_dict() | mean)
    with torch.no_grad():
        wanted = averaged.eval()(latents := torch.randn(5, 3))
        assert torch.allclose(made._generate(latents), wanted, atol=1e-6)
        assert not torch.allclose(gan.generator.through(gan.generator.trained(), latents), wanted, atol=1e-4)


def test_without_averaging_it_has_the_weights_as_they_are():
    made, gan = learner(averaging=0.0)
    for _ in range(3):
        made.step((torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)))
    latents = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.equal(made._generate(latents), gan.generator.through(gan.generator.trained(), latents))


def test_the_stored_mean_has_the_names_of_torchs_averaged_model():
    made, gan = learner(averaging=0.25)
    for _ in range(3):
        made.step((torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)))
    stored = made.state_dict()["mean"]
    assert stored.keys() == AveragedModel(gan.generator.module).state_dict().keys()
    assert stored["n_averaged"].item() == 3
    other, _ = learner(averaging=0.25)
    other.load_state_dict(made.state_dict())
    latents = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.equal(other._generate(latents), made._generate(latents))
