"""Sentiment classification of film reviews (Karshenas, section 3, tables 3 and 8; assumptions: docs/sequences.md)."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from ddl.precision import FP32
from ddl.tasks.fit_task import Fitting, count_parameters, split_lengths
from ddl.tasks.precision_task import PrecisionTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction, Width

if TYPE_CHECKING:
    from torch import Tensor

    from ddl.data.reviews import Reviews
    from ddl.data.sources import FileItem
    from ddl.data.splits import Origin
    from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary
    from ddl.devices import Device
    from ddl.models.text_classifiers import AveragedEmbeddings, LstmClassifier


@plain_dataclass(frozen=True, eq=False)
class _LabelledTexts:
    """The texts, on the device, and their vocabulary."""

    origin: Origin
    words: WordVocabulary
    train: TokenisedTexts
    val: TokenisedTexts
    test: TokenisedTexts | None


@dataclass(frozen=True, config=STRICT)
class Sentiment(PrecisionTask):
    """Trains averaged word embeddings or an LSTM to classify film reviews as positive or negative (Karshenas, section 3, table 3)."""

    unit = "texts"
    holds_out: ClassVar[bool] = True
    data_sets: ClassVar[tuple[str, ...]] = ("imdb", "reviews", "glove")
    stackable: ClassVar[tuple[str, ...]] = ("lr", "dropout")
    precision_options: ClassVar[tuple[str, ...] | None] = ()  # an LSTM has no layout, and is not compiled

    content: Literal["full", "sample"]
    """Amount of data: `full` for IMDB and all of GloVe, `sample` for the bundled film-review sentences and word vectors."""
    train_limit: CountOrZero
    """Number of training texts to use, evenly spaced; 0 for all."""
    val_limit: CountOrZero
    """Number of validation texts to use, evenly spaced; 0 for all."""
    words: Count
    """Maximum size of the vocabulary of the most frequent words in the training texts."""
    min_count: Count
    """Minimum number of occurrences of a word in the training texts; rarer words are unknown."""
    longest: Count
    """Maximum number of words read per text, counted from its end."""
    model: Literal["average", "lstm", "lstm_frozen"]
    """Model: mean of trained embeddings, LSTM with trained embeddings initialised from GloVe, or LSTM with frozen GloVe embeddings."""
    embedding: Width
    """Embedding width of `average`; ignored by the LSTMs."""
    vectors: str
    """Path of a file of word vectors in GloVe's format; empty for GloVe; ignored by `average`."""
    width: Width
    """Width of the word vectors; ignored by `average`."""
    hidden: Width
    """Units of the LSTM, per direction; ignored by `average`."""
    dropout: Fraction
    """Dropout probability on the embeddings and before the logits, 0 to below 1; ignored by `average`."""
    pooling: Literal["last", "max"]
    """Output of the LSTM that is classified: the last one, or the maximum over time; ignored by `average`."""
    bidirectional: bool
    """True for a second LSTM that reads backwards; ignored by `average`."""
    phrases: list[str]
    """Phrases whose probability of being positive is reported."""
    word: str
    """Word whose nearest neighbours are shown."""

    def files(self) -> tuple[str, ...]:
        return (self.vectors,) if self.vectors else ()

    def can_stack(self) -> bool:
        # The LSTM of a stack computes in fp32.
        lstm = not self.bidirectional and self.resolved_precision() == FP32
        return self.has_stackable_precision() and (self.model == "average" or lstm)

    def load_data(self, device: Device) -> _LabelledTexts:
        from ddl.data import sources

        item = sources.load_file("imdb", self.content)
        limits = (self.train_limit, self.val_limit)
        words, splits = _encoded(item, limits, self.holdout, self.words, self.min_count, self.longest)
        train, val, *test = (split.to(device.torch) for split in splits)
        return _LabelledTexts(item.origin, words, train, val, test[0] if test else None)

    def build(self, data: _LabelledTexts, device: Device) -> Fitting:
        from ddl.learners.optimised_module import OptimisedModule
        from ddl.learners.optimisers import make_optimiser
        from ddl.learners.sentiment import Questions, SentimentLearner
        from ddl.models.text_classifiers import AveragedEmbeddings, LstmClassifier

        metadata: dict[str, Any] = {
            "data": data.origin.metadata() | split_lengths(data.train, data.val, data.test),
            "vocabulary": len(data.words),
            "precision": str(self.resolved_precision()),
        }
        model: AveragedEmbeddings | LstmClassifier
        if self.model == "average":
            model = AveragedEmbeddings(len(data.words), self.embedding)
        else:
            vectors, has_vector, origin = self._vectors(data.words)
            metadata |= {"vectors": origin, "words_with_vectors": has_vector.float().mean().item()}
            fallbacks = [data.origin.fallback_for, origin.get("fallback_for", "")]
            metadata["data"]["fallback_for"] = "; ".join(filter(None, fallbacks))
            model = LstmClassifier(vectors, self.model == "lstm", self.hidden, self.dropout, self.pooling, self.bidirectional)
        metadata["parameters"] = count_parameters([model], trainable_only=True)
        network = OptimisedModule(model, make_optimiser("adam", self.lr), self.resolved_precision(), device)
        learner = SentimentLearner(network, Questions(data.words, self.phrases, self.word), device)
        return Fitting(learner, data.train, data.val, metadata, data.test)

    def _vectors(self, words: WordVocabulary) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Initial embeddings [v, width], a mask [v] of the words that have a vector, and the vectors' origin.

        Words without a vector, and the unknown word, get the mean of all vectors; the padding (row 0) gets zeros.
        """
        import torch

        from ddl.data import sources
        from ddl.data.tokenised_texts import read_vectors

        if self.vectors:
            path, origin = Path(self.vectors).expanduser().absolute(), {"source": f"file {self.vectors}"}
            vectors, has_vector = read_vectors(path, words.words, self.width)
        else:
            item = sources.load_file("glove", self.content)
            path, origin = item.path, item.origin.metadata()
            vectors, has_vector = _glove(path, tuple(words.words), self.width)
        if not has_vector.any():
            raise ValueError(
                f"{path}: has no vector for any of the {len(words):,} words. Use vectors of the texts' language, in lower case."
            )
        vectors = torch.where(has_vector.unsqueeze(1), vectors, vectors[has_vector].mean(0))
        vectors[0] = 0.0
        return vectors, has_vector, origin


def _limited(part: Reviews, n: int) -> Reviews:
    """Take `n` evenly spaced texts, because texts may be sorted by label; all if `n` is 0 or at least their number."""
    from ddl.data.reviews import Reviews

    if not 0 < n < len(part.texts):
        return part
    chosen = [index * len(part.texts) // n for index in range(n)]
    return Reviews([part.texts[index] for index in chosen], [part.labels[index] for index in chosen])


def _held_out(train: Reviews, fraction: float) -> tuple[Reviews, Reviews]:
    """(the texts to train on, the others): `fraction` of each label."""
    from ddl.data.reviews import Reviews
    from ddl.data.splits import holdout_mask

    held = holdout_mask(train.labels, fraction)
    parts = [[index for index, chosen in enumerate(held) if chosen == part] for part in (False, True)]
    first, second = (Reviews([train.texts[index] for index in part], [train.labels[index] for index in part]) for part in parts)
    return first, second


@cache
def _encoded(
    item: FileItem, limits: tuple[int, int], holdout: float, size: int, min_count: int, longest: int
) -> tuple[WordVocabulary, list[TokenisedTexts]]:
    """Vocabulary, training and validation texts, and with `holdout` test texts; cached for the next trials in this process."""
    from ddl.data.reviews import read_reviews
    from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary

    train, *others = (_limited(part, n) for part, n in zip(read_reviews(item), limits, strict=True))
    if holdout:
        train, val = _held_out(train, holdout)
        others = [val, *others]
    words = WordVocabulary(train.texts, size, min_count)
    tokenised, *rest = (TokenisedTexts.of(words.encode(part.texts, longest), part.labels) for part in (train, *others))
    return words, [tokenised, *(part.by_length() for part in rest)]


@cache
def _glove(path: Path, words: tuple[str, ...], width: int) -> tuple[Tensor, Tensor]:
    from ddl.data.tokenised_texts import read_vectors

    return read_vectors(path, words, width)
