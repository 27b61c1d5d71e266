"""Texts as numbers of their words, of different lengths, and vectors for words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

PAD, UNKNOWN = "[PAD]", "[UNK]"
PIECES = Regex(r"\w+?(?=n['\u2019]t\b)|n['\u2019]t\b|['\u2019](?:s|m|re|ve|ll|d)\b|\w+|[^\w\s]")
"""Words and marks, in the way of GloVe's own: n't and 's apart."""
BUCKET = 50
"""Batches whose texts are sorted by length together, so that little is padded and yet batches are others each epoch."""


class WordVocabulary:
    """The most frequent words of texts, in lower case, by number: 0 pads, 1 is any other word."""

    def __init__(self, texts: Sequence[str], size: int, min_count: int):
        self._tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        self._tokenizer.normalizer = normalizers.Lowercase()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Split(PIECES, "removed", invert=True)
        trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=min_count, special_tokens=[PAD, UNKNOWN], show_progress=False)
        self._tokenizer.train_from_iterator(texts, trainer)
        numbers = self._tokenizer.get_vocab()
        self.words = sorted(numbers, key=lambda word: numbers[word])

    def __len__(self) -> int:
        return len(self.words)

    def number(self, word: str) -> int | None:
        return self._tokenizer.token_to_id(word)

    def encode(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """The numbers of each text's last `longest` words: a review ends in its verdict. Raises ValueError for a text without one."""
        found = [encoded.ids[-longest:] for encoded in self._tokenizer.encode_batch(list(texts))]
        for text, ids in zip(texts, found, strict=True):
            if not ids:
                raise ValueError(f"a text is empty, or holds no word: {text[:60]!r}. Leave it out.")
        return found


@dataclass(frozen=True, eq=False)
class TokenisedTexts:
    """`Examples` of texts of different lengths. `ids` int64 holds all of them, one after the other; `starts`, `lengths` and
    `targets` int64 [n] say where each is, and of which class."""

    ids: Tensor
    starts: Tensor
    lengths: Tensor
    targets: Tensor

    @classmethod
    def of(cls, encoded: Sequence[Sequence[int]], targets: Sequence[int]) -> Self:
        lengths = torch.tensor([len(ids) for ids in encoded])
        ids = torch.tensor([number for ids in encoded for number in ids])
        return cls(ids, lengths.cumsum(0) - lengths, lengths, torch.tensor(targets))

    def __len__(self) -> int:
        return len(self.targets)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        """Random, but batches have texts of like length. What fills no batch comes last."""
        lengths = self.lengths.cpu()
        parts = torch.randperm(len(self), generator=generator).split(BUCKET * batch_size)
        whole = torch.cat([part[lengths[part].argsort(stable=True)] for part in parts])
        batches = whole.split(batch_size)
        full = [batch for batch in batches if len(batch) == batch_size]
        shuffled = [full[place] for place in torch.randperm(len(full), generator=generator).tolist()]
        return torch.cat(shuffled + [batch for batch in batches if len(batch) < batch_size])

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Numbers int64 [k, longest of them], padded with 0 at the end, and targets [k]."""
        lengths = self.lengths[indices].unsqueeze(1)
        place = torch.arange(int(lengths.max()), device=indices.device).unsqueeze(0)
        found = self.ids[(self.starts[indices].unsqueeze(1) + place).clamp(max=len(self.ids) - 1)]
        return found.masked_fill(place >= lengths, 0), self.targets[indices]

    def by_length(self) -> Self:
        """The same texts, the shortest first: batches of an evaluation are padded little."""
        order = self.lengths.argsort(stable=True)
        return type(self)(self.ids, self.starts[order], self.lengths[order], self.targets[order])

    def to(self, device: torch.device | str) -> Self:
        ids, starts, lengths, targets = (tensor.to(device) for tensor in (self.ids, self.starts, self.lengths, self.targets))
        return type(self)(ids, starts, lengths, targets)


def read_vectors(path: Path, words: Sequence[str], width: int) -> tuple[Tensor, Tensor]:
    """The vectors of `words`, fp32 [n, width], 0 for one that the file has not, and bool [n]: which it has.

    The file is in GloVe's form: a line a word, then its numbers, with spaces between them. Raises ValueError where it has vectors of
    another width, or is something else.
    """
    wanted = {word: place for place, word in enumerate(words)}
    found = torch.zeros(len(words), width)
    has = torch.zeros(len(words), dtype=torch.bool)
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            first = file.readline().split(" ")[1:]
            if not first:
                raise ValueError(f"{path}: empty, or no file of vectors: its first line has no number.")
            if len(first) != width:
                raise ValueError(f"{path}: line 1 has {len(first)} numbers, not {width}. Give vectors of that width, or set task.width.")
            file.seek(0)
            for line_number, line in enumerate(file, 1):
                word, _, numbers = line.partition(" ")
                place = wanted.get(word.rstrip("\n"))
                if place is not None:
                    found[place] = _vector(numbers, width, f"{path}:{line_number}: the vector of {word.strip()!r}")
                    has[place] = True
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}). Give the path of a file of vectors.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: byte {error.object[error.start]:#04x}. Save it as UTF-8.") from error
    return found, has


def _vector(text: str, width: int, what: str) -> Tensor:
    try:
        numbers = [float(number) for number in text.split()]
    except ValueError as error:
        raise ValueError(f"{what} has something else than numbers ({error}).") from error
    if len(numbers) != width:
        raise ValueError(f"{what} is not {width} wide but {len(numbers)}.")
    return torch.tensor(numbers)
