"""Variants of a model for inference: precision, memory layout, compiled or exported.

A variant's name has the words of a precision (`fp32`, `bf16`, `fp16`, `channels_last`, `compiled`) and `exported`. bf16 and fp16
here are autocast over weights that are rounded once; in training they are rounded at every call.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class InferenceVariant(nn.Module):
    """A model with a precision and a memory layout. Takes inputs as they are stored, returns fp32 outputs."""

    def __init__(self, module: nn.Module, half: torch.dtype | None, channels_last: bool):
        super().__init__()
        self.module, self._half, self._channels_last = module, half, channels_last

    def forward(self, inputs: Tensor) -> Tensor:
        if self._channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if self._half is None:
            return self.module(inputs).float()
        with torch.autocast(inputs.device.type, dtype=self._half):
            return self.module(inputs).float()


def eager_variant(name: str, module: nn.Module) -> InferenceVariant:
    """A copy of `module` in the precision and memory layout of variant `name`, neither compiled nor exported."""
    words = set(name.split())
    module = copy.deepcopy(module).eval()
    module.to(memory_format=torch.channels_last if "channels_last" in words else torch.contiguous_format)
    half = torch.bfloat16 if "bf16" in words else torch.float16 if "fp16" in words else None
    if half:
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                part.to(half)
    return InferenceVariant(module, half, "channels_last" in words).eval()


def prepare_variant(name: str, module: nn.Module, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """A copy of `module` as variant `name`, for inputs with the shape of `inputs`. Call it under `torch.no_grad`."""
    variant, words = eager_variant(name, module), set(name.split())
    if "exported" in words:
        return torch.export.export(variant, (inputs,)).module()
    if "compiled" in words:
        import torch._inductor.config as inductor  # loading the compiler is slow

        compiled = torch.compile(variant, dynamic=False, options={"triton.cudagraphs": True} if inputs.is_cuda else {})
        # `freezing` has no effect in `options`: Dynamo, which turns the weights into constants, does not read them.
        with inductor.patch(freezing=True):
            compiled(inputs)
        return compiled
    return variant
