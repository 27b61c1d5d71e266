"""Principal component analysis as a linear autoencoder, fitted in closed form."""

import torch
from torch import Tensor, nn

from ddl.models.autoencoders import Autoencoder


class _Basis(nn.Module):
    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)


class Projection(_Basis):
    """Maps images [n, c, h, w] to coordinates [n, k] on `components` [k, c x h x w] around `mean`."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.mean) @ self.components.T


class BackProjection(_Basis):
    """The inverse of `Projection`: maps coordinates [n, k] to images of `shape` (c, h, w)."""

    def __init__(self, mean: Tensor, components: Tensor, shape: tuple[int, ...]):
        super().__init__(mean, components)
        self.shape = shape

    def forward(self, coordinates: Tensor) -> Tensor:
        return (coordinates @ self.components + self.mean).unflatten(1, self.shape)


def fit_pca(images: Tensor, k: int) -> Autoencoder:
    """The linear autoencoder with the lowest mean squared error over `images` [n, c, h, w].

    Its components are the `k` eigenvectors of the covariance with the largest eigenvalues (Jolliffe, Principal Component
    Analysis, 2002), computed in float64 on the images' device and returned in fp32.
    """
    flat = images.flatten(1).double()
    mean = flat.mean(0)
    _, vectors = torch.linalg.eigh(flat.T @ flat / len(flat) - mean.outer(mean))
    components = vectors[:, -k:].flip(1).T
    # An eigenvector's sign is arbitrary. With the largest entry positive, every machine computes the same coordinates.
    sign = components.gather(1, components.abs().argmax(1, keepdim=True)).sign()
    return pca_autoencoder(mean.float(), (components * sign).float(), tuple(images.shape[1:]))


def pca_autoencoder(mean: Tensor, components: Tensor, shape: tuple[int, ...]) -> Autoencoder:
    """Build the autoencoder from the mean and components that `fit_pca` computed."""
    return Autoencoder(Projection(mean, components), BackProjection(mean, components, shape))
