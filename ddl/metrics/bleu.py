"""BLEU of generated texts against passages of a reference text."""

import re
from collections.abc import Sequence

from torchmetrics.functional.text import bleu_score

N_GRAM = 4
WORDS = re.compile(r"\w+|[^\w\s]")


def corpus_bleu(texts: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU-4 of `texts` in 0..1, each against all `references`, unsmoothed (Papineni et al., BLEU, 2002).

    Punctuation marks count as words; case matters. It is 0 if no 4-gram matches.
    """
    candidates, tokenised = ([" ".join(WORDS.findall(text)) for text in group] for group in (texts, references))
    return bleu_score(candidates, [tokenised] * len(candidates), n_gram=N_GRAM).item()


def passages(text: str, count: int, words: int) -> list[str]:
    """Take `count` evenly spaced passages of `words` words each from `text`; fewer if the text is too short."""
    matches = list(WORDS.finditer(text))
    words = min(words, len(matches))
    count = min(count, max(len(matches) // max(words, 1), 1))
    starts = [round(index * (len(matches) - words) / max(count - 1, 1)) for index in range(count)]
    return [text[matches[start].start() : matches[start + words - 1].end()] for start in starts] if matches else []
