"""Tests of the classification sweeps' network: size, regularisation, and why zero initialisation does not learn."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddl.models.cnn import ConvNet
from ddl.models.dropout import Dropout, DropoutKeys

DEFAULT = {
    "channels": 3,
    "size": 32,
    "classes": 10,
    "widths": [32, 64, 128],
    "convolutions": 2,
    "dense": 128,
    "dropout": 0.0,
    "batch_norm_layers": 0,
    "initialisation": "glorot",
}
SMALL = DEFAULT | {"size": 8, "widths": [4, 6], "dense": 7}


def net(**changed) -> ConvNet:
    return ConvNet(**DEFAULT | changed)


def small(**changed) -> ConvNet:
    return ConvNet(**SMALL | changed)


def layers(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in [*model.features, *model.head]]


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_default_has_as_many_weights_as_a_reckoning_by_hand():
    first = 3 * 32 * 9 + 32 + 32 * 32 * 9 + 32
    second = 32 * 64 * 9 + 64 + 64 * 64 * 9 + 64
    third = 64 * 128 * 9 + 128 + 128 * 128 * 9 + 128
    dense = 128 * 4 * 4 * 128 + 128
    scores = 128 * 10 + 10
    assert size(net()) == first + second + third + dense + scores == 550_570


def test_the_default_is_what_its_description_says():
    block = ["Conv2d", "ReLU", "Dropout", "Conv2d", "Dropout", "MaxPool2d", "ReLU"]
    assert layers(net()) == block * 3 + ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert not any(layer.active for layer in net().modules() if isinstance(layer, Dropout))


@pytest.mark.parametrize(("channels", "size_", "classes"), [(3, 32, 10), (1, 28, 10), (3, 9, 2)])
def test_images_in_scores_out(channels, size_, classes):
    model = small(channels=channels, size=size_, classes=classes)
    assert model(torch.rand(5, channels, size_, size_)).shape == (5, classes)


def test_no_image_of_a_batch_touches_another():
    model, images = small(), torch.rand(3, 3, 8, 8)
    together = model(images)
    images[1] = 0
    assert torch.allclose(model(images)[[0, 2]], together[[0, 2]], atol=1e-6)
    assert not torch.allclose(model(images)[1], together[1])


def test_dropout_follows_every_activation_with_its_probability():
    model = net(dropout=0.3)
    assert layers(model) == layers(net())
    assert {layer.p for layer in model.modules() if isinstance(layer, Dropout)} == {0.3}
    assert size(model) == size(net())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_relu_after_pooling_gives_the_same_result_and_gradients_as_before_it(dropout):
    """The study's order is ReLU, dropout, pooling."""
    torch.manual_seed(0)
    model, images, targets = small(dropout=dropout), torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    DropoutKeys([model], seeds=[3], process=0).advance(0)
    scores = model(images)
    gradients = torch.autograd.grad(F.cross_entropy(scores, targets), list(model.parameters()))
    features = list(model.features)
    for index, layer in enumerate(model.features):
        if isinstance(layer, nn.MaxPool2d):
            first = index - 1
            features[first : index + 2] = [features[index + 1], *features[first : index + 1]]
    expected = model.head(nn.Sequential(*features)(images))
    assert torch.equal(scores, expected)
    for found, wanted in zip(gradients, torch.autograd.grad(F.cross_entropy(expected, targets), list(model.parameters())), strict=True):
        assert torch.equal(found, wanted)


def test_dropout_is_for_training_only():
    model, images = small(dropout=0.3), torch.rand(2, 3, 8, 8)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    keys, outputs = DropoutKeys([model], seeds=[3], process=0), []
    for step in (0, 1, 0):
        keys.advance(step)
        outputs.append(model(images))
    assert not torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
def test_batch_normalisation_stands_before_the_activation_of_the_first_layers(count):
    model = net(batch_norm_layers=count)
    kinds = [kind for kind in layers(model) if kind != "Dropout"]
    assert kinds.count("BatchNorm2d") == count
    after_convolutions = [kinds[index + 1] for index, kind in enumerate(kinds) if kind == "Conv2d"]
    assert after_convolutions == ["BatchNorm2d"] * count + (["ReLU", "MaxPool2d"] * 3)[count:]
    biases = [layer.bias is not None for layer in model.features if isinstance(layer, nn.Conv2d)]
    assert biases == [False] * count + [True] * (6 - count), "a bias would be subtracted again"
    widths = [32, 32, 64, 64, 128, 128][:count]
    assert size(model) == size(net()) + sum(widths), "a scale and a shift instead of a bias"


def test_glorot_keeps_within_its_bounds_and_biases_at_zero():
    for layer in net().modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan = layer.weight[0].numel() + layer.weight.shape[0] * layer.weight[0, 0].numel()
            bound = (6 / fan) ** 0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.mean().abs() < 0.1 * bound
            assert not layer.bias.any()


def test_the_seed_makes_the_weights():
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(torch.cat([parameter.flatten() for parameter in small().parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


# Zero initialisation, section 7.1.3 of the study: the dying ReLU


def learn(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> None:
    model.zero_grad()
    F.cross_entropy(model(images), targets).backward()


@pytest.mark.parametrize("batch_norm_layers", [0, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_from_zeros_no_weight_ever_has_a_gradient_but_the_last_bias(dropout, batch_norm_layers):
    model = small(initialisation="zeros", dropout=dropout, batch_norm_layers=batch_norm_layers)
    images, targets = torch.rand(20, 3, 8, 8), torch.arange(20) % 10
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(5):
        learn(model, images, targets % 3)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        last = [name for name in gradients if name.endswith("bias")][-1]
        assert gradients.pop(last).any()
        assert not any(gradient.any() for gradient in gradients.values())
        optimiser.step()
    assert all(not parameter.any() for name, parameter in model.named_parameters() if name != last and parameter.dim() > 1)


def test_from_glorot_every_weight_has_a_gradient():
    model = small()
    learn(model, torch.rand(20, 3, 8, 8), torch.arange(20) % 10)
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_from_zeros_accuracy_stays_at_chance_and_from_glorot_it_does_not():
    images, targets = torch.rand(60, 3, 8, 8), torch.arange(60) % 10
    right = {}
    for initialisation in ("zeros", "glorot"):
        torch.manual_seed(0)
        model = small(initialisation=initialisation, dense=32)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            learn(model, images, targets)
            optimiser.step()
        right[initialisation] = (model(images).argmax(1) == targets).float().mean().item()
    assert right["zeros"] == pytest.approx(0.1)
    assert right["glorot"] > 0.5


def test_the_names_of_the_weights_do_not_depend_on_dropout():
    """Population based training may change it to or from 0."""
    small(dropout=0.3).load_state_dict(small(dropout=0.0).state_dict())
