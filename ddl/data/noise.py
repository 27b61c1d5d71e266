"""Gaussian noise on images, like that of a poor sensor."""

import torch
from torch import Tensor

CHUNK = 1024
"""Images that get their noise at a time."""


def noisy(pixels: Tensor, deviation: float) -> Tensor:
    """Floating-point images in 0..1 with noise of this standard deviation on every value, clipped to 0..1.

    Uses torch's global generator of their device.
    """
    return (pixels + deviation * torch.randn_like(pixels)).clamp(0, 1)


def noisy_copy(images: Tensor, deviation: float, seed: int) -> Tensor:
    """Like `noisy`, from uint8 to uint8 [n, ...]. Generated from `seed` on the CPU, so the result is equal on every device."""
    generator = torch.Generator().manual_seed(seed)
    chunks = []
    for chunk in images.cpu().split(CHUNK):
        noise = torch.randn(chunk.shape, generator=generator)
        chunks.append((chunk + 255 * deviation * noise).clamp(0, 255).round().to(torch.uint8))
    return torch.cat(chunks).to(images.device)
