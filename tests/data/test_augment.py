"""Where augmentation moves images, seen by images that hold their own coordinates."""

import math

import pytest
import torch
from torch import Tensor

from ddl.data.augment import STRENGTHS, Augmentation, FlipAndShift

NOTHING = {"zoom": 0.0, "rotation": 0.0, "translation": 0.0, "flip": 0.0}


def only(**range_: float) -> Augmentation:
    return Augmentation(**NOTHING | range_)


def coordinates(n: int, height: int, width: int) -> Tensor:
    """Images [n, 2, height, width] whose two channels are each pixel's own column and row, counted from the middle."""
    rows = torch.arange(height) - (height - 1) / 2
    columns = torch.arange(width) - (width - 1) / 2
    image = torch.stack([columns.expand(height, width), rows.unsqueeze(1).expand(height, width)])
    return image.expand(n, 2, height, width).contiguous()


def moves(augmentation: Augmentation, n: int = 500, height: int = 65, width: int = 65) -> tuple[Tensor, Tensor]:
    """Of each of `n` images, from the four pixels around its middle: the matrix and the shift (in pixels: column, row) from a
    place in the result to where its content comes from."""
    result = augmentation(coordinates(n, height, width))
    middle = result[:, :, height // 2 - 1 : height // 2 + 2, width // 2 - 1 : width // 2 + 2]
    along_columns = (middle[:, :, 1, 2] - middle[:, :, 1, 0]) / 2
    along_rows = (middle[:, :, 2, 1] - middle[:, :, 0, 1]) / 2
    return torch.stack([along_columns, along_rows], dim=2), middle[:, :, 1, 1]


def assert_reaches(values: Tensor, bound: float) -> None:
    """Spread over -bound..bound: never beyond, nearly to both ends, no half more often than the other."""
    assert values.abs().max() <= bound * 1.001
    assert values.max() > 0.95 * bound
    assert values.min() < -0.95 * bound
    assert 0.4 < (values > 0).float().mean() < 0.6
    assert 0.4 < (values.abs() > bound / 2).float().mean() < 0.6


def assert_close(values: Tensor, expected: Tensor | float) -> None:
    torch.testing.assert_close(values, torch.as_tensor(expected).expand_as(values), atol=2e-3, rtol=1e-3)


EYE = torch.eye(2)


# Each on its own


def test_none_changes_nothing_and_draws_nothing():
    images, random = torch.rand(4, 3, 9, 7), torch.get_rng_state()
    assert torch.equal(STRENGTHS["none"](images), images)
    assert torch.equal(torch.get_rng_state(), random)


def test_no_range_at_all_is_none():
    images = torch.rand(4, 3, 9, 7)
    assert torch.equal(only()(images), images)


@pytest.mark.parametrize(("height", "width"), [(65, 65), (41, 101), (101, 41)])
def test_translation_shifts_by_a_share_of_each_side(height, width):
    matrix, shift = moves(only(translation=0.1), height=height, width=width)
    assert_close(matrix, EYE)
    assert_reaches(shift[:, 0], 0.1 * width)
    assert_reaches(shift[:, 1], 0.1 * height)
    assert abs(torch.corrcoef(shift.T)[0, 1]) < 0.2, "sideways and up and down are drawn apart"


@pytest.mark.parametrize(("height", "width"), [(65, 65), (41, 101), (101, 41)])
def test_rotation_turns_about_the_middle_without_bending(height, width):
    matrix, shift = moves(only(rotation=0.2 * math.pi), height=height, width=width)
    assert_close(shift, 0.0)
    assert_close(matrix @ matrix.transpose(1, 2), EYE)
    assert_close(torch.linalg.det(matrix), 1.0)
    assert_reaches(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]), 0.2 * math.pi)


@pytest.mark.parametrize(("height", "width"), [(65, 65), (41, 101)])
def test_zoom_scales_both_sides_alike(height, width):
    matrix, shift = moves(only(zoom=0.5), height=height, width=width)
    assert_close(shift, 0.0)
    assert_close(matrix, matrix[:, :1, :1] * EYE)
    assert_reaches(matrix[:, 0, 0] - 1, 0.5)


def test_flip_is_a_mirror_for_as_many_as_its_probability_says():
    images = torch.rand(1000, 3, 8, 16)
    flipped = only(flip=0.3)(images)
    as_it_was = torch.isclose(flipped, images, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(flipped, images.flip(3), atol=1e-5).flatten(1).all(1)
    assert (as_it_was ^ mirrored).all()
    assert 0.25 < mirrored.float().mean() < 0.35


def test_a_certain_flip():
    images = torch.rand(50, 3, 28, 20)
    torch.testing.assert_close(only(flip=1.0)(images), images.flip(3), atol=1e-5, rtol=0)


# Exact cases: where every draw is at its upper end


@pytest.fixture
def upper(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **named: torch.ones(*shape, **named))


@pytest.mark.usefixtures("upper")
def test_a_quarter_turn_takes_a_bright_corner_to_the_next():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 0, 1] = 1.0
    turned = only(rotation=math.pi / 2)(image)
    torch.testing.assert_close(turned, image.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    assert turned[0, 0, 3, 0] > 0.99


@pytest.mark.usefixtures("upper")
def test_a_half_turn_is_two_mirrors():
    images = torch.rand(3, 2, 4, 6)
    torch.testing.assert_close(only(rotation=math.pi)(images), images.flip(2, 3), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("upper")
def test_a_shift_by_one_pixel_brings_in_the_reflected_border():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    shifted = only(translation=1 / 4)(image)
    expected = image[:, :, [1, 2, 3, 3]][:, :, :, [1, 2, 3, 3]]
    torch.testing.assert_close(shifted, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("upper")
def test_a_double_zoom_halves_the_image_and_reflects_it_around():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 1.0
    image[0, 0, 4, 6] = 0.5
    small = only(zoom=1.0)(image)
    assert small[0, 0, 4, 4].item() == pytest.approx(1.0)
    assert small[0, 0, 4, 5].item() == pytest.approx(0.5)


# The study's strengths


def test_light_never_mirrors():
    matrix, shift = moves(STRENGTHS["light"])
    scale = torch.linalg.det(matrix).sqrt()
    assert_reaches(scale - 1, 0.1)
    assert_reaches(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]), 0.2 * math.pi)
    assert_reaches(shift[:, 0], 6.5)


def test_aggressive_turns_all_the_way_round_and_mirrors_half():
    matrix, _ = moves(STRENGTHS["aggressive"], n=1000)
    scaled = torch.linalg.det(matrix)
    mirrored = scaled < 0
    assert 0.45 < mirrored.float().mean() < 0.55
    assert_reaches(scaled.abs().sqrt() - 1, 0.5)
    assert_reaches(torch.atan2(matrix[~mirrored][:, 1, 0], matrix[~mirrored][:, 0, 0]), math.pi)
    assert_reaches(torch.atan2(matrix[mirrored][:, 1, 0], matrix[mirrored][:, 1, 1]), math.pi)


def test_a_middle_far_from_its_place_is_still_within_the_range_of_aggressive():
    _, shift = moves(only(translation=0.3))
    assert_reaches(shift[:, 0], 0.3 * 65)
    assert STRENGTHS["aggressive"].translation == 0.3


@pytest.mark.parametrize("strength", ["light", "aggressive"])
def test_each_image_of_a_batch_draws_its_own(strength):
    matrix, shift = moves(STRENGTHS[strength], n=50)
    seen = {tuple(row) for row in torch.cat([matrix.flatten(1), shift], 1).tolist()}
    assert len(seen) == 50


@pytest.mark.parametrize("strength", ["light", "aggressive"])
def test_the_same_seed_moves_the_same_way_and_another_does_not(strength):
    images = torch.rand(5, 3, 8, 8)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(STRENGTHS[strength](images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("strength", ["light", "aggressive"])
@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (4, 1, 28, 28), (4, 3, 12, 30), (1, 1, 1, 1)])
def test_no_value_is_made_up(strength, shape):
    images = torch.rand(shape) * 200 + 20
    moved = STRENGTHS[strength](images)
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    assert moved.min() >= images.min() - 1e-3, "no black corners"
    assert moved.max() <= images.max() + 1e-3
    torch.testing.assert_close(STRENGTHS[strength](torch.full(shape, 7.0)), torch.full(shape, 7.0))


# Alternating flips and shifts by whole pixels


def flip_and_shift(flips="none", pixels=0, first=()) -> FlipAndShift:
    return FlipAndShift(flips, pixels, torch.tensor(first, dtype=torch.bool))


def test_alternating_flips_mirror_each_image_in_every_other_epoch():
    images = torch.rand(4, 3, 6, 6)
    augment = flip_and_shift("alternating", first=[True, False, True, False])
    order = torch.tensor([3, 0, 2, 1])
    for epoch in range(4):
        seen = augment(images[order], order, epoch)
        for position, image in zip(order.tolist(), seen, strict=True):
            mirrored = (position + epoch) % 2 == 0
            assert torch.equal(image, images[position].flip(2) if mirrored else images[position])


def test_random_flips_mirror_about_half_of_the_images_whatever_the_epoch():
    images, positions = torch.rand(1000, 1, 2, 4), torch.arange(1000)
    for epoch in (0, 1):
        seen = flip_and_shift("random")(images, positions, epoch)
        mirrored = (seen == images.flip(3)).flatten(1).all(1)
        assert (mirrored ^ (seen == images).flatten(1).all(1)).all()
        assert 0.4 < mirrored.float().mean() < 0.6


def test_shifts_are_whole_pixels_up_to_the_largest_in_each_direction_with_a_reflected_border():
    images = coordinates(500, 7, 9)
    seen = flip_and_shift(pixels=2)(images, torch.arange(500), 0)
    padded = torch.nn.functional.pad(images[:1], (2, 2, 2, 2), mode="reflect")
    crops = {(down, right): padded[0, :, down : down + 7, right : right + 9] for down in range(5) for right in range(5)}
    found = [next(shift for shift, crop in crops.items() if torch.equal(image, crop)) for image in seen]
    assert set(found) == set(crops)
    assert torch.equal(padded[0, 0, 2, :3], torch.tensor([-2.0, -3.0, -4.0])), "reflected without the border's pixel"


def test_nothing_to_flip_or_shift_changes_nothing_and_draws_nothing():
    images, random = torch.rand(4, 3, 9, 7), torch.get_rng_state()
    assert torch.equal(flip_and_shift()(images, torch.arange(4), 0), images)
    assert torch.equal(torch.get_rng_state(), random)
