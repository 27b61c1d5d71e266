"""Number format, memory layout and compilation of a model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ddl.devices import Device

_DTYPES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Name of each format's type in torch, which is imported late: a mistyped precision is found without it."""
_OPTIONS = ("channels_last", "compiled", "cuda_graphs")


@dataclass(frozen=True)
class Precision:
    """Number format, memory layout and compilation. As text: "fp32", "bf16 channels_last", "bf16 channels_last compiled".

    Formats: `fp32`; `tf32`, fp32 whose products have 10 bits of mantissa (NVIDIA Ampere and later; fp32 elsewhere); `bf16` and
    `fp16` (autocast; fp16 also scales the loss, because its gradients would underflow: Micikevicius et al. 2018, "Mixed precision
    training"). Layout: `channels_last`. Compilation: `compiled`, or `cuda_graphs`, which also replays the compiled kernels as CUDA
    graphs, for small networks whose kernels are shorter than their launch.
    """

    format: str
    channels_last: bool = False
    compiled: bool = False
    cuda_graphs: bool = False

    @classmethod
    def parse(cls, text: str) -> Precision:
        """The inverse of `str()`. Raises ValueError for unknown words."""
        format, *rest = text.split() or [""]
        if (
            format not in _DTYPES
            or not set(rest) <= set(_OPTIONS)
            or len(set(rest)) < len(rest)
            or {"compiled", "cuda_graphs"} <= set(rest)
        ):
            raise ValueError(
                f"precision: {text!r} is unknown. Use auto, or {', '.join(_DTYPES)}, then channels_last, and compiled or cuda_graphs."
            )
        return cls(format, *(option in rest for option in _OPTIONS))

    def __str__(self) -> str:
        return " ".join([self.format, *(option for option in _OPTIONS if getattr(self, option))])

    def apply(self, module: nn.Module) -> nn.Module:
        """The module in this layout, compiled if asked for. Its parameters stay fp32; `autocast` only affects operations."""
        import torch

        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if self.cuda_graphs:
            return torch.compile(module, mode="reduce-overhead")  # type: ignore[return-value]
        return torch.compile(module) if self.compiled else module  # type: ignore[return-value]

    def layout(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in this layout; other tensors unchanged."""
        if not self.channels_last or images.dim() != 4:
            return images
        import torch

        return images.contiguous(memory_format=torch.channels_last)

    def autocast(self, device: Device) -> AbstractContextManager:
        """Context in which operations run in this number format."""
        if _DTYPES[self.format] == "float32":
            return nullcontext()
        import torch

        return torch.autocast(device.torch.type, dtype=getattr(torch, _DTYPES[self.format]))

    def scaler(self, device: Device) -> torch.amp.GradScaler:
        """The loss's scaler, which does nothing in formats other than fp16."""
        import torch

        return torch.amp.GradScaler(device.torch.type, enabled=self.format == "fp16")


FP32 = Precision("fp32")
