"""BLEU of generated texts: how much of their words, in their order, stands in others."""

import re
from collections.abc import Sequence

from torchmetrics.functional.text import bleu_score

N_GRAM = 4
WORDS = re.compile(r"\w+|[^\w\s]")


def corpus_bleu(texts: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of all `texts` together, 0..1, each against all `references`, unsmoothed (Papineni et al., BLEU, 2002).

    Words and marks count as words, in their own case. 0 where not one run of four words is found.
    """
    spaced, beside = ([" ".join(WORDS.findall(text)) for text in given] for given in (texts, references))
    return bleu_score(spaced, [beside] * len(spaced), n_gram=N_GRAM).item()


def passages(text: str, count: int, words: int) -> list[str]:
    """`count` passages of so many words each, evenly spaced over the text; fewer where it is shorter."""
    found = list(WORDS.finditer(text))
    words = min(words, len(found))
    count = min(count, max(len(found) // max(words, 1), 1))
    starts = [round(number * (len(found) - words) / max(count - 1, 1)) for number in range(count)]
    return [text[found[start].start() : found[start + words - 1].end()] for start in starts] if found else []
