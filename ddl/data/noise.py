"""Images with Gaussian noise, as a bad sensor would store them."""

import torch
from torch import Tensor

NOISED_AT_ONCE = 1024


def noisy(pixels: Tensor, deviation: float) -> Tensor:
    """Floating images in 0..1 with noise of that standard deviation on every value, cut off at 0 and 1; drawn from torch's global
    generator of their device."""
    return (pixels + deviation * torch.randn_like(pixels)).clamp(0, 1)


def noisy_copy(images: Tensor, deviation: float, seed: int) -> Tensor:
    """The same of stored images, uint8 to uint8 [n, ...], drawn from `seed` on the CPU: each device gives the same ones."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for part in images.cpu().split(NOISED_AT_ONCE):
        noise = torch.randn(part.shape, generator=generator)
        parts.append((part + 255 * deviation * noise).clamp(0, 255).round().to(torch.uint8))
    return torch.cat(parts).to(images.device)
