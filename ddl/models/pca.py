"""Principal component analysis, in closed form."""

import torch
from torch import Tensor, nn

from ddl.models.autoencoders import Autoencoder


class Projection(nn.Module):
    """Images [n, c, h, w] to their coordinates [n, k] on `components` [k, c x h x w] about `mean`."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.mean) @ self.components.T


class BackProjection(nn.Module):
    """The way back: coordinates [n, k] to images of `shape` (c, h, w)."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.shape = shape

    def forward(self, coordinates: Tensor) -> Tensor:
        return (coordinates @ self.components + self.mean).unflatten(1, self.shape)


def fit_pca(images: Tensor, k: int) -> Autoencoder:
    """The linear autoencoder with the least mean squared error over `images` [n, c, h, w]: the `k` eigenvectors of their covariance
    with the greatest eigenvalues (Jolliffe, Principal Component Analysis, 2002), in float64 on their device, kept in fp32."""
    flat = images.flatten(1).double()
    mean = flat.mean(0)
    _, vectors = torch.linalg.eigh(flat.T @ flat / len(flat) - mean.outer(mean))
    components = vectors[:, -k:].flip(1).T
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that every machine has the same coordinates.
    sign = components.gather(1, components.abs().argmax(1, keepdim=True)).sign()
    return pca_autoencoder(mean.float(), (components * sign).float(), tuple(images.shape[1:]))


def pca_autoencoder(mean: Tensor, components: Tensor, shape: tuple[int, ...]) -> Autoencoder:
    """From what `fit_pca` found."""
    return Autoencoder(Projection(mean, components), BackProjection(mean, components, shape))
