"""What a generator is judged by and shown with: the same latents after every epoch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ddl import figures
from ddl.devices import Device
from ddl.metrics.generated_images import GeneratedImageScores, ScoringClassifier

MADE_AT_ONCE = 512
SAMPLES = 64
COLUMNS = 8
WALKS, STOPS = 6, 10
"""Interpolations shown, and images in each."""

Decode = Callable[[Tensor], Tensor]
"""From latents [n, latent] to images [n, c, h, w] in 0..1."""


class SampleGallery:
    """`latents` [n, latent] are drawn once from N(0, 1) and `seed`. `judge` is asked for when it is first needed, for it may have to
    be trained."""

    def __init__(self, n: int, latent: int, seed: int, judge: Callable[[], ScoringClassifier], device: Device):
        self.latents = torch.randn(n, latent, generator=torch.Generator().manual_seed(seed)).to(device.torch)
        self._judge, self._device = judge, device

    def verdict(self, decode: Decode) -> GeneratedImageScores:
        """On what `decode` makes of the latents; the real images are still to be given."""
        verdict = GeneratedImageScores(self._judge(), self._device)
        for latents in self._device.shard(self.latents).split(MADE_AT_ONCE):
            verdict.generated(decode(latents))
        return verdict

    def show(self, decode: Decode, epoch: int) -> Iterator[tuple[str, bytes]]:
        """Images of the first latents, kept after 1, 2, 4, 8, ... epochs beside the newest, and walks between pairs of latents."""
        samples = figures.image_grid(decode(self.latents[:SAMPLES]), COLUMNS)
        yield "samples.png", samples
        if epoch.bit_count() == 1:
            yield f"samples_over_epochs-{epoch:03d}.png", samples
        # Few latents make few walks.
        pairs = self.latents[: min(2 * WALKS, len(self.latents) // 2 * 2)].unflatten(0, (-1, 2))
        walks = spherical_interpolation(pairs[:, 0], pairs[:, 1], STOPS).flatten(0, 1)
        yield "interpolation.png", figures.image_grid(decode(walks), STOPS)


def spherical_interpolation(a: Tensor, b: Tensor, stops: int) -> Tensor:
    """From each of `a` [n, d] to the one of `b`, along the great arc: [n, stops, d], both ends included.

    A straight line would pass near the origin, where a normal distribution in many dimensions has next to nothing
    (White 2016, arXiv:1609.04468).
    """
    share = torch.linspace(0, 1, stops, device=a.device).view(1, -1, 1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos().view(-1, 1, 1)
    return (((1 - share) * angle).sin() * a.unsqueeze(1) + (share * angle).sin() * b.unsqueeze(1)) / angle.sin()
