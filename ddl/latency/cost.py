"""Floating-point operations and peak memory of a forward pass."""

import torch
from torch import Tensor, nn

from ddl.devices import Device


def flops(module: nn.Module, example: Tensor) -> int:
    """Floating-point operations for one example; a multiply-add counts as two.

    Counts what `torch.utils.flop_counter` supports: matrix products and convolutions.
    """
    from torch.utils.flop_counter import FlopCounterMode  # importing it takes a second

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
    return counter.get_total_flops()


def peak_memory(module: nn.Module, example: Tensor, device: Device) -> int:
    """Peak memory of one example's forward pass, in bytes of PyTorch's allocator, with weights and input."""
    static = sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers(), example])
    if device.torch.type == "cuda":
        before = torch.cuda.memory_allocated(device.torch)
        torch.cuda.reset_peak_memory_stats(device.torch)
        module(example)
        device.synchronise()
        return static + torch.cuda.max_memory_allocated(device.torch) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        module(example)
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    current = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        current += change.nbytes()
        peak = max(peak, current)
    return static + peak
