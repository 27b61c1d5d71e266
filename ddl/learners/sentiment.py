"""Training of a sentiment classifier, with probabilities of given phrases and neighbours of a given word."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary
from ddl.devices import Device
from ddl.learners.learner import Batch, StackableLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.supervised import Classifier
from ddl.metrics.neighbours import nearest

NEIGHBOURS = 10
"""Number of nearest words shown."""


@dataclass(frozen=True)
class Questions:
    """Phrases whose probability of being positive is reported, and the word whose nearest neighbours are shown."""

    words: WordVocabulary
    phrases: Sequence[str]
    word: str


class SentimentLearner(StackableLearner):
    """A `Classifier` of token ids: an `AveragedEmbeddings` or an `LstmClassifier`.

    Metrics: those of `Classifier`, and each phrase's probability of being positive, 0..1.
    """

    def __init__(self, network: OptimisedModule, questions: Questions, device: Device):
        super().__init__(network)
        self._classifier = Classifier(network, nn.Identity(), nn.Identity(), device)
        self._questions = questions
        encoded = questions.words.encode(questions.phrases, longest=1000)
        self._phrases: Tensor | None = None
        if encoded:
            phrases = TokenisedTexts.of(encoded, [0] * len(encoded)).to(device.torch)
            self._phrases, *_ = phrases.batch(torch.arange(len(encoded), device=device.torch))

    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        return self._classifier.losses(network, batch)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        yield from self._classifier.evaluate(batches)
        for number, probability in enumerate(self._probabilities(), 1):
            yield f"phrase_{number}_probability", probability

    @torch.no_grad()
    def _probabilities(self) -> list[float]:
        if self._phrases is None:
            return []
        return self._network.through(self._network.trained(), self._phrases).softmax(1)[:, 1].tolist()

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """Yield a text with the phrases' probabilities and the word's nearest neighbours."""
        questions = self._questions
        lines = [f"After epoch {epoch}.", *(["", "Probability of being positive:"] if questions.phrases else [])]
        lines += [f"  {probability:.3g}  {phrase}" for phrase, probability in zip(questions.phrases, self._probabilities(), strict=True)]
        token_id = questions.words.token_id(questions.word)
        if token_id is None:
            lines += ["", f"“{questions.word}” is not in the vocabulary."]
        else:
            rows = nearest(self._network.trained().embedding.weight.detach(), token_id, NEIGHBOURS)
            lines += ["", f"Nearest to “{questions.word}”, nearest first:", "  " + ", ".join(questions.words.words[row] for row in rows)]
        yield "words.txt", "\n".join(lines) + "\n"

    def predictor(self) -> nn.Module:
        return self._classifier.predictor()
