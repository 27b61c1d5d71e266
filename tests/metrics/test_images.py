"""Tests of image measures against values computed by hand."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ddl.metrics import images
from ddl.metrics.images import colourfulness, grey, make_loss, psnr_db, ssim
from ddl.metrics.limits import check_window

BLACK, WHITE = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)


def test_errors_and_psnr_of_each_image_alone():
    predicted, wanted = torch.cat([BLACK, BLACK + 0.1]), torch.cat([WHITE, BLACK])
    torch.testing.assert_close(images.absolute_error(predicted, wanted), torch.tensor([1.0, 0.1]))
    torch.testing.assert_close(images.squared_error(predicted, wanted), torch.tensor([1.0, 0.01]))
    torch.testing.assert_close(psnr_db(predicted, wanted), torch.tensor([0.0, 20.0]))


def test_psnr_and_its_gradient_are_torchmetrics():
    predicted, wanted = torch.rand(4, 3, 16, 16, requires_grad=True), torch.rand(4, 3, 16, 16)
    ours = psnr_db(predicted, wanted)
    theirs = peak_signal_noise_ratio(predicted, wanted, data_range=1.0, dim=(1, 2, 3), reduction="none")
    assert torch.equal(ours, theirs)
    (gradient,), (expected,) = (torch.autograd.grad(values.sum(), predicted) for values in (ours, theirs))
    assert torch.equal(gradient, expected)


def test_structure_is_what_ssim_sees():
    picture = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ssim(picture, picture), torch.ones(2))
    noisy = (picture + 0.3 * torch.randn_like(picture)).clamp(0, 1)
    assert (ssim(noisy, picture) < 0.9).all()
    # Two flat images differ in luminance alone: (2ab + c) / (a^2 + b^2 + c), c being 0.01 squared.
    torch.testing.assert_close(ssim(BLACK + 0.5, BLACK + 0.25), torch.tensor([(0.25 + 1e-4) / (0.3125 + 1e-4)]))


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11, 13, 15, 31])
def test_the_window_is_as_large_as_it_says(window):
    # One pixel differs, far from the edges: similarity is lost wherever a window sees it, and nowhere else.
    picture = torch.zeros(1, 1, 65, 65)
    changed = picture.clone()
    changed[0, 0, 32, 32] = 1.0
    _, similarity = structural_similarity_index_measure(changed, picture, sigma=1.5 * window / 11, data_range=1.0, return_full_image=True)
    seen = ((1 - similarity[0, 0]).abs() > 1e-9).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [window, window]
    torch.testing.assert_close(ssim(changed, picture, window), similarity.mean((1, 2, 3)))


@pytest.mark.parametrize("window", [0, 1, 2, 10])
def test_a_window_without_a_centre(window):
    with pytest.raises(ValueError, match=rf"SSIM window of {window} has no centre pixel.*odd number of at least 3"):
        check_window(window, 32)


def test_a_window_larger_than_the_images():
    check_window(31, 32)
    with pytest.raises(ValueError, match=r"33 x 33 is larger than the images, 32 x 32\. Use at most 32"):
        check_window(33, 32)


@pytest.mark.parametrize("name", ["mae", "ssim", "psnr"])
def test_a_loss_is_lower_for_a_better_image_and_has_a_gradient(name):
    wanted = torch.rand(4, 3, 16, 16)
    criterion = make_loss(name, 11)
    near, far = (wanted + 0.05).requires_grad_(), (wanted + 0.4 * torch.randn_like(wanted)).requires_grad_()
    assert (criterion(near, wanted) < criterion(far, wanted)).all()
    criterion(far, wanted).mean().backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()
    assert (far.grad != 0).any()


def test_the_losses_are_what_their_names_say():
    wanted, predicted = BLACK, BLACK + 0.1
    assert make_loss("mae", 11)(predicted, wanted).item() == pytest.approx(0.1)
    assert make_loss("psnr", 11)(predicted, wanted).item() == pytest.approx(1 / 20)
    assert make_loss("ssim", 11)(predicted, wanted).item() == pytest.approx(1 - ssim(predicted, wanted).item())
    with pytest.raises(ValueError, match=r"loss 'mse': unknown\. Use mae, ssim or psnr"):
        make_loss("mse", 11)


def test_grey_has_no_colour_and_two_colours_have_what_the_formula_says():
    assert colourfulness(torch.rand(3, 1, 8, 8).expand(3, 3, 8, 8)).abs().max() < 1e-4
    half_red_half_blue = torch.zeros(1, 3, 4, 4)
    half_red_half_blue[:, 0, :2] = half_red_half_blue[:, 2, 2:] = 1.0
    # rg is 255 and 0, yb 127.5 and -255: spreads of 127.5 and 191.25, means of 127.5 and -63.75.
    by_hand = math.hypot(127.5, 191.25) + 0.3 * math.hypot(127.5, 63.75)
    assert colourfulness(half_red_half_blue).item() == pytest.approx(by_hand, rel=1e-5)


def test_grey_is_the_luma_of_stored_images():
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8).view(4, 3, 1, 1)
    assert grey(colours).flatten().tolist() == [76, 150, 29, 255]
    assert grey(colours).dtype == torch.uint8
