"""Where a trial computes: one device, or this process's share of several."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from ddl import sharding
from ddl.sharding import Module

Strategy = Literal["ddp", "fsdp"]
"""How several processes hold one model: `ddp`, each the whole of it; `fsdp`, each a part of every parameter."""


@dataclass(frozen=True)
class Device:
    """A device and this process's place among the `world_size` processes that train the same trial.

    Training code is the same for one process and for many: it asks this object to replicate a module, to take its share
    of a batch, and to sum what it measured. With more than one process `torch.distributed` is initialised already, and
    what is asked for here has to be asked for in every process.
    """

    torch: torch.device
    rank: int = 0
    world_size: int = 1
    strategy: Strategy = "ddp"

    @property
    def sharded(self) -> bool:
        return self.world_size > 1 and self.strategy == "fsdp"

    def replicate(self, module: nn.Module) -> nn.Module:
        """The module on this device, its gradients averaged over all processes where there are several.

        Sharding replaces the parameters of the module itself: an optimiser takes them afterwards, a state goes in by `load`
        and out by `gather`, and nothing but a call of the result computes with them (`whole` gives a copy for all else).
        """
        module = module.to(self.torch)
        if self.world_size == 1:
            return module
        if self.strategy == "fsdp":
            return sharding.shard(module, init_device_mesh(self.torch.type, (self.world_size,)))
        return DistributedDataParallel(module, device_ids=[self.torch] if self.torch.type == "cuda" else None)

    def unsharded(self, module: Module) -> Module:
        """The module, or a copy of one that was sharded: what can be called in any way, exported, and timed."""
        return sharding.unsharded(module) if self.sharded else module

    def load(self, module: nn.Module, state: dict[str, Tensor]) -> None:
        """`module.load_state_dict` of a state with whole tensors."""
        parts = {name: sharding.shard_like(state[name], value) for name, value in module.state_dict().items() if name in state}
        module.load_state_dict(state | parts)

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """A nested `state` with whole tensors: the same, whatever the number of processes. The first process's alone is complete."""
        return sharding.gather_state(state, self.rank == 0) if self.sharded else state

    def broadcast(self, state: Any) -> Any:
        """The first process's nested `state`, in every process; what the others gave does not matter."""
        return sharding.broadcast(state, self.torch, self.rank) if self.world_size > 1 else state

    def shard(self, indices: Tensor) -> Tensor:
        """This process's share of the items (first axis): every `world_size`-th, from its rank on."""
        return indices[self.rank :: self.world_size]

    def equal_shard(self, indices: Tensor) -> Tensor:
        """The same for a batch that is trained on: as many items in every process, the batch's first ones twice where it is short."""
        if short := -len(indices) % self.world_size:
            indices = indices[torch.arange(len(indices) + short, device=indices.device) % len(indices)]
        return self.shard(indices)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's `values`."""
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def any_rank(self, *said: bool) -> list[bool]:
        """Of each, whether any process says so, in every process: for what depends on a clock or a signal."""
        if self.world_size == 1:
            return list(said)
        return [count > 0 for count in self.sum(torch.tensor(said, dtype=torch.float32, device=self.torch)).tolist()]

    def synchronise(self) -> None:
        """Wait for what was queued on the device, so that a clock read next is honest."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)


def lost_another_rank(error: Exception) -> bool:
    """Whether the error is what a process sees of the end of another one that trains the same trial."""
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)


def derive_seed(seed: int, purpose: str, number: int) -> int:
    """A seed for a generator, from a trial's seed, what it is drawn for, and the step's or epoch's number.

    Hashed, since torch's CPU generator looks at the lowest 32 bits alone: a sum or a shift would give different trials the
    same numbers.
    """
    content = f"{seed}/{purpose}/{number}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest())


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's generators for one step of one trial, in one of its processes.

    Everything random in a step depends on the trial's seed and the step's number only, so a trial that resumes at any
    step, or trains in a process where others trained before, draws the numbers it would have drawn undisturbed.
    """
    torch.manual_seed(derive_seed(seed, f"step {rank}" if rank else "step", step))
