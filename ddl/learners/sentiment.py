"""Whether a text praises, what phrases are taken for, and which words lie beside each other."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary
from ddl.devices import Device
from ddl.learners.learner import Batch, Learner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.supervised import Classifier
from ddl.metrics.neighbours import nearest
from ddl.progress import State

NEIGHBOURS = 10


@dataclass(frozen=True)
class Questions:
    """What a model is asked besides: how positive `phrases` are, and the words nearest to `word`."""

    words: WordVocabulary
    phrases: Sequence[str]
    word: str


class SentimentLearner(Learner):
    """A `Classifier` of word numbers. Metrics: its own, and of each phrase the probability of being positive, 0..1."""

    def __init__(self, network: OptimisedModule, questions: Questions, device: Device):
        """`network` is of `AveragedEmbeddings` or a `Reader`."""
        self._classifier = Classifier(network, _as_it_is, _as_it_is, device)
        self._network, self._questions = network, questions
        encoded = questions.words.encode(questions.phrases, longest=1000)
        phrases = TokenisedTexts.of(encoded, [0] * len(encoded)).to(device.torch)
        self._phrases, _ = phrases.batch(torch.arange(len(encoded), device=device.torch))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        return self._classifier.step(batch)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        yield from self._classifier.evaluate(batches)
        for number, probability in enumerate(self._probabilities(), 1):
            yield f"phrase_{number}_probability", probability

    @torch.no_grad()
    def _probabilities(self) -> list[float]:
        return self._network.through(self._network.trained(), self._phrases).softmax(1)[:, 1].tolist()

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """What the phrases are taken for, and the neighbours of the word, after the newest epoch."""
        here = self._questions
        lines = [f"After epoch {epoch}.", "", "Probability of being positive:"]
        lines += [f"  {probability:.3g}  {phrase}" for phrase, probability in zip(here.phrases, self._probabilities(), strict=True)]
        number = here.words.number(here.word)
        if number is None:
            lines += ["", f"“{here.word}” is not in the vocabulary."]
        else:
            rows = nearest(self._network.trained().embedding.weight.detach(), number, NEIGHBOURS)
            lines += ["", f"Nearest to “{here.word}”, nearest first:", "  " + ", ".join(here.words.words[row] for row in rows)]
        yield "words.txt", "\n".join(lines) + "\n"

    def predictor(self) -> nn.Module:
        return self._classifier.predictor()

    def state_dict(self) -> State:
        return self._classifier.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._classifier.load_state_dict(state)


def _as_it_is(tokens: Tensor) -> Tensor:
    return tokens
