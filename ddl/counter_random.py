"""Random numbers that are a function of a key and a position, and of nothing else.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". A generator with a state gives other numbers if anything else draws
from it. These are the same in a trial alone and in a stack of trials, after a resume, and on every device.
"""

import hashlib

import torch
from torch import Tensor

BLOCK = 2**16
"""Elements computed at once on a CPU, so that the intermediate results stay in the core's cache."""


def _signed(value: int, bits: int) -> int:
    """The integer with these lowest `bits` bits that a signed tensor can hold."""
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


# Odd constants of SplitMix64 (Steele et al. 2014) and of the 32-bit hash lowbias32 (Wellons 2018).
_ROW, _STEP = _signed(0x9E3779B97F4A7C15, 64), 0xD1342543DE82EF95
_MIX = (_signed(0xBF58476D1CE4E5B9, 64), _signed(0x94D049BB133111EB, 64))
_COLUMN, _HASH = _signed(0x9E3779B9, 32), (_signed(0x7FEB352D, 32), _signed(0x846CA68B, 32))


def random_key(seed: int, purpose: str) -> int:
    """A key, int64, from a trial's seed and the purpose of its random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest(), signed=True)


def step_offset(step: int) -> int:
    """The number (int64) that is added to a key for the random numbers of one step; the sum may overflow."""
    return _signed(step * _STEP, 64)


def random_bits(keys: Tensor, columns: Tensor, first_row: int, rows: int) -> Tensor:
    """Uniform bits, int32 [k x rows, len(columns)], for keys int64 [k]: these columns (int32) of the rows `first_row` to `first_row + rows`.

    A number depends on its key, row and column, not on which others there are.
    """
    return _hashed(_row_keys(keys, first_row, rows), columns * _COLUMN)


def random_mask(keys: Tensor, keep: Tensor, columns: Tensor, first_row: int, rows: int, dtype: torch.dtype) -> Tensor:
    """A mask of `dtype` [k x rows, len(columns)] for dropout: 1 / keep with the probability `keep` (fp32 [k]), and 0 otherwise.

    The random numbers are those of `random_bits`.
    """
    row_keys = _row_keys(keys, first_row, rows)
    positions = columns * _COLUMN
    # As int32, uniform bits are at most this bound with the probability `keep`; fp32 keeps 24 bits of it.
    bounds = ((keep - 0.5) * 2**32).clamp(256 - 2**31, 2**31 - 128).to(torch.int32) - 1
    bounds = bounds.masked_fill(keep == 1, 2**31 - 1).repeat_interleave(rows).unsqueeze(1)  # all of them, as without a mask
    scales = keep.reciprocal().to(dtype).repeat_interleave(rows).unsqueeze(1)
    if keys.device.type != "cpu" or torch.compiler.is_compiling():
        return (_hashed(row_keys, positions) <= bounds).to(dtype).mul_(scales)
    mask = torch.empty(len(row_keys), len(columns), dtype=dtype)
    at_once = max(BLOCK // max(len(columns), 1), 1)
    for first in range(0, len(row_keys), at_once):
        part = slice(first, first + at_once)
        torch.le(_hashed(row_keys[part], positions), bounds[part], out=mask[part]).mul_(scales[part])
    return mask


def _row_keys(keys: Tensor, first_row: int, rows: int) -> Tensor:
    """Two independent numbers for each row of each key, int32 [k x rows, 2], by the finaliser of SplitMix64.

    Shifts of signed integers repeat the sign, which costs the hash a bit of its 64, and saves a masking operation for each.
    """
    x = keys.unsqueeze(1) + torch.arange(first_row, first_row + rows, device=keys.device) * _ROW
    x = (x ^ (x >> 30)) * _MIX[0]
    x = (x ^ (x >> 27)) * _MIX[1]
    return (x ^ (x >> 31)).view(-1, 1).view(torch.int32)


def _hashed(row_keys: Tensor, positions: Tensor) -> Tensor:
    """A keyed hash of positions int32 [columns] for each row of `row_keys`: int32 [rows, columns]."""
    x = row_keys[:, :1] + positions
    x ^= x >> 16
    x *= _HASH[0]
    x ^= row_keys[:, 1:]  # two rows whose positions overlap after the first addition still differ
    x ^= x >> 15
    x *= _HASH[1]
    return x
