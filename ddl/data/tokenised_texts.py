"""Texts of different lengths as token ids of their words, and vectors for words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from ddl.data.splits import Examples

PAD, UNKNOWN = "[PAD]", "[UNK]"
PIECES = Regex(r"\w+?(?=n['\u2019]t\b)|n['\u2019]t\b|['\u2019](?:s|m|re|ve|ll|d)\b|\w+|[^\w\s]")
"""Words and punctuation, split like GloVe's tokeniser does: n't and 's are words of their own."""
BUCKET = 50
"""Batches whose texts are sorted by length together. It limits padding and still changes the batches every epoch."""


class WordVocabulary:
    """The most frequent words of texts, in lower case, and their token ids. Id 0 is padding, 1 is any unknown word."""

    def __init__(self, texts: Sequence[str], size: int, min_count: int):
        self._tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        self._tokenizer.normalizer = normalizers.Lowercase()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Split(PIECES, "removed", invert=True)
        trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=min_count, special_tokens=[PAD, UNKNOWN], show_progress=False)
        self._tokenizer.train_from_iterator(texts, trainer)
        ids = self._tokenizer.get_vocab()
        self.words = sorted(ids, key=lambda word: ids[word])

    def __len__(self) -> int:
        return len(self.words)

    def token_id(self, word: str) -> int | None:
        """The id of a word, or None if it is unknown."""
        return self._tokenizer.token_to_id(word)

    def encode(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Token ids of the last `longest` words of each text: a review ends with its verdict. Raises ValueError for a text without words."""
        encodings = [encoded.ids[-longest:] for encoded in self._tokenizer.encode_batch(list(texts))]
        for text, ids in zip(texts, encodings, strict=True):
            if not ids:
                raise ValueError(f"a text is empty, or holds no word: {text[:60]!r}. Leave it out.")
        return encodings


@dataclass(frozen=True, eq=False)
class TokenisedTexts(Examples):
    """Labelled texts of different lengths. `ids` int64 contains the token ids of all texts, concatenated. `starts`, `lengths` and
    `targets` int64 [n] are the position, the length and the label of each text. `lengths_on_host` equals `lengths` and stays on the
    host, because the shape of a batch depends on it."""

    ids: Tensor
    starts: Tensor
    lengths: Tensor
    targets: Tensor
    lengths_on_host: np.ndarray

    @classmethod
    def of(cls, encoded: Sequence[Sequence[int]], targets: Sequence[int]) -> Self:
        """Texts from the token ids and the label of each."""
        lengths = torch.tensor([len(ids) for ids in encoded])
        ids = torch.tensor([token for ids in encoded for token in ids])
        return cls(ids, lengths.cumsum(0) - lengths, lengths, torch.tensor(targets), lengths.numpy())

    def __len__(self) -> int:
        return len(self.targets)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        """A random order with batches of texts of similar length. An incomplete batch comes last."""
        lengths = torch.from_numpy(self.lengths_on_host)
        parts = torch.randperm(len(self), generator=generator).split(BUCKET * batch_size)
        whole = torch.cat([part[lengths[part].argsort(stable=True)] for part in parts])
        batches = whole.split(batch_size)
        full = [batch for batch in batches if len(batch) == batch_size]
        shuffled = [full[place] for place in torch.randperm(len(full), generator=generator).tolist()]
        return torch.cat(shuffled + [batch for batch in batches if len(batch) < batch_size])

    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
        """Token ids int64 [k, longest of these texts], padded with 0 at the end; labels [k]; and the lengths as k integers.

        Without `on_host` it waits for the device.
        """
        known = self.lengths_on_host[indices.cpu().numpy() if on_host is None else on_host].tolist()
        lengths = self.lengths[indices].unsqueeze(1)
        position = torch.arange(max(known), device=indices.device).unsqueeze(0)
        ids = self.ids[(self.starts[indices].unsqueeze(1) + position).clamp(max=len(self.ids) - 1)]
        return ids.masked_fill(position >= lengths, 0), self.targets[indices], known

    def by_length(self) -> Self:
        """The same texts, shortest first, so that evaluation batches need little padding."""
        order = self.lengths.argsort(stable=True)
        return type(self)(self.ids, self.starts[order], self.lengths[order], self.targets[order], self.lengths_on_host[order.numpy()])


def read_vectors(path: Path, words: Sequence[str], width: int) -> tuple[Tensor, Tensor]:
    """Vectors of `words` from a file, fp32 [n, width], 0 for words that it lacks; and bool [n], True for words that it contains.

    The file is in GloVe's format: one word per line, then its numbers, separated by spaces. Raises ValueError if its vectors
    have another width, or the format is wrong.
    """
    rows = {word: row for row, word in enumerate(words)}
    vectors = torch.zeros(len(words), width)
    has_vector = torch.zeros(len(words), dtype=torch.bool)
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            first = file.readline().split(" ")[1:]
            if not first:
                raise ValueError(f"{path}: empty, or not a file of vectors: its first line has no number.")
            if len(first) != width:
                raise ValueError(f"{path}: line 1 has {len(first)} numbers, not {width}. Give vectors of that width, or set task.width.")
            file.seek(0)
            for line_number, line in enumerate(file, 1):
                word, _, numbers = line.partition(" ")
                row = rows.get(word.rstrip("\n"))
                if row is not None:
                    vectors[row] = _vector(numbers, width, f"{path}:{line_number}: the vector of {word.strip()!r}")
                    has_vector[row] = True
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}). Give the path of a file of vectors.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: byte {error.object[error.start]:#04x}. Save it as UTF-8.") from error
    return vectors, has_vector


def _vector(text: str, width: int, place: str) -> Tensor:
    try:
        numbers = [float(number) for number in text.split()]
    except ValueError as error:
        raise ValueError(f"{place} contains something other than numbers ({error}).") from error
    if len(numbers) != width:
        raise ValueError(f"{place} is not {width} wide but {len(numbers)}.")
    return torch.tensor(numbers)
