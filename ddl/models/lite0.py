"""EfficientNet-Lite0 without its classifier: EfficientNet-B0's blocks without squeeze-excitation, and ReLU6 for swish.

Tan and Le, EfficientNet (2019), Table 1; the Lite changes and the fixed stem and head as in the authors' TensorFlow
release. Names follow the published PyTorch weights without their leading underscores.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 1280
"""Features of an image."""

STAGES = (
    # expansion, output channels, blocks, stride of the first, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class SameConv(nn.Conv2d):
    """A convolution without bias that is padded as in TensorFlow ("SAME"): where a stride leaves an odd number of rows to be
    padded, the one more stands below, or on the right. The published weights were trained so."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in images.shape[-2:])
        return super().forward(F.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2)))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """With TensorFlow's constant, which the weights were trained with."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """An inverted residual: widen, filter each channel, narrow; added to what came in where the shape is the same."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self.expand_conv, self.bn0 = SameConv(inputs, wide, 1), batch_norm(wide)
        self.depthwise_conv, self.bn1 = SameConv(wide, wide, kernel, stride, groups=wide), batch_norm(wide)
        self.project_conv, self.bn2 = SameConv(wide, outputs, 1), batch_norm(outputs)

    def forward(self, images: Tensor) -> Tensor:
        inner = F.relu6(self.bn0(self.expand_conv(images))) if self.expands else images
        inner = F.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return images + inner if self.adds else inner


class EfficientNetLite0(nn.Module):
    """Images [n, 3, h, w] to features [n, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = SameConv(3, 32, 3, stride=2), batch_norm(32)
        blocks, channels = [], 32
        for expansion, outputs, count, stride, kernel in STAGES:
            for number in range(count):
                blocks.append(InvertedResidual(channels, outputs, expansion, kernel, stride if number == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn1 = SameConv(channels, WIDTH, 1), batch_norm(WIDTH)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # As the authors do. torch's own reckoning takes no heed of groups, and a depthwise convolution would begin so
                # small that the constant in the BatchNorm behind it drowns it.
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, images: Tensor) -> Tensor:
        images = F.relu6(self.bn0(self.conv_stem(images)))
        return F.relu6(self.bn1(self.conv_head(self.blocks(images)))).mean((2, 3))


def published_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under this module's names, without the classifier's."""
    named = {name.replace("._", ".").removeprefix("_"): value for name, value in weights.items()}
    return {name: value for name, value in named.items() if not name.startswith("fc.")}
