"""Text generation in the style of a script (Karshenas, section 3, figure 4, appendix 7.3.3; assumptions: docs/sequences.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Len
from pydantic.dataclasses import dataclass

from ddl.progress import Progress, State
from ddl.tasks.fit_task import count_parameters, split_lengths
from ddl.tasks.precision_task import PrecisionTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Depth, Fraction, Positive, Width

if TYPE_CHECKING:
    from ddl.data.splits import Origin
    from ddl.data.text_windows import TextWindows
    from ddl.data.vocabulary import Vocabulary
    from ddl.devices import Device

CHARACTERS_PER_WORD = 4.5
"""Mean for English, punctuation marks counted as words. It makes reference passages as long as the sampled texts."""
STUDY_SCRIPT = "the Game of Thrones script of the study"


@dataclass(frozen=True, config=STRICT)
class TextGeneration(PrecisionTask):
    """Trains an LSTM language model of characters, words or subwords on a script (Karshenas, section 3, figure 4)."""

    unit = "windows"
    holds_out: ClassVar[bool] = True
    data_sets: ClassVar[tuple[str, ...]] = ("plays",)
    precision_options: ClassVar[tuple[str, ...] | None] = ()  # an LSTM has no layout, and is not compiled

    script: str
    """Path of a UTF-8 text file; empty for Shakespeare's plays, the fallback for the study's script."""
    content: Literal["full", "sample"]
    """Number of plays: `full` for all 37, `sample` for the ten bundled with the package; ignored if `script` is set."""
    limit: CountOrZero
    """Number of characters to use, from the first; 0 for all."""
    held_out: Annotated[Fraction, Positive]
    """Fraction of the text held out at its end for validation, above 0 and below 1."""
    level: Literal["character", "word", "subword"]
    """Kind of tokens."""
    words: Count
    """Vocabulary size at the `word` level."""
    subwords: Count
    """Vocabulary size at the `subword` level."""
    embedding: Width
    """Embedding width."""
    hidden: Width
    """Units of each LSTM layer."""
    layers: Depth
    """Number of LSTM layers."""
    dropout: Fraction
    """Dropout probability on embeddings, between layers and on outputs, 0 to below 1."""
    length: Count
    """Length of a training window in tokens."""
    context: Count
    """Number of context tokens before each validation window."""
    clip: Positive
    """Maximum norm of the gradient, above 0."""
    temperatures: Annotated[list[Positive], Len(1, 20)]
    """Sampling temperatures, 1 to 20 numbers above 0."""
    prompt: str
    """Text that every sampled text continues."""
    texts: Count
    """Number of texts sampled per temperature."""
    text_length: Count
    """Mean length of a sampled text in characters."""
    references: Count
    """Number of held-out passages that BLEU compares the sampled texts with."""

    def files(self) -> tuple[str, ...]:
        return (self.script,) if self.script else ()

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        import torch

        from ddl.data.text_windows import TextWindows, split_text
        from ddl.learners.language import LanguageLearner, TextSamples
        from ddl.learners.optimised_module import OptimisedModule
        from ddl.learners.optimisers import make_optimiser
        from ddl.metrics.bleu import passages
        from ddl.models.language import LanguageModel

        origin, script = self._script()
        trained, *others = split_text(script[: self.limit or None], self.held_out)
        if self.holdout:
            trained, held_out = split_text(trained, self.holdout)
            others = [held_out, *others]
        vocabulary = _vocabulary(trained, self.level, self.subwords if self.level == "subword" else self.words)
        before = vocabulary.encode(trained)
        train_length = len(before[0])
        train = TextWindows(*before, 1, self.length, 0)
        evaluated: list[TextWindows] = []
        for text in others:  # each with the text before it as context
            length, tokens = len(before[0]), vocabulary.encode(text)
            ids, characters, spelling = (torch.cat(parts) for parts in zip(before, tokens, strict=True))
            evaluated.append(TextWindows(ids, characters, spelling, length, self.length, min(self.context, length - 1)))
            before = ids, characters, spelling
        val, *test = evaluated
        per_token = len(trained) / train_length
        words = round(self.text_length / CHARACTERS_PER_WORD)
        references = [passages(text, self.references, words) for text in others]
        sampled = max(round(self.text_length / per_token), 1)
        samples = TextSamples(vocabulary, self.prompt, self.temperatures, self.texts, sampled, references[0], references[-1])
        self.seed_weights()
        model = LanguageModel(len(vocabulary), self.embedding, self.hidden, self.layers, self.dropout)
        network = OptimisedModule(model, make_optimiser("adam", self.lr), self.resolved_precision(), device, self.steps(train), self.clip)
        learner = LanguageLearner(network, samples, device)
        metadata = {
            "data": origin.metadata() | split_lengths(train, val, test[0] if test else None),
            "parameters": count_parameters([model]),
            "vocabulary": len(vocabulary),
            "precision": str(self.resolved_precision()),
            "characters_per_token": per_token,
            "unknown_tokens": (val.ids[train_length:] == 0).float().mean().item(),
        }
        train, val, *test = (split.to(device.torch) for split in (train, val, *test))
        yield from self.train(learner, train, val, device, metadata, resume, test[0] if test else None)

    def _script(self) -> tuple[Origin, str]:
        from ddl.data import sources
        from ddl.data.integrity import file_fingerprint
        from ddl.data.splits import Origin
        from ddl.data.text_windows import read_text

        if not self.script:
            item = sources.load_file("plays", self.content)
            fallback_for = ", and ".join(filter(None, [STUDY_SCRIPT, item.origin.fallback_for]))
            return replace(item.origin, fallback_for=fallback_for), read_text(item.path)
        path = Path(self.script).expanduser().absolute()
        content = read_text(path)
        return Origin(path.name, f"file {path}", complete=True, fallback_for="", sha256=file_fingerprint(path)), content


@cache
def _vocabulary(trained: str, level: str, size: int) -> Vocabulary:
    from ddl.data.vocabulary import Vocabulary

    return Vocabulary.learn(trained, level, size)
