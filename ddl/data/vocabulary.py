"""Texts as token numbers, on three levels, and what a text costs that a vocabulary does not know."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

LEVELS = ("character", "word", "subword")
UNKNOWN = "[UNK]"
WORDS = Regex(r" ?[\p{L}\p{M}'\u2019]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}'\u2019]+|\s")
"""Words, numbers and marks, each with the space before it, and what space is left: together the very text."""
CHARACTERS = Regex(r"[\s\S]")
CODE_POINTS = 0x110000


class Vocabulary:
    """Tokens of one level, learnt from a text, so that the tokens of a text joined are that text.

    `character`: every character of it. `word`: its `size` most frequent words. `subword`: byte-pair encoding to `size` pieces within words
    (Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units, 2016). Number 0 is what is
    unknown.
    """

    def __init__(self, tokenizer: Tokenizer, level: str, counts: Counter[str], tokens: int):
        self._tokenizer, self._level = tokenizer, level
        # Each token spelt, with an end; whatever was not seen counts once, and then as any code point.
        total = counts.total() + tokens + 1
        self._bits = {character: math.log2(total / count) for character, count in counts.items()}
        self._end, self._new = math.log2(total / tokens), math.log2(total) + math.log2(CODE_POINTS)

    @classmethod
    def learn(cls, text: str, level: str, size: int) -> Self:
        """`size` is that of the words' and subwords' vocabulary. Raises ValueError for an empty text or an unknown level."""
        if not text:
            raise ValueError("the text to learn a vocabulary from is empty. Give one with something in it.")
        if level not in LEVELS:
            raise ValueError(f"level {level!r}: unknown. There are: {', '.join(LEVELS)}.")
        subword = level == "subword"
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN) if subword else models.WordLevel(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(CHARACTERS if level == "character" else WORDS, "isolated")
        size = max(size, len(set(text)) + 1) if subword else CODE_POINTS if level == "character" else size
        make = trainers.BpeTrainer if subword else trainers.WordLevelTrainer
        tokenizer.train_from_iterator([text], make(vocab_size=size, special_tokens=[UNKNOWN], show_progress=False))
        return cls(tokenizer, level, Counter(text), len(tokenizer.encode(text).ids))

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> tuple[Tensor, Tensor, Tensor]:
        """Of each token its number (int64 [n]), its characters (fp32 [n]), and the bits (fp32 [n]) that its spelling costs
        where it is unknown: by how often each character stands in the text that was learnt from; 0 where it is known."""
        found = self._tokenizer.encode(text)
        ids = np.array(found.ids, dtype=np.int64)
        ends = np.array([end for _, end in found.offsets], dtype=np.int64)
        lengths = np.diff(ends, prepend=0)
        bits = np.zeros(len(ids), dtype=np.float32)
        for place in np.flatnonzero(ids == 0):
            spelt = text[ends[place] - lengths[place] : ends[place]]
            bits[place] = self._end + sum(self._bits.get(character, self._new) for character in spelt)
        return torch.from_numpy(ids), torch.from_numpy(lengths.astype(np.float32)), torch.from_numpy(bits)

    def prompt(self, text: str) -> Tensor:
        """The numbers of what generation goes on from, int64 [n]. Raises ValueError for what is empty or unknown."""
        if not text:
            raise ValueError("task.prompt: empty. Give it at least one character.")
        found = self._tokenizer.encode(text)
        unknown = sorted({text[a:b] for number, (a, b) in zip(found.ids, found.offsets, strict=True) if number == 0})
        if unknown:
            raise ValueError(
                f"task.prompt: {', '.join(map(repr, unknown))} never seen: not in the vocabulary of {self._level}s that the script gave."
            )
        return torch.tensor(found.ids)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._tokenizer.id_to_token(number) or "" for number in ids)
