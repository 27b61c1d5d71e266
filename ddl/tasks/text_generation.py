"""Writing on in the manner of a script (Karshenas, section 3, figure 4, appendix 7.3.3; docs/sequences.md says what is assumed)."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Len
from pydantic.dataclasses import dataclass

from ddl.data import sources, text_windows
from ddl.data.files import plays
from ddl.data.integrity import fingerprint_of_files
from ddl.data.splits import Origin
from ddl.data.text_windows import TextWindows
from ddl.data.vocabulary import Vocabulary
from ddl.devices import Device, derive_seed
from ddl.learners.language import LanguageLearner, TextSamples
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import make_optimiser
from ddl.metrics.bleu import passages
from ddl.models.language import LanguageModel
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.fit_task import FitTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction, Positive


@dataclass(frozen=True, config=STRICT)
class TextGeneration(FitTask):
    unit = "windows"
    data_sets: ClassVar[tuple[str, ...]] = ("plays",)

    script: str
    """Path of a text in UTF-8; empty for the plays, which stand in for it."""
    content: Literal["full", "sample"]
    """Of the plays: all 37, or the ten that come with the package."""
    limit: CountOrZero
    """Use only the first so many characters; 0 for all."""
    held_out: Annotated[Fraction, Positive]
    """The last share of the text, which is not trained on."""
    level: Literal["character", "word", "subword"]
    words: Count
    """Size of the vocabulary of words."""
    subwords: Count
    """The same of subwords."""
    embedding: Count
    hidden: Count
    layers: Count
    dropout: Fraction
    length: Count
    """Tokens in a window that is trained on."""
    context: Count
    """Tokens before each window that the held-out part is judged by."""
    clip: Positive
    """Norm that a gradient is cut to."""
    temperatures: Annotated[list[Positive], Len(1, 20)]
    prompt: str
    texts: Count
    """Texts drawn for each temperature."""
    text_length: Count
    """Of each text, in characters; words and subwords are as many as have that length on the average."""
    references: Count
    """Passages of the held-out part that BLEU holds the texts against."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        origin, script = self._script()
        trained, held_out = text_windows.split_text(script[: self.limit or None], self.held_out)
        vocabulary = _vocabulary(trained, self.level, self.subwords if self.level == "subword" else self.words)
        ids, characters, spelling = vocabulary.encode(trained)
        train = TextWindows(ids, characters, spelling, 1, self.length, 0)
        more, more_characters, more_spelling = vocabulary.encode(held_out)
        val = TextWindows(
            torch.cat([ids, more]),
            torch.cat([characters, more_characters]),
            torch.cat([spelling, more_spelling]),
            len(ids),
            self.length,
            min(self.context, len(ids) - 1),
        )
        per_token = len(trained) / len(ids)
        references = passages(held_out, self.references, round(self.text_length / CHARACTERS_PER_WORD))
        tokens = max(round(self.text_length / per_token), 1)
        writing = TextSamples(vocabulary, self.prompt, self.temperatures, self.texts, tokens, references)
        torch.manual_seed(derive_seed(self.seed, "weights", 0))
        model = LanguageModel(len(vocabulary), self.embedding, self.hidden, self.layers, self.dropout)
        # The learning rate falls to 0.
        network = OptimisedModule(model, make_optimiser("adam", self.lr), Precision.parse("fp32"), device, self.steps(train), self.clip)
        learner = LanguageLearner(network, writing, device)
        metadata = {
            "data": origin.metadata() | {"train": len(train), "val": len(val)},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": len(vocabulary),
            "characters_per_token": per_token,
            "unknown_tokens": (more == 0).float().mean().item(),
        }
        yield from self.train(learner, train.to(device.torch), val.to(device.torch), device, metadata, resume)

    def _script(self) -> tuple[Origin, str]:
        if not self.script:
            found = sources.load_files("plays", self.content)
            return replace(found.origin, fallback_for=STUDYS), text_windows.read_text(found.folder / plays.FILE)
        path = Path(self.script).expanduser().absolute()
        content = text_windows.read_text(path)
        sha256 = fingerprint_of_files(path.parent, [path.name])
        return Origin(path.name, f"file {path}", complete=True, fallback_for="", sha256=sha256), content


CHARACTERS_PER_WORD = 4.5
"""Of English, marks counted as words: passages are as long as the texts."""
STUDYS = "the Game of Thrones script of the study"


@cache
def _vocabulary(trained: str, level: str, size: int) -> Vocabulary:
    return Vocabulary.learn(trained, level, size)
