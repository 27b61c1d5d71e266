"""How weights begin where PyTorch's own choice is not the one that a paper or the study's framework makes."""

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialise_glorot(module: Module) -> Module:
    """Glorot's uniform weights and zero biases in every layer (Glorot & Bengio 2010): what Keras does unasked."""
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def initialise_dcgan(module: Module) -> Module:
    """Normal weights with the standard deviation 0.02 and zero biases (Radford et al. 2016, arXiv:1511.06434, section 4)."""
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
