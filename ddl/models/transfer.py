"""Networks made of a body, which may come trained, and a new head."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models import efficientnet_b0
from torchvision.models.vgg import cfgs, make_layers

from ddl.models import lite0
from ddl.models.preprocess import Normalise

SMALLEST = 32
"""Pixels of a side: each of the bodies halves it five times."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
SHOWN = 3
"""Names in a message, at most."""


@dataclass(frozen=True, eq=False)
class Body:
    """`module` gives `width` features [n, width] of images that `normalise` has prepared, the way its published weights expect."""

    module: nn.Module
    width: int
    normalise: Normalise


def make_body(name: str, size: int) -> Body:
    """vgg16, efficientnet_b0 or efficientnet_lite0, with random weights, for square images of `size` pixels."""
    match name:
        case "vgg16":
            features = make_layers(cfgs["D"])
            for part in features:
                if isinstance(part, nn.Conv2d):  # as torchvision does
                    nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                    nn.init.zeros_(part.bias)  # type: ignore[arg-type]
            parts = OrderedDict(features=features, flat=nn.Flatten())
            return Body(nn.Sequential(parts), 512 * (size // 32) ** 2, Normalise(*IMAGENET))
        case "efficientnet_b0":
            parts = OrderedDict(features=efficientnet_b0().features, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
            return Body(nn.Sequential(parts), 1280, Normalise(*IMAGENET))
        case "efficientnet_lite0":
            return Body(lite0.EfficientNetLite0(), lite0.WIDTH, Normalise(*LITE))
    raise AssertionError(name)


def make_head(width: int, dense: Sequence[int], dropout: float, classes: int) -> nn.Sequential:
    """Features [n, width] to class scores [n, classes], through dense layers of these sizes, each before a dropout."""
    layers: list[nn.Module] = []
    for units in dense:
        layers += [nn.Dropout(dropout), nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width, classes))


class TransferNetwork(nn.Module):
    """Images [n, 3, size, size] to class scores. A `frozen` body takes no gradient and stays in eval mode: the averages of its
    BatchNorm are those that it came with, whatever batches pass."""

    def __init__(self, body: nn.Module, head: nn.Module, frozen: bool):
        super().__init__()
        self.body, self.head, self.frozen = body.requires_grad_(not frozen), head, frozen
        self.train()

    def train(self, mode: bool = True) -> "TransferNetwork":
        super().train(mode)
        self.body.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        # Autograd itself sees that no weight of a frozen body needs a gradient: it keeps nothing for a backward pass.
        return self.head(self.body(images))


def load_published_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load a body's published weights; those of a classifier are left out. Raises ValueError, naming what does not fit,
    where they are another network's."""
    given = lite0.published_names(dict(weights)) if isinstance(module, lite0.EfficientNetLite0) else dict(weights)
    given = {name: value for name, value in given.items() if not name.startswith("classifier.")}
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own if name not in given]
    problems += [f"{name} is unknown" for name in given if name not in own]
    problems += [
        f"{name} has the shape {list(given[name].shape)}, not {list(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(f"{source}: weights of another network: {', '.join(problems[:SHOWN])}{more}. Give those that belong to it.")
    module.load_state_dict(given)
