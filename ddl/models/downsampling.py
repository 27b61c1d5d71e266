"""Side length of an image after repeated halving."""


def halved_side(size: int, times: int) -> int:
    """Side of a `size` x `size` image after `times` halvings. Raises ValueError if `size` is not divisible by 2^`times`."""
    if size % 2**times:
        raise ValueError(f"an image of {size} x {size} cannot be halved {times} times. Use a multiple of {2**times}, or fewer layers.")
    return size // 2**times
