"""Number format, memory layout and compilation of a model."""

import gc
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddl.devices import Device


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
    def parse(cls, text: str) -> "Precision":
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
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if self.cuda_graphs:
            return torch.compile(module, mode="reduce-overhead")  # type: ignore[return-value]
        return torch.compile(module) if self.compiled else module  # type: ignore[return-value]

    def layout(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in this layout; other tensors unchanged."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last and images.dim() == 4 else images

    def autocast(self, device: Device) -> AbstractContextManager:
        """Context in which operations run in this number format."""
        dtype = _DTYPES[self.format]
        return nullcontext() if dtype == torch.float32 else torch.autocast(device.torch.type, dtype=dtype)

    def scaler(self, device: Device) -> torch.amp.GradScaler:
        """The loss's scaler, which does nothing in formats other than fp16."""
        return torch.amp.GradScaler(device.torch.type, enabled=self.format == "fp16")


_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OPTIONS = ("channels_last", "compiled", "cuda_graphs")


def prepare_process(precision: str) -> None:
    """Set this process up for a trial in this precision ("": one without a precision).

    Products of fp32 tensors use TF32 in the format `tf32` only: PyTorch's default is TF32 in convolutions and not in matrix
    products. Forgets compiled code, which otherwise counts against the recompile limit of the next trial's, and releases the GPU memory of the
    last trial.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision.startswith("tf32")
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def ran_eagerly() -> bool:
    """True if compiled code of this process's trial ran eagerly in the end, because it was compiled too often (`recompile_limit`)."""
    if "torch._dynamo" not in sys.modules:
        return False
    return any(reason.startswith("Dynamo recompile limit exceeded") for reason in torch._dynamo.utils.counters["unimplemented"])


def skipped_captures() -> int:
    """Number of compiled graphs of this process's trial that Inductor does not replay as CUDA graphs, with a line in its log at most."""
    return torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] if "torch._dynamo" in sys.modules else 0


def candidates(device: Device) -> list[str]:
    """The precisions worth timing on `device`, fp32 first.

    On a CPU: bf16 if the CPU computes in it. Emulated, it may take six times as long as fp32, and so would the probe. On a GPU: tf32 and bf16 if it computes in them (compute capability 8 and later), else fp16 (7: emulated bf16 is slower than fp32),
    eager, compiled and as CUDA graphs. Compiling takes half a minute, which pays off on a GPU only.
    """
    if device.torch.type != "cuda":
        return ["fp32", "fp32 channels_last", *(["bf16 channels_last"] if _cpu_computes_in_bf16() else [])]
    major, _ = torch.cuda.get_device_capability(device.torch)
    if major < 7:
        return ["fp32", "fp32 channels_last"]
    half = "bf16" if major >= 8 else "fp16"
    single = ["tf32 channels_last"] if major >= 8 else ["fp32 channels_last"]
    return ["fp32", *single, *(f"{half} channels_last{option}" for option in ("", " compiled", " cuda_graphs"))]


def _cpu_computes_in_bf16() -> bool:
    if platform.machine() in ("arm64", "aarch64"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
