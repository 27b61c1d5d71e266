"""Counter-based random numbers: uniform, independent, and the same for whatever else is computed."""

import itertools

import pytest
import torch

from ddl import counter_random
from ddl.counter_random import random_bits, random_key, random_mask, step_offset

ROWS, COLUMNS = 256, 1024
LIMIT = 4.5
"""Standard errors that a statistic may be off: one in 150,000 would be, by chance."""


def key(seed: int = 3, layer: int = 0, step: int = 7) -> torch.Tensor:
    return torch.tensor([random_key(seed, f"dropout {layer}")]) + step_offset(step)


def bits(**of) -> torch.Tensor:
    return random_bits(key(**of), columns(COLUMNS), 0, ROWS)


def columns(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.int32)


def signs(of: torch.Tensor) -> torch.Tensor:
    """Each of the 32 bits as +-1: float64 [32, rows, columns]."""
    return torch.stack([(of >> bit) & 1 for bit in range(32)]).double() * 2 - 1


def test_each_bit_is_set_half_of_the_time():
    means = signs(bits()).mean((1, 2)) * (ROWS * COLUMNS) ** 0.5
    # The lowest bits of a product are worse than the highest, which alone decide a comparison.
    assert means[8:].abs().max() < LIMIT


@pytest.mark.parametrize("high", [16, 20, 24])
def test_bytes_are_uniform_by_chi_square(high):
    counts = torch.bincount(((bits() >> high) & 255).flatten(), minlength=256).double()
    expected = ROWS * COLUMNS / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 255) / (2 * 255) ** 0.5 < LIMIT


def test_pairs_of_neighbours_are_uniform_by_chi_square():
    high = (bits() >> 28) & 15
    for a, b in ((high[:, :-1], high[:, 1:]), (high[:-1], high[1:])):
        counts = torch.bincount((16 * a + b).flatten(), minlength=256).double()
        expected = a.numel() / 256
        assert abs(((counts - expected) ** 2 / expected).sum() - 255) / (2 * 255) ** 0.5 < LIMIT


OTHERS = {
    "column": lambda: (bits()[:, :-1], bits()[:, 1:]),
    "row": lambda: (bits()[:-1], bits()[1:]),
    "far column": lambda: (bits()[:, :-64], bits()[:, 64:]),
    "step": lambda: (bits(step=7), bits(step=8)),
    "layer": lambda: (bits(layer=0), bits(layer=1)),
    "seed": lambda: (bits(seed=3), bits(seed=4)),
    "high bit of the seed": lambda: (bits(seed=3), bits(seed=3 + 2**40)),
    "process": lambda: (bits(), random_bits(key(), columns(COLUMNS), 2**40, ROWS)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_neighbouring_numbers_are_not_correlated(other):
    a, b = OTHERS[other]()
    uniform = [part.double().flatten() for part in (a, b)]
    correlation = torch.corrcoef(torch.stack(uniform))[0, 1] * a.numel() ** 0.5
    assert abs(correlation) < LIMIT
    of_bits = (signs(a)[-8:, None] * signs(b)[None, -8:]).mean((2, 3)) * a.numel() ** 0.5
    assert of_bits.abs().max() < LIMIT


def test_the_corners_of_rectangles_are_independent():
    """A sum of a row's and a column's number would make the fourth corner follow from three."""
    top = signs(bits())[-1]
    for rows, columns in itertools.product((1, 7), (1, 5)):
        product = top[:-rows, :-columns] * top[rows:, :-columns] * top[:-rows, columns:] * top[rows:, columns:]
        assert abs(product.mean()) * product.numel() ** 0.5 < LIMIT


@pytest.mark.parametrize("keep", [0.95, 0.7, 0.5, 0.1])
def test_a_mask_keeps_its_fraction_and_the_mean(keep):
    mask = random_mask(key(), torch.tensor([keep]), columns(COLUMNS), 0, ROWS, torch.float32)
    error = (keep * (1 - keep) / mask.numel()) ** 0.5
    assert abs((mask > 0).double().mean() - keep) < LIMIT * error
    assert mask.unique().tolist() == pytest.approx([0, 1 / keep])


def test_a_number_does_not_depend_on_how_many_there_are(monkeypatch):
    keys, keep = torch.cat([key(seed=1), key(seed=2)]), torch.tensor([0.7, 0.4])
    both = random_mask(keys, keep, columns(20), 0, 33, torch.float32).view(2, 33, 20)
    monkeypatch.setattr(counter_random, "BLOCK", 64)
    for position in range(2):
        alone = random_mask(keys[position : position + 1], keep[position : position + 1], columns(24), 0, 40, torch.float32)
        assert torch.equal(alone[:33, :20], both[position])
    later = random_mask(keys[:1], keep[:1], columns(20), 30, 3, torch.float32)
    assert torch.equal(later, both[0, 30:])
    chosen = torch.tensor([7, 19, 3], dtype=torch.int32)
    assert torch.equal(random_mask(keys[:1], keep[:1], chosen, 0, 33, torch.float32), both[0][:, chosen])


def test_nothing_is_dropped_at_a_rate_of_0():
    assert random_mask(key(), torch.ones(1), columns(COLUMNS), 0, ROWS, torch.float32).unique().tolist() == [1]


def test_the_largest_number_is_kept_at_a_rate_of_0_alone(monkeypatch):
    monkeypatch.setattr(
        counter_random, "_hashed", lambda rows, positions: torch.full((len(rows), len(positions)), 2**31 - 1, dtype=torch.int32)
    )
    mask = random_mask(torch.cat([key(), key()]), torch.tensor([1.0, 1 - 2**-24]), columns(4), 0, 1, torch.float32)
    assert mask.tolist() == [[1.0] * 4, [0.0] * 4]


def test_the_numbers_are_these_for_good():
    """Trials that resume after an update of the package draw the same numbers."""
    assert random_key(3, "dropout 0") == PINNED_KEY
    assert random_bits(key(), columns(3), 0, 2).tolist() == PINNED


PINNED_KEY = 6031431661163049401
PINNED = [[844897502, -1114087674, -1004578344], [-2106890208, -758400109, 2104638403]]
