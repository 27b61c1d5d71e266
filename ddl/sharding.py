"""Sharding of one model over processes (FSDP2; Zhao et al. 2023, "PyTorch FSDP"), and conversion back to unsharded tensors.

Imports PyTorch's part for it only when it is needed: that takes a second. Each process keeps a shard of every parameter, of its gradient and of its optimiser state. A block's parameters are gathered
while the block computes.
"""

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

UNSHARDED = "_unsharded"
"""Attribute of a sharded module with its unsharded form: code and buffers, with parameters on the meta device."""


def shard(module: nn.Module, device_type: str, world_size: int) -> nn.Module:
    """Shard the module's parameters over all processes, in place. Build optimisers afterwards.

    Each element of a `nn.ModuleList` is one block, and the rest another. A compiled module is a single block, because
    gathering a block would break its graph. As under DDP, every forward pass starts with rank 0's buffers.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device_type, (world_size,))
    plain = getattr(module, "_orig_mod", module)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP supports no other layout; activations keep theirs
    shapes = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in plain.parameters()}
    plain.__dict__[UNSHARDED] = copy.deepcopy(plain, shapes)  # set as an attribute it would become a submodule
    for block in _blocks(plain) if module is plain else ():
        fully_shard(block, mesh=mesh)
    # Parameters that stay gathered after a forward pass could be mistaken for unsharded ones between passes.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    module.register_forward_pre_hook(broadcast_buffers)
    return module


def unsharded(module: Module) -> Module:
    """An unsharded copy of a sharded module, in every process. Must be called in every process."""
    made: Module = copy.deepcopy(module.__dict__[UNSHARDED])
    made.load_state_dict({name: _full(value) for name, value in module.state_dict().items()}, assign=True)
    return made


def gather_state(state: Any, keep: bool) -> Any:
    """`state` with every sharded tensor gathered: on the CPU if `keep`, otherwise replaced by an empty tensor.

    Tensors are gathered one at a time. Must be called in every process.
    """
    match state:
        case Tensor() if _is_sharded(state):
            value = _full(state)
            return value.cpu() if keep else torch.empty(0)
        case dict():
            return {key: gather_state(value, keep) for key, value in state.items()}
        case list() | tuple():
            return [gather_state(value, keep) for value in state]
    return state


def shard_like(value: Tensor, parameter: Any) -> Tensor:
    """This process's shard of an unsharded `value`, placed as `parameter` is; `value` itself if the shapes differ or nothing is sharded."""
    if not _is_sharded(parameter) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)


@dataclass(frozen=True)
class _TensorSpec:
    """Shape and dtype of a tensor that is about to be broadcast."""

    shape: torch.Size
    dtype: torch.dtype


def broadcast(state: Any, device: torch.device, rank: int) -> Any:
    """Rank 0's nested `state` in every process, its tensors on the CPU. Tensors are sent one at a time through `device`."""
    specs = [_specs(state) if rank == 0 else None]
    torch.distributed.broadcast_object_list(specs, src=0, device=device)
    return _fill(specs[0], state if rank == 0 else None, device)


def _specs(state: Any) -> Any:
    match state:
        case Tensor():
            return _TensorSpec(state.shape, state.dtype)
        case dict():
            return {key: _specs(value) for key, value in state.items()}
        case list() | tuple():
            return [_specs(value) for value in state]
    return state


def _fill(spec: Any, state: Any, device: torch.device) -> Any:
    """The broadcast state described by `spec`; `state` is None except on rank 0."""
    match spec:
        case _TensorSpec():
            value = torch.empty(spec.shape, dtype=spec.dtype, device=device) if state is None else state.to(device)
            torch.distributed.broadcast(value, src=0)
            return value.cpu()
        case dict():
            return {key: _fill(value, None if state is None else state[key], device) for key, value in spec.items()}
        case list():
            return [_fill(value, None if state is None else state[number], device) for number, value in enumerate(spec)]
    return spec


def _full(value: Any) -> Tensor:
    return value.full_tensor() if _is_sharded(value) else value.detach()


def _is_sharded(value: Tensor) -> bool:
    """True for a DTensor, which exists only if its module has been imported."""
    tensor = sys.modules.get("torch.distributed.tensor")
    return tensor is not None and isinstance(value, tensor.DTensor)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The elements of the outermost module lists; for a container that computes nothing, its own blocks."""
    for child in module.children():
        computes = not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if isinstance(module, nn.ModuleList) and computes:
            if any(True for _ in child.parameters()):
                yield child
        else:
            yield from _blocks(child)


def broadcast_buffers(module: nn.Module, inputs: Any = None) -> None:
    """Replace the module's buffers by rank 0's. Also a hook before a forward pass, which has `inputs`."""
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, src=0)
