"""Scores and figures of a generator, from the same latent vectors after every epoch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ddl import figures
from ddl.devices import Device
from ddl.metrics.generated_images import GeneratedImageScores, ScoringClassifier

BATCH_SIZE = 512
SAMPLES = 64
"""Number of images in the figure of samples."""
COLUMNS = 8
INTERPOLATIONS, STEPS = 6, 10
"""Number of interpolations in the figure, and of images in each."""

Decode = Callable[[Tensor], Tensor]
"""Maps latent vectors [n, latent] to images [n, c, h, w] in 0..1."""


class SampleGallery:
    """Latent vectors [n, latent] sampled once from N(0, 1) with `seed`, and the scores and figures of images decoded from them.

    `load_classifier` is called at the first evaluation, because the scoring classifier may have to be trained.
    """

    def __init__(self, n: int, latent: int, seed: int, load_classifier: Callable[[], ScoringClassifier], device: Device):
        self.latents = torch.randn(n, latent, generator=torch.Generator().manual_seed(seed)).to(device.torch)
        self._load_classifier, self._device = load_classifier, device

    def scores(self, decode: Decode) -> GeneratedImageScores:
        """Scores to which all images decoded from the latent vectors have been added; the caller adds the real images."""
        scores = GeneratedImageScores(self._load_classifier(), self._device)
        for latents in self._device.shard(self.latents).split(BATCH_SIZE):
            scores.add_generated(decode(latents))
        return scores

    def show(self, decode: Decode, epoch: int) -> Iterator[tuple[str, bytes]]:
        """Yield figures of the first samples (kept for epochs 1, 2, 4, 8, ...) and of interpolations between latent vectors."""
        samples = figures.image_grid(decode(self.latents[:SAMPLES]), COLUMNS)
        yield "samples.png", samples
        if epoch.bit_count() == 1:
            yield f"samples_over_epochs-{epoch:03d}.png", samples
        pairs = self.latents[: min(2 * INTERPOLATIONS, len(self.latents) // 2 * 2)].unflatten(0, (-1, 2))
        interpolated = spherical_interpolation(pairs[:, 0], pairs[:, 1], STEPS).flatten(0, 1)
        yield "interpolation.png", figures.image_grid(decode(interpolated), STEPS)


def spherical_interpolation(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Interpolate from each row of `a` [n, d] to the same row of `b` along the great arc: [n, steps, d], both ends included.

    A straight line would pass near the origin, where a normal distribution in many dimensions has almost no mass
    (White 2016, arXiv:1609.04468).
    """
    fraction = torch.linspace(0, 1, steps, device=a.device).view(1, -1, 1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos().view(-1, 1, 1)
    return (((1 - fraction) * angle).sin() * a.unsqueeze(1) + (fraction * angle).sin() * b.unsqueeze(1)) / angle.sin()
