"""Dropout whose random numbers do not depend on the other trials of a stack, or on what else draws random numbers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ddl.counter_random import random_key, random_mask, step_offset

PROCESS_ROWS = 2**40
"""Rows of random numbers that belong to one process: the masks of processes that train one trial are disjoint parts of one sequence."""


class Dropout(nn.Module):
    """Sets elements of [n, ...] to 0 with the probability `p` in training and scales the others by 1 / (1 - p), as `nn.Dropout` does.

    The mask is a function of `key` (int64 [], set for each step by `DropoutKeys`), the example's row and the position within the example,
    which counts from the first axis on: padding at the end of an axis 1 does not change the mask of the elements before it.
    The buffers are not persistent: checkpoints do not contain them.
    """

    key: Tensor
    keep: Tensor

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.active = p > 0
        """False if the layer does nothing. In a stack it is True if any member's layer does something."""
        self.process = 0
        """Rank of this process among those that train the trial."""
        self.register_buffer("key", torch.tensor(0), persistent=False)
        self.register_buffer("keep", torch.tensor(1 - p), persistent=False)

    def extra_repr(self) -> str:
        """The probability, as `repr` shows it."""
        return f"p={self.p}"

    def forward(self, inputs: Tensor) -> Tensor:
        if not (self.training and self.active):
            return inputs
        columns = torch.arange(inputs[0].numel(), dtype=torch.int32, device=inputs.device)
        channels_last = inputs.dim() == 4 and inputs.stride(1) == 1
        if channels_last:  # the mask has the inputs' order in memory: a product of two different orders takes five times as long
            columns = columns.view(inputs.shape[1:]).permute(1, 2, 0).reshape(-1)
        arguments = (columns, self.process * PROCESS_ROWS, len(inputs), inputs.dtype)
        if torch.compiler.is_compiling():
            mask = random_mask(self.key.view(1), self.keep.view(1), *arguments)
        else:
            mask = _Mask.apply(self.key, self.keep, *arguments)
        if channels_last:
            n, channels, height, width = inputs.shape
            return inputs * mask.view(n, height, width, channels).permute(0, 3, 1, 2)
        return inputs * mask.view(inputs.shape)


class _Mask(Function):
    """`random_mask` for one key, and for one key per member under `torch.vmap`."""

    @staticmethod
    def forward(key: Tensor, keep: Tensor, columns: Tensor, first_row: int, rows: int, dtype: torch.dtype) -> Tensor:
        return random_mask(key.view(1), keep.view(1), columns, first_row, rows, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], key: Tensor, keep: Tensor, *rest: Any) -> tuple[Tensor, int]:
        assert in_dims == (0, 0, None, None, None, None), in_dims
        return random_mask(key, keep, *rest).view(len(key), -1, len(rest[0])), 0


class DropoutKeys:
    """The keys of all `Dropout` layers of `modules`, which have equal layers. The module k belongs to a trial with the seed `seeds[k]`.

    Each layer's `key` becomes a view of one tensor, so that one operation sets all keys for a step.
    """

    def __init__(self, modules: Sequence[nn.Module], seeds: Sequence[int], process: int):
        layers = [{name: part for name, part in module.named_modules() if isinstance(part, Dropout)} for module in modules]
        self._names = list(layers[0]) if layers else []
        if not self._names:
            return
        first = [[random_key(seed, f"dropout {number}") for number in range(len(self._names))] for seed in seeds]
        self._first = torch.tensor(first, dtype=torch.int64, device=layers[0][self._names[0]].key.device)
        self._keys = torch.empty_like(self._first)
        for named, keys in zip(layers, self._keys, strict=True):
            for name, key in zip(self._names, keys, strict=True):
                named[name].key, named[name].process = key, process
                named[name].active = any(other[name].p > 0 for other in layers)

    def advance(self, step: int) -> None:
        """Set the keys for a step."""
        if self._names:
            torch.add(self._first, step_offset(step), out=self._keys)

    def stacked(self) -> dict[str, Tensor]:
        """The keys [k] of each layer, by the name of the buffer."""
        return {f"{name}.key" if name else "key": self._keys[:, number] for number, name in enumerate(self._names)}
