"""Vocabularies of characters, words or subwords: texts to token ids and back, and the cost in bits of spelling unknown tokens."""

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
"""Words, numbers and punctuation, each with the space before it, and the remaining whitespace. Concatenated they are the text."""
CHARACTERS = Regex(r"[\s\S]")
CODE_POINTS = 0x110000


class Vocabulary:
    """Tokens of one level, learnt from a text. The tokens of that text, concatenated, are the text.

    `character`: all its characters. `word`: its `size` most frequent words. `subword`: byte-pair encoding to `size` pieces within
    words (Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units, 2016). Token id 0 is any
    unknown token.
    """

    def __init__(self, tokenizer: Tokenizer, level: str, counts: Counter[str], tokens: int):
        self._tokenizer, self._level = tokenizer, level
        # Frequencies of characters and of the end of a token; all unseen characters together count once, and are equally likely.
        total = counts.total() + tokens + 1
        self._bits = {character: math.log2(total / count) for character, count in counts.items()}
        self._end, self._new = math.log2(total / tokens), math.log2(total) + math.log2(CODE_POINTS)

    @classmethod
    def learn(cls, text: str, level: str, size: int) -> Self:
        """A vocabulary learnt from `text`; `level` "character" ignores `size`. Raises ValueError for an empty text or an unknown level."""
        if not text:
            raise ValueError("the text to learn a vocabulary from is empty. Give a text with content.")
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
        """For each token its id (int64 [n]), its number of characters (fp32 [n]), and the bits that spelling it costs (fp32 [n]).

        The bits are 0 for known tokens. For unknown ones they follow from the character frequencies of the learnt text.
        """
        encoding = self._tokenizer.encode(text)
        ids = np.array(encoding.ids, dtype=np.int64)
        ends = np.array([end for _, end in encoding.offsets], dtype=np.int64)
        lengths = np.diff(ends, prepend=0)
        bits = np.zeros(len(ids), dtype=np.float32)
        for token in np.flatnonzero(ids == 0):
            spelling = text[ends[token] - lengths[token] : ends[token]]
            bits[token] = self._end + sum(self._bits.get(character, self._new) for character in spelling)
        return torch.from_numpy(ids), torch.from_numpy(lengths.astype(np.float32)), torch.from_numpy(bits)

    def prompt(self, text: str) -> Tensor:
        """Token ids of a prompt for generation, int64 [n]. Raises ValueError if it is empty or contains unknown tokens."""
        if not text:
            raise ValueError("task.prompt: empty. Give it at least one character.")
        encoding = self._tokenizer.encode(text)
        if unknown := sorted({text[start:end] for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True) if token == 0}):
            raise ValueError(
                f"task.prompt: {', '.join(map(repr, unknown))} not in the vocabulary of {self._level}s learnt from the script. Reword the prompt."
            )
        return torch.tensor(encoding.ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these token ids. Unknown tokens become [UNK]."""
        return "".join(self._tokenizer.id_to_token(token) or "" for token in ids)
