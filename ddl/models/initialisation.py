"""Weight initialisations of papers and of Keras (the study's framework) that differ from PyTorch's defaults."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialise_glorot(module: Module) -> Module:
    """Set Glorot uniform weights and zero biases, the Keras default (Glorot & Bengio 2010)."""
    return _initialise(module, nn.init.xavier_uniform_)


def initialise_dcgan(module: Module) -> Module:
    """Set normal weights of standard deviation 0.02 and zero biases (Radford et al. 2016, arXiv:1511.06434, section 4)."""
    return _initialise(module, partial(nn.init.normal_, std=0.02))


def initialise_zeros(module: Module) -> Module:
    """Set all weights and biases to zero."""
    return _initialise(module, nn.init.zeros_)


def _initialise(module: Module, initialise_weight: Callable[[Tensor], Tensor]) -> Module:
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            initialise_weight(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
