"""Generative adversarial networks: a generator and a discriminator, trained against each other."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.learner import Batch, SeveralNetworksLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.running_mean import RunningMean
from ddl.learners.sample_gallery import SampleGallery
from ddl.progress import Diverged

REAL_LABEL = 0.9
"""Discriminator target for real images: one-sided label smoothing (Salimans et al. 2016, section 3.4)."""
PENALISED_EVERY = 16
"""Discriminator steps between two gradient penalties, each multiplied by this number (lazy regularisation: Karras et al. 2020,
arXiv:1912.04958, section 3.1)."""
COLLAPSED = 0.9
"""Fraction of the generated images in one class from which a generator counts as collapsed."""


class GanPair:
    """A generator, a discriminator and their losses (Goodfellow et al. 2014, arXiv:1406.2661; non-saturating generator loss).

    `gradient_penalty` is gamma of R1 (Mescheder et al. 2018, arXiv:1801.04406, equation 9): the penalty is gamma / 2 times the mean
    squared norm of the discriminator's gradient at real images. It slows a discriminator that would otherwise win at once.
    Raises ValueError if the device shards parameters.
    """

    def __init__(self, generator: OptimisedModule, discriminator: OptimisedModule, device: Device, gradient_penalty: float = 0.0):
        if device.sharded:
            raise ValueError("strategy fsdp: a GAN's discriminator is also used outside its own training step. Use ddp for a GAN.")
        self.generator, self.discriminator = generator, discriminator
        self._gradient_penalty = gradient_penalty

    def train(self) -> None:
        self.generator.train()
        self.discriminator.train()

    def train_discriminator(self, real: Tensor, generated: Tensor) -> Tensor:
        """Train the discriminator on one batch of equally many real and generated images. Returns its loss without the penalty."""
        real_logits, logits = self.discriminator(torch.cat([real, generated.detach()])).chunk(2)
        loss = 0.5 * (
            F.binary_cross_entropy_with_logits(real_logits, torch.full_like(real_logits, REAL_LABEL))
            + F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
        )
        penalised = self._gradient_penalty > 0 and self.discriminator.steps % PENALISED_EVERY == 0
        self.discriminator.minimise(loss + PENALISED_EVERY * self._penalty(real) if penalised else loss)
        return loss.detach()

    def _penalty(self, real: Tensor) -> Tensor:
        """R1 penalty, in fp32 because it is differentiated twice."""
        images = real.detach().requires_grad_(True)
        (gradients,) = torch.autograd.grad(self.discriminator.module(images).sum(), images, create_graph=True)
        return self._gradient_penalty / 2 * gradients.square().flatten(1).sum(1).mean()

    def generator_loss(self, generated: Tensor) -> Tensor:
        """Non-saturating generator loss; the discriminator is frozen."""
        module = self.discriminator.module.requires_grad_(False)
        logits = self.discriminator.through(module, generated)
        module.requires_grad_(True)
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def networks(self) -> dict[str, OptimisedModule]:
        """Both networks, by their names in a checkpoint."""
        return {"generator": self.generator, "discriminator": self.discriminator}


class GanLearner(SeveralNetworksLearner):
    """A GAN that maps latent vectors from N(0, 1) to images. Batches are (images as stored, labels int64 [n]).

    Parts of a step: `generator_loss`, `discriminator_loss` (nats) and `loss`, their sum, which neither network minimises. Metrics:
    those of `GeneratedImageScores`. After `grace_steps` steps, raises Diverged if nearly all generated images are classified alike.

    Evaluation and figures use a generator with the running mean of its weights (`RunningMean`; Yazici et al. 2019, arXiv:1806.04498).
    """

    def __init__(
        self, gan: GanPair, prepare: nn.Module, latent: int, gallery: SampleGallery, grace_steps: int, averaging: float, device: Device
    ):
        self._mean = RunningMean(gan.generator, averaging)
        super().__init__({**gan.networks(), "mean": self._mean})
        self._gan, self._prepare, self._latent = gan, prepare, latent
        self._gallery, self._grace_steps, self._device = gallery, grace_steps, device

    def step(self, batch: Batch) -> dict[str, Tensor]:
        images = self._prepare(batch[0])
        self._gan.train()
        generated = self._gan.generator(torch.randn(len(images), self._latent, device=images.device))
        discriminator_loss = self._gan.train_discriminator(images, generated)
        loss = self._gan.generator_loss(generated)
        self._gan.generator.minimise(loss)
        self._mean.update()
        generator_loss = loss.detach()
        total = generator_loss + discriminator_loss
        return {"loss": total, "generator_loss": generator_loss, "discriminator_loss": discriminator_loss}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        scores = self._gallery.scores(self._generate)
        for inputs, labels in batches:
            scores.add_real(self._prepare(inputs), labels)
        metrics = dict(scores.results())
        largest = metrics["largest_class_share"]
        steps = self._gan.generator.steps
        if steps >= self._grace_steps and largest >= COLLAPSED:
            raise Diverged(f"the generator has collapsed: {largest:.0%} of its images are of one class after {steps} steps")
        yield from metrics.items()

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield from self._gallery.show(self._generate, epoch)

    def _generate(self, latents: Tensor) -> Tensor:
        return self._gan.generator.through(self._mean.module.eval(), latents)
