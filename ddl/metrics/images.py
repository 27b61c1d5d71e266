"""Measures of image quality and colourfulness, one value per image, [n]."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

Measure = Callable[[Tensor, Tensor], Tensor]
"""Maps predicted and target images, both [n, c, h, w] in 0..1, to one value per image, [n]."""

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
"""Wang et al. 2004, IEEE Transactions on Image Processing 13(4): an 11 x 11 Gaussian window with this standard deviation."""


def absolute_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error per image."""
    return (predicted - target).abs().flatten(1).mean(1)


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error per image."""
    return (predicted - target).square().flatten(1).mean(1)


def psnr_db(predicted: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, for a peak of 1. torchmetrics' copies the shape to the device, which makes the host wait."""
    return -squared_error(predicted, target).log() * (10 / math.log(10))


def ssim(predicted: Tensor, target: Tensor, window: int = SSIM_WINDOW) -> Tensor:
    """Structural similarity (Wang et al. 2004, torchmetrics) with mirrored edges; `SSIM_SIGMA` scales with `window`."""
    sigma = SSIM_SIGMA * window / SSIM_WINDOW  # torchmetrics derives the window size from it
    return structural_similarity_index_measure(predicted, target, sigma=sigma, data_range=1.0, reduction="none")


def make_loss(name: str, window: int) -> Measure:
    """Loss per image: `mae`, `ssim` (1 - SSIM) or `psnr` (1 / PSNR in dB). Raises ValueError for another name."""
    match name:
        case "mae":
            return absolute_error
        case "ssim":
            return lambda predicted, target: 1 - ssim(predicted, target, window)
        case "psnr":
            return lambda predicted, target: 1 / psnr_db(predicted, target)
    raise ValueError(f"loss {name!r}: unknown. Use mae, ssim or psnr.")


def colourfulness(images: Tensor) -> Tensor:
    """Colourfulness of images [n, 3, h, w] in 0..1: 0 is grey, 15 slightly, 33 moderately, 59 quite, 109 extremely colourful.

    Hasler & Suesstrunk 2003, Measuring colourfulness in natural images, section 7, on the scale of pixels in 0..255.
    """
    red, green, blue = (255 * images).flatten(2).unbind(1)
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = (red_green.var(1, correction=0) + yellow_blue.var(1, correction=0)).sqrt()
    return spread + 0.3 * (red_green.mean(1).square() + yellow_blue.mean(1).square()).sqrt()


def grey(images: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) of colour images, uint8 [n, 3, h, w] to uint8 [n, 1, h, w]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)
