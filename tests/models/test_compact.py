"""Tests of the strong baseline's network: whitening, size, and the mean over mirror images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.data.sources import load_data_set
from ddl.models.compact import VARIANCE_FLOOR, CompactNet, MirrorMean, whitening_filters
from ddl.models.preprocess import Normalise


def images(n: int = 200) -> Tensor:
    data = load_data_set("cifar10", "sample")
    return Normalise(data.mean, data.std)(data.train.inputs[:n])


def covariance(outputs: Tensor) -> Tensor:
    """Covariance of the channels of images [n, c, h, w] over all their pixels."""
    return torch.cov(outputs.transpose(0, 1).flatten(1).double())


def net(whitening: Tensor | None = None, **changed) -> CompactNet:
    return CompactNet(**{"channels": 3, "classes": 10, "widths": [8, 16], "whitening": whitening, "activation": "gelu"} | changed)


def test_outputs_of_the_whitening_filters_are_uncorrelated_with_variance_1_up_to_the_floor():
    seen = images()
    outputs = covariance(F.conv2d(seen, whitening_filters(seen)))
    torch.testing.assert_close(outputs - torch.diag(outputs.diag()), torch.zeros(12, 12, dtype=torch.float64), atol=1e-4, rtol=0)
    variances = torch.linalg.eigvalsh(covariance(F.unfold(seen, 2).unsqueeze(3))).flip(0)
    torch.testing.assert_close(outputs.diag(), variances / (variances + VARIANCE_FLOOR), atol=1e-3, rtol=0)
    assert outputs.diag().max() > 0.999
    assert covariance(seen)[0, 1] > 0.5, "without whitening, colours are correlated"


def test_filters_do_not_depend_on_the_order_of_the_images():
    seen = images(50)
    torch.testing.assert_close(whitening_filters(seen.flip(0)), whitening_filters(seen), atol=1e-3, rtol=1e-3)


def test_the_whitening_stem_has_the_filters_and_their_negatives_and_trains_its_bias_alone():
    filters = whitening_filters(images(50))
    stem = net(filters).features[0]
    assert torch.equal(stem.weight, torch.cat([filters, -filters]))
    assert (stem.weight.requires_grad, stem.bias.requires_grad) == (False, True)
    trained = net().features[0]
    assert trained.weight.shape == stem.weight.shape
    assert trained.weight.requires_grad


@pytest.mark.parametrize(("activation", "layer"), [("gelu", nn.GELU), ("relu", nn.ReLU)])
def test_one_activation_follows_the_stem_and_each_convolution(activation, layer):
    kinds = [type(part) for part in net(activation=activation).features]
    block = [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, layer, nn.Conv2d, nn.BatchNorm2d, layer]
    assert kinds == [nn.Conv2d, layer, *block, *block]


@pytest.mark.parametrize("widths", [[4], [8, 4], [4, 8, 8, 8]])
def test_images_in_logits_out(widths):
    assert net(widths=widths)(torch.rand(5, 3, 32, 32)).shape == (5, 10)


def test_convolutions_begin_as_copies_of_their_inputs():
    layer = net(widths=[32]).features[2]
    inputs = torch.rand(2, 24, 6, 6)
    outputs = layer(inputs)
    torch.testing.assert_close(outputs[:, :24], inputs)
    assert not torch.allclose(outputs[:, 24:], inputs[:, :8])


def test_mirror_images_have_equal_mean_logits():
    network = net().eval()
    mean, seen = MirrorMean(network), torch.rand(4, 3, 32, 32)
    assert not torch.allclose(network(seen), network(seen.flip(3)), atol=1e-4)
    torch.testing.assert_close(mean(seen), mean(seen.flip(3)))
    torch.testing.assert_close(mean(seen), torch.stack([network(seen), network(seen.flip(3))]).mean(0))
