"""The side of an image after repeated 2x downsampling."""


def halved_side(size: int, times: int) -> int:
    """An image's side after so many halvings. Raises ValueError where it does not come out even."""
    if size % 2**times:
        raise ValueError(f"an image of {size} x {size} cannot be halved {times} times. Take a multiple of {2**times}, or fewer layers.")
    return size // 2**times
