"""The next token of a text, and texts drawn from what was learnt."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddl import figures
from ddl.data.vocabulary import Vocabulary
from ddl.devices import Device
from ddl.learners.learner import Batch, Learner
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.bleu import corpus_bleu
from ddl.models.language import generate
from ddl.progress import State

SHOWN = 2
"""Texts of each temperature that are shown; BLEU is of them all."""


@dataclass(frozen=True)
class TextSamples:
    """What is drawn at each evaluation: `texts` for each of `temperatures`, of `tokens` each, going on from `prompt`, always by the
    same random numbers; and the passages that BLEU holds them against."""

    vocabulary: Vocabulary
    prompt: str
    temperatures: Sequence[float]
    texts: int
    tokens: int
    references: Sequence[str]


class LanguageLearner(Learner):
    """Cross-entropy on the next token of `TextWindows`.

    Metrics: `loss` (nats a token),
    `perplexity` (of a token), `bits_per_character` (over all characters, unknown tokens spelt: comparable between vocabularies), and
    BLEU for each temperature.
    """

    def __init__(self, network: OptimisedModule, writing: TextSamples, device: Device):
        """`network` is of a `LanguageModel`."""
        self._network, self._writing, self._device = network, writing, device
        self._prompt = writing.vocabulary.prompt(writing.prompt).to(device.torch)
        self._written: list[list[str]] = []
        self._bleu: list[float] = []

    def step(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets, weights, *_ = batch
        self._network.train()
        losses = self._losses(inputs, targets)
        loss = (losses * weights).sum() / weights.sum()
        self._network.minimise(loss)
        return {"loss": loss.detach()}

    def _losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        scores, _ = self._network(inputs)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._network.eval()
        totals = torch.zeros(4, dtype=torch.float64, device=self._device.torch)
        for inputs, targets, weights, characters, spelling in batches:
            nats = (self._losses(inputs, targets).double() * weights).sum()
            totals += torch.stack([nats, weights.double().sum(), characters.double().sum(), spelling.double().sum()])
        totals = self._device.sum(totals)
        nats, tokens, characters, spelling = totals
        loss = nats / tokens
        yield "loss", loss.item()
        yield "perplexity", loss.exp().item()
        yield "bits_per_character", ((nats / torch.tensor(2.0).log() + spelling) / characters).item()
        self._write()
        for temperature, bleu in zip(self._writing.temperatures, self._bleu, strict=True):
            yield f"bleu4_temperature_{temperature:g}".replace(".", "_"), bleu

    def _write(self) -> None:
        """All texts of all temperatures in one batch."""
        here, generator = self._writing, torch.Generator(self._device.torch).manual_seed(0)
        temperatures = torch.tensor(here.temperatures, device=self._device.torch).repeat_interleave(here.texts)
        drawn = generate(self._network.trained(), self._prompt.expand(len(temperatures), -1), here.tokens, temperatures, generator)
        texts = [here.vocabulary.decode(row) for row in drawn.tolist()]
        self._written = [texts[start : start + here.texts] for start in range(0, len(texts), here.texts)]
        self._bleu = [corpus_bleu(written, here.references) for written in self._written]

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """What the last evaluation wrote: BLEU over temperatures, and the first texts of each."""
        if not self._written:
            return
        here = self._writing
        yield "bleu.svg", figures.line_chart(here.temperatures, {"BLEU-4": self._bleu}, "temperature", "BLEU-4", f"after epoch {epoch}")
        parts = [f"After epoch {epoch}; each text goes on from {here.prompt!r}."]
        for temperature, bleu, texts in zip(here.temperatures, self._bleu, self._written, strict=True):
            parts += [f"--- temperature {temperature:g}, BLEU-4 {bleu:.3f} over {here.texts} texts"]
            parts += [here.prompt + text for text in texts[:SHOWN]]
        yield "texts.txt", "\n\n".join(parts) + "\n"

    def state_dict(self) -> State:
        return self._network.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._network.load_state_dict(state)
