"""The device a trial runs on, and the rank of this process among those that train the trial."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddl import sharding
from ddl.sharding import Module
from ddl.strategy import Strategy


@dataclass(frozen=True)
class Device:
    """A device, and the rank of this process among the `world_size` processes that train the same trial.

    Training code is the same for one process and for many: it replicates modules, takes shards of batches and sums
    measurements through this object. With more than one process `torch.distributed` is already initialised, and every
    method that communicates must be called in every process.
    """

    torch: torch.device
    rank: int = 0
    world_size: int = 1
    strategy: Strategy = "ddp"

    @property
    def sharded(self) -> bool:
        """True if each process holds a shard of every parameter."""
        return self.world_size > 1 and self.strategy == "fsdp"

    def replicate(self, module: nn.Module) -> nn.Module:
        """The module on this device, with gradients averaged over all processes.

        Sharding replaces the parameters of `module` itself: build optimisers afterwards, restore a state with `load`, take
        it with `gather`, and compute only by calling the returned module (`unsharded` returns a copy for everything else).
        """
        module = module.to(self.torch)
        if self.world_size == 1:
            return module
        if self.strategy == "fsdp":
            return sharding.shard(module, self.torch.type, self.world_size)
        return DistributedDataParallel(module, device_ids=[self.torch] if self.torch.type == "cuda" else None)

    def unsharded(self, module: Module) -> Module:
        """The module, or an unsharded copy of a sharded one, which can be called in any way, exported and timed."""
        return sharding.unsharded(module) if self.sharded else module

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Replace the module's buffers by rank 0's: each process has statistics of its own batches in those of batch normalisation."""
        if self.world_size > 1:
            sharding.broadcast_buffers(module)

    def load(self, module: nn.Module, state: dict[str, Tensor]) -> None:
        """`module.load_state_dict` of a state with unsharded tensors."""
        parts = {name: sharding.shard_like(state[name], value) for name, value in module.state_dict().items() if name in state}
        module.load_state_dict(state | parts)

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """A nested `state` with unsharded tensors, independent of the number of processes. Complete on rank 0 only."""
        return sharding.gather_state(state, self.rank == 0) if self.sharded else state

    def broadcast(self, state: Any) -> Any:
        """Rank 0's nested `state`, in every process; the argument of the other ranks is ignored."""
        return sharding.broadcast(state, self.torch, self.rank) if self.world_size > 1 else state

    def shard(self, indices: Tensor) -> Tensor:
        """This rank's items of the first axis: every `world_size`-th one."""
        return indices[self.rank :: self.world_size]

    def equal_shard(self, indices: Tensor) -> Tensor:
        """This rank's items of a training batch: equally many in every process, if need be by taking the first ones twice."""
        if short := -len(indices) % self.world_size:
            indices = indices[torch.arange(len(indices) + short, device=indices.device) % len(indices)]
        return self.shard(indices)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, in place."""
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def any_rank(self, *flags: bool) -> list[bool]:
        """For each flag, True in every process if any rank has set it. For decisions that depend on a clock or a signal.

        The processes communicate on the CPU, so none waits for its GPU.
        """
        if self.world_size == 1:
            return list(flags)
        return [count > 0 for count in self.sum(torch.tensor(flags, dtype=torch.float32)).tolist()]

    def upload(self, tensor: Tensor) -> Tensor:
        """A tensor of the host's memory on this device. The host waits neither for the copy nor for earlier work of a GPU."""
        host = tensor.pin_memory() if self.torch.type == "cuda" else tensor  # from other memory a copy is not asynchronous
        return host.to(self.torch, non_blocking=True)

    def synchronise(self) -> None:
        """Wait for the work queued on the device, so that a clock read afterwards includes it."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)


def lost_another_rank(error: BaseException) -> bool:
    """True if `error` is what a process sees when another rank of the same trial has died."""
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)


def derive_seed(seed: int, purpose: str, number: int) -> int:
    """A generator's seed, derived from a trial's seed, a purpose, and the number of a step or an epoch.

    Hashed, because torch's CPU generator uses the lowest 32 bits only: a sum or a shift would give different trials the same
    random numbers.
    """
    content = f"{seed}/{purpose}/{number}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest())


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's generators for one step of one trial, in one of its processes.

    All randomness in a step depends on the trial's seed and the step's number only. A trial that resumes at any step, or
    runs in a process that has trained other trials, therefore draws the same numbers as an undisturbed one.
    """
    seed_generators(derive_seed(seed, f"step {rank}" if rank else "step", step))


def seed_generators(seed: int) -> None:
    """Seed torch's generators of the CPU and, if CUDA is in use, of all GPUs.

    `torch.manual_seed` does the same, but without CUDA takes half a millisecond to record a stack, as long as a small model's step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
