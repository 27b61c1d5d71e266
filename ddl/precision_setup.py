"""Sets a process up for a precision, and finds the precisions that are worth timing."""

import contextlib
import gc
import platform
import sys
from collections.abc import Collection, Iterator

import torch

from ddl.devices import Device


def prepare_process(precision: str) -> None:
    """Set this process up for a trial in this precision ("": one without a precision).

    Products of fp32 tensors use TF32 in the format `tf32` only: PyTorch's default is TF32 in convolutions and not in matrix
    products. Forgets compiled code, which otherwise counts against the recompile limit of the next trial's, and releases the GPU memory of the
    last trial.

    On a CPU, numbers too small for a normalised float (below 1e-38 in fp32) become 0: arithmetic with them takes many times as long, and Adam's
    moments decay to them where gradients vanish. This holds for this thread, and for threads of PyTorch that start from now on.
    """
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision.startswith("tf32")
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Compute products of fp32 tensors in fp32, whatever the trial's precision."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def ran_eagerly() -> bool:
    """True if compiled code of this process's trial ran eagerly in the end, because it was compiled too often (`recompile_limit`)."""
    if "torch._dynamo" not in sys.modules:
        return False
    return any(reason.startswith("Dynamo recompile limit exceeded") for reason in torch._dynamo.utils.counters["unimplemented"])


def skipped_captures() -> int:
    """Number of compiled graphs of this process's trial that Inductor does not replay as CUDA graphs, with a line in its log at most."""
    return torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] if "torch._dynamo" in sys.modules else 0


def candidates(device: Device, options: Collection[str] | None = None) -> list[str]:
    """The precisions worth timing on `device`, fp32 first, with these options of `Precision` (None: all).

    On a CPU: bf16 if the CPU computes in it. Emulated, it may take six times as long as fp32, and so would the probe. On a GPU: tf32 and bf16 if it computes in them (compute capability 8 and later), else fp16 (7: emulated bf16 is slower than fp32),
    eager, compiled and as CUDA graphs. Compiling takes half a minute, which pays off on a GPU only.
    """
    names = [name.split() for name in _image_candidates(device)]
    return list(
        dict.fromkeys(" ".join([number, *(word for word in rest if options is None or word in options)]) for number, *rest in names)
    )


def _image_candidates(device: Device) -> list[str]:
    if device.torch.type != "cuda":
        return ["fp32", "fp32 channels_last", *(["bf16 channels_last"] if _cpu_computes_in_bf16() else [])]
    major, _ = torch.cuda.get_device_capability(device.torch)
    if major < 7:
        return ["fp32", "fp32 channels_last"]
    half = "bf16" if major >= 8 else "fp16"
    single = ["tf32 channels_last"] if major >= 8 else ["fp32 channels_last"]
    # Before PyTorch 2.14 the second trial of a process failed, because each runs in a thread of its own (pytorch#123177).
    graphs = [" cuda_graphs"] if torch.torch_version.TorchVersion(torch.__version__) >= "2.14" else []
    return ["fp32", *single, *(f"{half} channels_last{option}" for option in ("", " compiled", *graphs))]


def _cpu_computes_in_bf16() -> bool:
    if platform.machine() in ("arm64", "aarch64"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
