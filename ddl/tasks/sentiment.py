"""Whether a film review praises (Karshenas, section 3, tables 3 and 8; docs/sequences.md says what is assumed)."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ddl.data import reviews, sources
from ddl.data.files import glove
from ddl.data.reviews import Reviews
from ddl.data.sources import FileItem
from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary, read_vectors
from ddl.devices import Device, derive_seed
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import make_optimiser
from ddl.learners.sentiment import Questions
from ddl.learners.sentiment import SentimentLearner as SentimentLearner
from ddl.models.text_classifiers import AveragedEmbeddings, LstmClassifier
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.fit_task import FitTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction


@dataclass(frozen=True, config=STRICT)
class Sentiment(FitTask):
    unit = "texts"
    data_sets: ClassVar[tuple[str, ...]] = ("imdb", "reviews", "glove")

    content: Literal["full", "sample"]
    """`full`: IMDB and all of GloVe. `sample`: the bundled film-review sentences and words."""
    train_limit: CountOrZero
    """Use only so many training texts, evenly taken; 0 for all."""
    val_limit: CountOrZero
    """The same for validation."""
    words: Count
    """Size of the vocabulary: the most frequent words of the training texts."""
    min_count: Count
    """Words that stand less often in the training texts are unknown."""
    longest: Count
    """Words that are read of a text: its last ones."""
    model: Literal["average", "lstm", "lstm_frozen"]
    """The mean of trained embeddings; an LSTM on embeddings that begin as GloVe's and are trained; one on GloVe's as they are."""
    embedding: Count
    """Width of the embeddings that are averaged."""
    vectors: str
    """Path of a file of vectors in GloVe's form; empty for GloVe."""
    width: Count
    """Of the vectors."""
    hidden: Count
    dropout: Fraction
    pooling: Literal["last", "max"]
    bidirectional: bool
    phrases: list[str]
    word: str
    """Whose neighbours are shown."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        found = sources.load_files("imdb", self.content)
        trained, validated = (
            _limited(part, n) for part, n in zip(reviews.read_reviews(found), (self.train_limit, self.val_limit), strict=True)
        )
        words, train, val = _encoded(found, self.train_limit, self.val_limit, self.words, self.min_count, self.longest)
        metadata: dict[str, Any] = {
            "data": found.origin.metadata() | {"train": len(trained.texts), "val": len(validated.texts)},
            "vocabulary": len(words),
        }
        torch.manual_seed(derive_seed(self.seed, "weights", 0))
        model: AveragedEmbeddings | LstmClassifier
        if self.model == "average":
            model = AveragedEmbeddings(len(words), self.embedding)
        else:
            begin, has, origin = self._vectors(words)
            metadata |= {"vectors": origin, "words_with_vectors": has.float().mean().item()}
            model = LstmClassifier(begin, self.model == "lstm", self.hidden, self.dropout, self.pooling, self.bidirectional)
        metadata["parameters"] = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        network = OptimisedModule(model, make_optimiser("adam", self.lr), Precision.parse("fp32"), device)
        learner = SentimentLearner(network, Questions(words, self.phrases, self.word), device)
        yield from self.train(learner, train.to(device.torch), val.to(device.torch), device, metadata, resume)

    def _vectors(self, words: WordVocabulary) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Vectors to begin with [v, width], which words have one of their own, and where they come from.

        A word without one, and the unknown word, begin as the mean of all; 0 pads.
        """
        if self.vectors:
            path, origin = Path(self.vectors).expanduser().absolute(), {"source": f"file {self.vectors}"}
            begin, has = read_vectors(path, words.words, self.width)
        else:
            found = sources.load_files("glove", self.content)
            path, origin = found.folder / glove.FILE, found.origin.metadata()
            begin, has = _glove(path, tuple(words.words), self.width)
        if not has.any():
            raise ValueError(f"{path}: has a vector of none of the {len(words):,} words. Is it of another language, or in capitals?")
        begin = torch.where(has.unsqueeze(1), begin, begin[has].mean(0))
        begin[0] = 0.0
        return begin, has, origin


def _limited(part: Reviews, n: int) -> Reviews:
    """`n` of the texts, evenly taken, since all of one class may come first; all where n is 0 or more than there are."""
    if not 0 < n < len(part.texts):
        return part
    chosen = [place * len(part.texts) // n for place in range(n)]
    return Reviews([part.texts[place] for place in chosen], [part.labels[place] for place in chosen])


@cache
def _encoded(
    found: FileItem, train_limit: int, val_limit: int, size: int, min_count: int, longest: int
) -> tuple[WordVocabulary, TokenisedTexts, TokenisedTexts]:
    """Kept for the trials that follow in this process."""
    train, val = (_limited(part, n) for part, n in zip(reviews.read_reviews(found), (train_limit, val_limit), strict=True))
    words = WordVocabulary(train.texts, size, min_count)
    of = [TokenisedTexts.of(words.encode(part.texts, longest), part.labels) for part in (train, val)]
    return words, of[0], of[1].by_length()


@cache
def _glove(path: Path, words: tuple[str, ...], width: int) -> tuple[Tensor, Tensor]:
    return read_vectors(path, words, width)
