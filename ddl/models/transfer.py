"""Networks for transfer learning: a body that may be pretrained, and a new head."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models import efficientnet_b0
from torchvision.models.vgg import cfgs, make_layers

from ddl.models import lite0
from ddl.models.preprocess import Normalise

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
MAX_PROBLEMS = 3
"""Maximum number of problems that an error message lists."""


@dataclass(frozen=True, eq=False)
class Body:
    """A network without its classifier: `module` maps images, normalised by `normalise`, to features [n, `width`]."""

    module: nn.Module
    width: int
    normalise: Normalise


def make_body(name: str, size: int) -> Body:
    """Build vgg16, efficientnet_b0 or efficientnet_lite0 with random weights, for `size` x `size` images."""
    match name:
        case "vgg16":
            features = make_layers(cfgs["D"])
            for part in features:
                if isinstance(part, nn.Conv2d):  # torchvision's initialisation
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
    """Map features [n, width] to logits [n, classes] through dense layers of `dense` units, with dropout before each layer."""
    layers: list[nn.Module] = []
    for units in dense:
        layers += [nn.Dropout(dropout), nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width, classes))


class TransferNetwork(nn.Module):
    """Maps images [n, 3, size, size] to logits. A `frozen` body gets no gradient and stays in eval mode, so its BatchNorm
    statistics do not change."""

    def __init__(self, body: nn.Module, head: nn.Module, frozen: bool):
        super().__init__()
        self.body, self.head, self.frozen = body.requires_grad_(not frozen), head, frozen
        self.train()

    def train(self, mode: bool = True) -> "TransferNetwork":
        super().train(mode)
        self.body.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        # No `no_grad` needed: autograd stores nothing for a body whose parameters need no gradient.
        return self.head(self.body(images))


def load_published_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load a body's published weights, without those of the classifier. Raises ValueError if names or shapes do not match."""
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
        more = f", and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise ValueError(f"{source}: weights of another network: {', '.join(problems[:MAX_PROBLEMS])}{more}. Use weights of this network.")
    module.load_state_dict(given)
