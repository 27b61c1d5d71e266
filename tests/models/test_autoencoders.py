"""Tests of the image models: the study's layers, and invalid sizes."""

import pytest
import torch
from torch import nn

from ddl.models import autoencoders
from ddl.models.autoencoders import VariationalAutoencoder
from ddl.models.downsampling import halved_side
from ddl.models.pca import fit_pca
from ddl.models.preprocess import ScaleToUnit
from ddl.models.strided import StridedDecoder, StridedEncoder
from ddl.models.unet import PatchDiscriminator, UNet


def layers(module: nn.Module) -> list[str]:
    return [
        f"D({layer.out_features})" if isinstance(layer, nn.Linear) else f"C({layer.out_channels})"
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]


def test_the_dense_autoencoder_is_the_studys():
    model = autoencoders.dense_autoencoder(
        torch.zeros(1, 32, 32), [256, 512, 2048, 1024], 10, [1024, 2048], relu_latent=False, output="relu"
    )
    assert layers(model.encode) == ["D(256)", "D(512)", "D(2048)", "D(1024)", "D(10)"]
    assert layers(model.decode) == ["D(1024)", "D(2048)", "D(1024)"]
    images = torch.rand(3, 1, 32, 32)
    assert model.encode(images).shape == (3, 10)
    assert model(images).shape == images.shape


def test_the_convolutional_autoencoder_is_the_studys():
    model = autoencoders.convolutional_autoencoder(
        torch.zeros(1, 32, 32), [128, 256, 512, 1024], 10, [2048, 2048], relu_latent=False, output="relu"
    )
    assert layers(model.encode) == ["C(128)", "C(256)", "C(512)", "C(1024)", "D(10)"]
    assert layers(model.decode) == ["D(2048)", "D(2048)", "D(1024)"]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in model.encode.modules()) == 3
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: autoencoders.dense_autoencoder(torch.zeros(1, 8, 8), [6], 3, [6], **k),
        lambda **k: autoencoders.convolutional_autoencoder(torch.zeros(1, 8, 8), [2, 3], 3, [6], **k),
    ],
)
def test_what_follows_the_representation_and_the_image(make):
    torch.manual_seed(0)
    images = torch.rand(50, 1, 8, 8)
    assert (make(relu_latent=True, output="relu").encode(images) >= 0).all()
    assert (make(relu_latent=False, output="relu").encode(images) < 0).any()
    assert (make(relu_latent=False, output="sigmoid")(images) > 0).all()
    assert (make(relu_latent=False, output="relu")(images) == 0).any()


def test_convolutions_that_keep_the_size_stand_where_the_image_is_smallest():
    encoder, decoder = StridedEncoder(1, 12, [2, 3], 4, 1, convolutions=2), StridedDecoder(5, 0, 1, 12, [2, 3], convolutions=2)
    assert layers(encoder) == ["C(2)", "C(3)", "C(3)", "C(3)", "D(4)", "D(1)"]
    assert layers(decoder) == ["D(27)", "C(3)", "C(3)"], "and then those that double it"
    assert decoder(torch.rand(2, 5)).shape == (2, 1, 12, 12)
    assert encoder(torch.rand(2, 1, 12, 12)).shape == (2, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: autoencoders.convolutional_autoencoder(torch.zeros(1, 12, 12), [2] * 4, 3, [6], relu_latent=False, output="relu"),
        lambda: UNet(1, 3, 12, [2] * 4),
        lambda: StridedEncoder(1, 12, [2] * 3, 4, 1),
        lambda: StridedDecoder(4, 4, 1, 12, [2] * 3),
    ],
)
def test_a_size_that_cannot_be_halved_so_often(make):
    with pytest.raises(ValueError, match=r"12 x 12 cannot be halved 3 times\. Use a multiple of 8"):
        make()


def test_halving():
    assert [halved_side(32, times) for times in (0, 1, 5)] == [32, 16, 1]


def test_principal_components_are_the_best_linear_reduction_and_exact_where_there_is_no_more():
    torch.manual_seed(0)
    flat = torch.randn(200, 3) @ torch.diag(torch.tensor([3.0, 2.0, 0.1])) @ torch.randn(3, 16) + 5
    images = flat.view(200, 1, 4, 4)
    torch.testing.assert_close(fit_pca(images, 3)(images), images, atol=1e-3, rtol=1e-3)
    centred = (flat - flat.mean(0)).double()
    lost = torch.linalg.svdvals(centred)[2:].square().sum() / centred.numel()
    model = fit_pca(images, 2)
    torch.testing.assert_close((model(images) - images).square().mean().double(), lost, rtol=1e-3, atol=1e-6)
    coordinates = model.encode(images)
    assert coordinates[:, 0].var() > coordinates[:, 1].var()
    torch.testing.assert_close(coordinates.mean(0), torch.zeros(2), atol=1e-3, rtol=0)


def test_a_representation_is_drawn_in_training_and_the_mean_in_evaluation():
    model = VariationalAutoencoder(nn.Sequential(nn.Flatten(), nn.Linear(4, 6)), nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2))))
    images = torch.rand(5, 1, 2, 2)
    assert not torch.equal(model(images)[0], model(images)[0])
    reconstructions, mean, log_variance = model.eval()(images)
    torch.testing.assert_close(reconstructions, model.decode(mean))
    torch.testing.assert_close(torch.cat([mean, log_variance], 1), model.encode(images))


def test_a_unet_begins_with_what_it_is_given_and_ends_within_0_and_1():
    model = UNet(1, 3, 16, [4, 6, 8])
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(model(images), images.expand(2, 3, 16, 16))
    with torch.no_grad():
        model.last.bias.fill_(5.0)
        assert model(images).max() > 1
        assert model.eval()(images).max() == 1


def test_what_is_far_away_reaches_a_pixel_through_the_coarse_levels():
    torch.manual_seed(0)
    images = torch.rand(1, 1, 16, 16, requires_grad=True)
    reach = []
    for widths in ([8], [8, 8, 8]):
        images.grad = None
        # With fixed statistics, for a batch's own would let everything reach everything.
        model = UNet(1, 1, 16, widths).eval()
        torch.nn.init.ones_(model.last.weight)
        model(images)[0, 0, 0, 0].backward()
        reach.append(images.grad[0, 0].nonzero().max().item())
    assert reach[0] == 2, "two convolutions alone see three pixels"
    assert reach[1] >= 8


def test_a_patchs_score_sees_a_patch():
    model = PatchDiscriminator(4, 2)
    images = torch.rand(1, 4, 64, 64, requires_grad=True)
    scores = model(images)
    assert scores.shape == (1, 1, 16, 16)
    scores[0, 0, 8, 8].backward()
    rows = images.grad[0].abs().sum((0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 <= 26


@pytest.mark.parametrize("size", [28, 32])
def test_stored_images_become_0_to_1_of_the_size_asked_for(size):
    images = torch.full((2, 1, 28, 28), 51, dtype=torch.uint8)
    torch.testing.assert_close(ScaleToUnit(size)(images), torch.full((2, 1, size, size), 0.2))


@pytest.mark.parametrize("output", ["relu", "sigmoid"])
def test_a_decoder_begins_at_the_mean(output):
    mean = torch.rand(1, 8, 8) * 0.9 + 0.05
    model = autoencoders.dense_autoencoder(mean, [6], 3, [6], relu_latent=False, output=output)
    assert torch.allclose(model.decode(torch.zeros(2, 3)), mean.expand(2, 1, 8, 8), atol=1e-6)


def test_no_pixel_that_is_mostly_black_stays_black_for_good():
    torch.manual_seed(1)
    images = (torch.rand(256, 1, 8, 8) - 0.8).clamp(min=0) / 0.2

    def black_for_good(begins_at: torch.Tensor) -> int:
        model = autoencoders.dense_autoencoder(begins_at, [64], 3, [512], relu_latent=False, output="relu")
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(30):
            optimiser.zero_grad()
            (model(images) - images).square().mean().backward()
            optimiser.step()
        return int((model(images).amax(0) == 0).sum())

    assert black_for_good(images.mean(0)) == 0
    assert black_for_good(torch.zeros(1, 8, 8)) > 0, "the data provoke it"
