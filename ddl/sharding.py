"""One model's parameters shared out over processes (FSDP2: Zhao et al. 2023, "PyTorch FSDP"), and what leads back to whole ones.

Each process keeps a part of every parameter, of its gradient and of what the optimiser gathers for it; a block's parameters are
brought together while the block computes.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

Module = TypeVar("Module", bound=nn.Module)

UNSHARDED = "_unsharded"
"""Where a sharded module keeps the form of the whole one: its code and buffers, without the parameters' memory."""


def shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Share the module's parameters out over the processes of `mesh`, in place; optimisers are built afterwards.

    Every element of a `nn.ModuleList` is a block of its own, the rest is one more; a compiled module is one block, since what
    brings a block together would cut the graph in two. As under DDP, buffers are the first process's in every forward pass.
    """
    plain = getattr(module, "_orig_mod", module)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP takes no other layout; activations keep theirs
    shapes = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in plain.parameters()}
    plain.__dict__[UNSHARDED] = copy.deepcopy(plain, shapes)  # not an attribute, which would make it a part of the module
    for block in _blocks(plain) if module is plain else ():
        fully_shard(block, mesh=mesh)
    # Kept together after a forward pass, parameters could be taken for whole ones by what runs between passes.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    module.register_forward_pre_hook(_first_processes_buffers)
    return module


def unsharded(module: Module) -> Module:
    """A copy of a sharded module with whole parameters, which every process gets. All have to ask for it."""
    made: Module = copy.deepcopy(module.__dict__[UNSHARDED])
    made.load_state_dict({name: _full(value) for name, value in module.state_dict().items()}, assign=True)
    return made


def gather_state(state: Any, keep: bool) -> Any:
    """`state` with every sharded tensor whole and on the CPU where `keep`, empty elsewhere. One at a time, by all processes."""
    match state:
        case DTensor():
            value = _full(state)
            return value.cpu() if keep else torch.empty(0)
        case dict():
            return {key: gather_state(value, keep) for key, value in state.items()}
        case list() | tuple():
            return [gather_state(value, keep) for value in state]
    return state


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """This process's part of a whole `value`, cut as `parameter` is; all of it where that is not sharded, or has another shape."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)


@dataclass(frozen=True)
class _Form:
    """What stands for a tensor on its way to processes that do not have it."""

    shape: torch.Size
    dtype: torch.dtype


def broadcast(state: Any, device: torch.device, rank: int) -> Any:
    """The first process's `state` in every process, its tensors one at a time over `device` and then on the CPU."""
    forms = [_forms(state) if rank == 0 else None]
    torch.distributed.broadcast_object_list(forms, src=0, device=device)
    return _fill(forms[0], state if rank == 0 else None, device)


def _forms(state: Any) -> Any:
    match state:
        case Tensor():
            return _Form(state.shape, state.dtype)
        case dict():
            return {key: _forms(value) for key, value in state.items()}
        case list() | tuple():
            return [_forms(value) for value in state]
    return state


def _fill(form: Any, state: Any, device: torch.device) -> Any:
    """`state` is None where this process has none."""
    match form:
        case _Form():
            value = torch.empty(form.shape, dtype=form.dtype, device=device) if state is None else state.to(device)
            torch.distributed.broadcast(value, src=0)
            return value.cpu()
        case dict():
            return {key: _fill(value, None if state is None else state[key], device) for key, value in form.items()}
        case list():
            return [_fill(value, None if state is None else state[number], device) for number, value in enumerate(form)]
    return form


def _full(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value.detach()


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The elements of its outermost module lists; where such an element is a container that computes nothing, its blocks."""
    for child in module.children():
        computes = not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if isinstance(module, nn.ModuleList) and computes:
            if any(True for _ in child.parameters()):
                yield child
        else:
            yield from _blocks(child)


def _first_processes_buffers(module: nn.Module, inputs: Any) -> None:
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, src=0)
