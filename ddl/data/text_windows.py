"""A text as windows of tokens to predict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TextWindows:
    """`Examples` of a text: windows of `length` tokens to predict, from number `first` on, each with `context` tokens before it.

    The last window has what is left; no token is left out. `ids` int64 [n]; `characters` and `spelling` fp32 [n] are what
    `Vocabulary.encode` gives.
    """

    ids: Tensor
    characters: Tensor
    spelling: Tensor
    first: int
    length: int
    context: int

    def __len__(self) -> int:
        return -(-(len(self.ids) - self.first) // self.length)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Inputs and targets int64 [k, context + length]; weights fp32 of the same shape, 1 where a target counts; and of each
        window its characters and its spelling's bits [k]."""
        scored = self.first + indices.unsqueeze(1) * self.length
        place = scored + torch.arange(-self.context, self.length, device=indices.device)
        weights = ((place >= scored) & (place < len(self.ids))).float()
        place = place.clamp(1, len(self.ids) - 1)
        characters, spelling = ((tensor[place] * weights).sum(1) for tensor in (self.characters, self.spelling))
        return self.ids[place - 1], self.ids[place], weights, characters, spelling

    def to(self, device: torch.device | str) -> Self:
        ids, characters, spelling = (tensor.to(device) for tensor in (self.ids, self.characters, self.spelling))
        return type(self)(ids, characters, spelling, self.first, self.length, self.context)


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises ValueError where there is none, or it is something else, or empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}). Give the path of a text file.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}. Save it as UTF-8.") from error
    if not text.strip():
        raise ValueError(f"{path}: empty. Give a text with something in it.")
    return text.replace("\r\n", "\n")


def split_text(text: str, held_out: float) -> tuple[str, str]:
    """The text and its last share `held_out`, parted at the end of a line where there is one. Raises ValueError where a part
    would be empty."""
    wish = round(len(text) * (1 - held_out))
    cut = text.find("\n", wish) + 1
    cut = cut if 0 < cut < len(text) else wish
    if not 2 <= cut < len(text):
        raise ValueError(f"the script has {len(text)} characters: too few to hold out {held_out:g} of them. Give a longer one.")
    return text[:cut], text[cut:]
