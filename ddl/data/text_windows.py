"""Language-model examples: windows of the tokens of a text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddl.data.splits import Examples


@dataclass(frozen=True, eq=False)
class TextWindows(Examples):
    """Windows of `length` tokens to predict, from position `first` on, each with `context` tokens before it.

    The last window contains the remaining tokens, so that each token is predicted. `ids` int64 [n], `characters` and `spelling`
    fp32 [n] come from `Vocabulary.encode`.
    """

    ids: Tensor
    characters: Tensor
    spelling: Tensor
    first: int
    length: int
    context: int

    def __len__(self) -> int:
        return -(-(len(self.ids) - self.first) // self.length)

    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
        """Inputs and targets int64 [k, context + length]; weights fp32 of that shape, 1 for targets that count and 0 for others;
        and the number of characters and the spelling bits of each window [k]."""
        scored = self.first + indices.unsqueeze(1) * self.length
        position = scored + torch.arange(-self.context, self.length, device=indices.device)
        weights = ((position >= scored) & (position < len(self.ids))).float()
        position = position.clamp(1, len(self.ids) - 1)
        characters, spelling = ((tensor[position] * weights).sum(1) for tensor in (self.characters, self.spelling))
        return self.ids[position - 1], self.ids[position], weights, characters, spelling


def read_text(path: Path) -> str:
    """The content of a UTF-8 text file. Raises ValueError if it cannot be read, is not UTF-8, or is empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}). Give the path of a text file.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}. Save it as UTF-8.") from error
    if not text.strip():
        raise ValueError(f"{path}: empty. Give a text with content.")
    return text.replace("\r\n", "\n")


def split_text(text: str, held_out: float) -> tuple[str, str]:
    """The training part of a text, and its last fraction `held_out`. The cut is moved to the end of a line if there is one.

    Raises ValueError if a part would be empty.
    """
    target = round(len(text) * (1 - held_out))
    cut = text.find("\n", target) + 1
    cut = cut if 0 < cut < len(text) else target
    if not 2 <= cut < len(text):
        raise ValueError(f"the script has {len(text)} characters: too few to hold out {held_out:g} of them. Give a longer script.")
    return text[:cut], text[cut:]
