"""Two networks against each other: a generator, and a discriminator that tells its images from real ones."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddl.devices import Device
from ddl.learners.learner import Batch, Learner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.sample_gallery import SampleGallery
from ddl.progress import Diverged, State

REAL = 0.9
"""What the discriminator is asked to say of a real image: one-sided label smoothing (Salimans et al. 2016, section 3.4)."""
PENALISED_EVERY = 16
"""Steps of the discriminator from one gradient penalty to the next, which then counts as often (Karras et al. 2020,
arXiv:1912.04958, section 3.1: as good, and cheaper)."""
COLLAPSED = 0.9
"""Share of the generated images in one class from which on a generator has collapsed."""


class GanPair:
    """A generator and a discriminator and what either loses (Goodfellow et al. 2014, arXiv:1406.2661; the generator's loss is the
    non-saturating one). Raises ValueError where the processes of a trial would share out the parameters."""

    def __init__(self, generator: OptimisedModule, discriminator: OptimisedModule, device: Device, gradient_penalty: float = 0.0):
        """`gradient_penalty` is gamma of R1 (Mescheder et al. 2018, arXiv:1801.04406, equation 9): gamma / 2 times the squared norm of
        the discriminator's gradient at a real image, the mean over them. It keeps a discriminator that could win at once from doing so."""
        if device.sharded:
            raise ValueError("strategy fsdp: the discriminator computes outside of its own training too. Take ddp for a GAN.")
        self.generator, self.discriminator = generator, discriminator
        self._gradient_penalty = gradient_penalty

    def train(self) -> None:
        self.generator.train()
        self.discriminator.train()

    def discriminate(self, real: Tensor, generated: Tensor) -> Tensor:
        """Train the discriminator on as many real as generated images, [n, ...] each, in one batch. Gives its loss, without the penalty."""
        real_scores, scores = self.discriminator(torch.cat([real, generated.detach()])).chunk(2)
        loss = 0.5 * (
            F.binary_cross_entropy_with_logits(real_scores, torch.full_like(real_scores, REAL))
            + F.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))
        )
        penalised = self._gradient_penalty > 0 and self.discriminator.steps % PENALISED_EVERY == 0
        self.discriminator.minimise(loss + PENALISED_EVERY * self._penalty(real) if penalised else loss)
        return loss.detach()

    def _penalty(self, real: Tensor) -> Tensor:
        """In fp32, for it is differentiated twice."""
        images = real.detach().requires_grad_(True)
        (slopes,) = torch.autograd.grad(self.discriminator.module(images).sum(), images, create_graph=True)
        return self._gradient_penalty / 2 * slopes.square().flatten(1).sum(1).mean()

    def deceive(self, generated: Tensor) -> Tensor:
        """The generator's loss: how surely the discriminator, which learns nothing here, knows its images."""
        module = self.discriminator.module.requires_grad_(False)
        scores = self.discriminator.through(module, generated)
        module.requires_grad_(True)
        return F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))

    def state_dict(self) -> State:
        return {"generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])


class GanLearner(Learner):
    """A GAN from N(0, 1) to images. Batches are (images as stored, classes int64 [n]).

    Parts of a step: `generator_loss`, `discriminator_loss` (nats) and `loss`, their sum, which neither minimises. Metrics: what
    `Verdict` finds. Raises Diverged where, after `grace_steps` steps, the judge takes nearly all generated images for one class.

    What is judged and shown is a generator with the running mean of the weights (Yazici et al. 2019, arXiv:1806.04498), of which
    `averaging` is kept at each step, less in the first ones. 0: the weights as they are.
    """

    def __init__(
        self, game: GanPair, prepare: nn.Module, latent: int, gallery: SampleGallery, grace_steps: int, averaging: float, device: Device
    ):
        self._game, self._prepare, self._latent = game, prepare, latent
        self._gallery, self._grace_steps, self._device = gallery, grace_steps, device
        self._mean = AveragedModel(game.generator.module, avg_fn=partial(_running_mean, averaging))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        images = self._prepare(batch[0])
        self._game.train()
        generated = self._game.generator(torch.randn(len(images), self._latent, device=images.device))
        discriminator_loss = self._game.discriminate(images, generated)
        loss = self._game.deceive(generated)
        self._game.generator.minimise(loss)
        self._mean.update_parameters(self._game.generator.module)
        generator_loss = loss.detach()
        return {
            "loss": generator_loss + discriminator_loss,
            "generator_loss": generator_loss,
            "discriminator_loss": discriminator_loss,
        }

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        verdict = self._gallery.verdict(self._generate)
        for inputs, classes in batches:
            verdict.real(self._prepare(inputs), classes)
        found = dict(verdict.results())
        share = found["largest_class_share"]
        steps = self._game.generator.steps
        if steps >= self._grace_steps and share >= COLLAPSED:
            raise Diverged(f"the generator has collapsed: {share:.0%} of its images are of one class after {steps} steps")
        yield from found.items()

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield from self._gallery.show(self._generate, epoch)

    def _generate(self, latents: Tensor) -> Tensor:
        return self._game.generator.through(self._mean.module.eval(), latents)

    def state_dict(self) -> State:
        return self._game.state_dict() | {"mean": self._mean.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self._game.load_state_dict(state)
        self._mean.load_state_dict(state["mean"])


def _running_mean(keep: float, mean: Tensor, weights: Tensor, steps: Tensor) -> Tensor:
    """The mean after `steps` steps and one more. The first weights, far from where they will be, are forgotten sooner."""
    return mean.lerp(weights, 1 - min(keep, (1 + int(steps)) / (10 + int(steps))))
