"""Training of a language model, evaluated on held-out text and on texts sampled from it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddl import figures
from ddl.data.vocabulary import Vocabulary
from ddl.devices import Device
from ddl.learners.learner import Batch, SingleNetworkLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.bleu import corpus_bleu
from ddl.models.language import generate

SHOWN = 2
"""Number of texts per temperature in `texts.txt`; BLEU covers all texts."""


@dataclass(frozen=True)
class TextSamples:
    """The texts that every evaluation samples, always with the same random numbers, and the reference passages for BLEU.

    `references` are of the validation text, `test_references` of the test text if there is one. `texts` texts of `tokens` tokens for each of `temperatures`, each continuing `prompt`.
    """

    vocabulary: Vocabulary
    prompt: str
    temperatures: Sequence[float]
    texts: int
    tokens: int
    references: Sequence[str]
    test_references: Sequence[str]


class LanguageLearner(SingleNetworkLearner):
    """A `LanguageModel` trained on the cross-entropy of the next token of `TextWindows`.

    Metrics: `loss` (nats per token), `perplexity` (per token), `bits_per_character` (over all characters, including the spelling of
    unknown tokens, hence comparable between vocabularies), and BLEU-4 for each temperature.
    """

    def __init__(self, network: OptimisedModule, samples: TextSamples, device: Device):
        super().__init__(network)
        self._samples, self._device = samples, device
        self._prompt = samples.vocabulary.prompt(samples.prompt).to(device.torch)
        self._references = samples.references
        self._texts: list[list[str]] = []
        self._bleu: list[float] = []

    def step(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets, weights, *_ = batch
        self._network.train()
        losses = self._losses(inputs, targets)
        loss = (losses * weights).sum() / weights.sum()
        self._network.minimise(loss)
        return {"loss": loss.detach()}

    def _losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits, _ = self._network(inputs)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._network.eval()
        totals = torch.zeros(4, dtype=torch.float64, device=self._device.torch)
        for inputs, targets, weights, characters, spelling in batches:
            nats = (self._losses(inputs, targets).double() * weights).sum()
            totals += torch.stack([nats, weights.double().sum(), characters.double().sum(), spelling.double().sum()])
        nats, tokens, characters, spelling = self._device.sum(totals)
        loss = nats / tokens
        yield "loss", loss.item()
        yield "perplexity", loss.exp().item()
        yield "bits_per_character", ((nats / torch.tensor(2.0).log() + spelling) / characters).item()
        self._sample()
        for temperature, bleu in zip(self._samples.temperatures, self._bleu, strict=True):
            yield f"bleu4_temperature_{temperature:g}".replace(".", "_"), bleu

    def before_test(self) -> None:
        self._references = self._samples.test_references

    def _sample(self) -> None:
        """Sample the texts of all temperatures in one batch, and compute their BLEU."""
        samples, generator = self._samples, torch.Generator(self._device.torch).manual_seed(0)
        temperatures = torch.tensor(samples.temperatures, device=self._device.torch).repeat_interleave(samples.texts)
        ids = generate(self._network.trained(), self._prompt.expand(len(temperatures), -1), samples.tokens, temperatures, generator)
        texts = [samples.vocabulary.decode(row) for row in ids.tolist()]
        self._texts = [texts[start : start + samples.texts] for start in range(0, len(texts), samples.texts)]
        self._bleu = [corpus_bleu(group, self._references) for group in self._texts]

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """Yield BLEU over temperatures, and the first texts of each temperature, from the last evaluation."""
        if not self._texts:
            return
        samples = self._samples
        yield "bleu.svg", figures.line_chart(samples.temperatures, {"BLEU-4": self._bleu}, "temperature", "BLEU-4", f"after epoch {epoch}")
        parts = [f"After epoch {epoch}; each text continues {samples.prompt!r}."]
        for temperature, bleu, texts in zip(samples.temperatures, self._bleu, self._texts, strict=True):
            parts += [f"--- temperature {temperature:g}, BLEU-4 {bleu:.3f} over {samples.texts} texts"]
            parts += [samples.prompt + text for text in texts[:SHOWN]]
        yield "texts.txt", "\n\n".join(parts) + "\n"
