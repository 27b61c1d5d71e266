"""Where a trial computes: one device, or this process's share of several."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Device:
    """A device and this process's place among the `world_size` processes that train the same trial.

    Training code is the same for one process and for many: it asks this object to replicate a module, to take its share
    of a batch, and to sum what it measured. With more than one process `torch.distributed` is initialised already.
    """

    torch: torch.device
    rank: int = 0
    world_size: int = 1

    def replicate(self, module: nn.Module) -> nn.Module:
        """The module on this device, its gradients averaged over all processes where there are several."""
        module = module.to(self.torch)
        if self.world_size == 1:
            return module
        return DistributedDataParallel(module, device_ids=[self.torch] if self.torch.type == "cuda" else None)

    def share(self, indices: Tensor) -> Tensor:
        """This process's share of the items (first axis): every `world_size`-th, from its rank on."""
        return indices[self.rank :: self.world_size]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's `values`."""
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def agree(self, decision: bool) -> bool:
        """The first process's decision, in every process: for what depends on a clock."""
        if self.world_size == 1:
            return decision
        shared = torch.tensor([float(decision)], device=self.torch)
        torch.distributed.broadcast(shared, src=0)
        return bool(shared.item())

    def synchronise(self) -> None:
        """Wait for what was queued on the device, so that a clock read next is honest."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)


def stream(seed: int, purpose: str, number: int) -> int:
    """A seed for a generator, from a trial's seed, what it is drawn for, and the step's or epoch's number.

    Hashed, since torch's CPU generator looks at the lowest 32 bits alone: a sum or a shift would give different trials the
    same numbers.
    """
    content = f"{seed}/{purpose}/{number}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest())


def seed_step(seed: int, step: int) -> None:
    """Seed torch's generators for one step of one trial.

    Everything random in a step depends on the trial's seed and the step's number only, so a trial that resumes at any
    step, or trains in a process where others trained before, draws the numbers it would have drawn undisturbed.
    """
    torch.manual_seed(stream(seed, "step", step))
