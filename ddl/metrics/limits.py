"""Limits of the hyperparameters that metrics are computed with."""

INCEPTION_SPLITS = 10
"""Number of splits of the images that the Inception Score averages over (Salimans et al. 2016): the fewest images."""


def check_window(window: int, size: int) -> None:
    """Raise ValueError unless `window` is odd, at least 3 and at most `size`, the side of the images."""
    if window % 2 == 0 or window < 3:
        raise ValueError(f"an SSIM window of {window} has no centre pixel. Use an odd number of at least 3.")
    if window > size:
        raise ValueError(f"an SSIM window of {window} x {window} is larger than the images, {size} x {size}. Use at most {size}.")
