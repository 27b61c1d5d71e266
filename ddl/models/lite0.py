"""EfficientNet-Lite0 without its classifier: EfficientNet-B0 without squeeze-excitation and with ReLU6 instead of swish.

Tan and Le, EfficientNet (2019), Table 1; the Lite changes and the fixed stem and head as in the authors' TensorFlow
release. Parameter names are those of the published PyTorch weights without leading underscores.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 1280
"""Number of features per image."""

STAGES = (
    # expansion, output channels, blocks, stride of the first block, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class SameConv(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "SAME" padding, which the published weights were trained with.

    If the number of padded rows (columns) is odd, the extra one is at the bottom (right).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in images.shape[-2:])
        return super().forward(F.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with TensorFlow's epsilon, which the published weights were trained with."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """An inverted residual block: expansion, depthwise convolution and projection, with a skip connection if shapes match."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        expanded = inputs * expansion
        self.expands, self.has_skip = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self.expand_conv, self.bn0 = SameConv(inputs, expanded, 1), batch_norm(expanded)
        self.depthwise_conv, self.bn1 = SameConv(expanded, expanded, kernel, stride, groups=expanded), batch_norm(expanded)
        self.project_conv, self.bn2 = SameConv(expanded, outputs, 1), batch_norm(outputs)

    def forward(self, images: Tensor) -> Tensor:
        inner = F.relu6(self.bn0(self.expand_conv(images))) if self.expands else images
        inner = F.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return images + inner if self.has_skip else inner


class EfficientNetLite0(nn.Module):
    """The network body: maps images [n, 3, h, w] to features [n, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = SameConv(3, 32, 3, stride=2), batch_norm(32)
        blocks, channels = [], 32
        for expansion, outputs, count, stride, kernel in STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, expansion, kernel, stride if index == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn1 = SameConv(channels, WIDTH, 1), batch_norm(WIDTH)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # The authors' initialisation. torch's fan-out ignores groups: the outputs of a depthwise convolution would be
                # so small that the epsilon of the next BatchNorm dominates their variance.
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, images: Tensor) -> Tensor:
        images = F.relu6(self.bn0(self.conv_stem(images)))
        return F.relu6(self.bn1(self.conv_head(self.blocks(images)))).mean((2, 3))


def published_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename published weights to this module's parameter names, and drop those of the classifier."""
    named = {name.replace("._", ".").removeprefix("_"): value for name, value in weights.items()}
    return {name: value for name, value in named.items() if not name.startswith("fc.")}
