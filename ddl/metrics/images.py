"""How far images are from what they should be, and how colourful they are. Every measure gives one value an image, [n]."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

Measure = Callable[[Tensor, Tensor], Tensor]
"""Of predicted and wanted images, both [n, c, h, w] in 0..1."""

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
"""Wang et al. 2004, IEEE Transactions on Image Processing 13(4): a Gaussian window of 11 x 11 pixels with this deviation."""


def absolute_error(predicted: Tensor, wanted: Tensor) -> Tensor:
    return (predicted - wanted).abs().flatten(1).mean(1)


def squared_error(predicted: Tensor, wanted: Tensor) -> Tensor:
    return (predicted - wanted).square().flatten(1).mean(1)


def psnr_db(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, the peak being 1 (torchmetrics)."""
    return peak_signal_noise_ratio(predicted, wanted, data_range=1.0, dim=(1, 2, 3), reduction="none")


def ssim(predicted: Tensor, wanted: Tensor, window: int = SSIM_WINDOW) -> Tensor:
    """Structural similarity (Wang et al. 2004, torchmetrics), edges mirrored; another window has its deviation in proportion."""
    sigma = SSIM_SIGMA * window / SSIM_WINDOW  # torchmetrics takes the window from this
    return structural_similarity_index_measure(predicted, wanted, sigma=sigma, data_range=1.0, reduction="none")


def check_window(window: int, size: int) -> None:
    """Raises ValueError where SSIM cannot have this window on images of `size` x `size`."""
    if window % 2 == 0 or window < 3:
        raise ValueError(f"an SSIM window of {window} has no centre to weigh from. Take an odd number from 3 on.")
    if window > size:
        raise ValueError(f"an SSIM window of {window} x {window} is larger than the images, {size} x {size}. Take {size} at most.")


def make_loss(name: str, window: int) -> Measure:
    """What a network is trained to minimise: `mae`, `ssim` (1 - SSIM) or `psnr` (1 / PSNR in dB), for each image."""
    match name:
        case "mae":
            return absolute_error
        case "ssim":
            return lambda predicted, wanted: 1 - ssim(predicted, wanted, window)
        case "psnr":
            return lambda predicted, wanted: 1 / psnr_db(predicted, wanted)
    raise ValueError(f"loss {name!r}: unknown. There are: mae, ssim, psnr.")


def colourfulness(images: Tensor) -> Tensor:
    """Of colour images [n, 3, h, w] in 0..1, [n]: 0 is grey, 15 slightly, 33 moderately, 59 quite, 109 extremely colourful
    (Hasler & Suesstrunk 2003, Measuring colourfulness in natural images, section 7, on the scale of pixels in 0..255)."""
    red, green, blue = (255 * images).flatten(2).unbind(1)
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = (red_green.var(1, correction=0) + yellow_blue.var(1, correction=0)).sqrt()
    return spread + 0.3 * (red_green.mean(1).square() + yellow_blue.mean(1).square()).sqrt()


def ssim_measure(window: int) -> Measure:
    return partial(ssim, window=window)


def grey(images: Tensor) -> Tensor:
    """Luma of stored colour images, uint8 [n, 3, h, w] to [n, 1, h, w] (ITU-R BT.601)."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)
