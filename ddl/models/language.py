"""A recurrent language model, and text generation by sampling from it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, each [layers, n, hidden]."""


class LanguageModel(nn.Module):
    """An LSTM that maps token ids [n, t] to logits of the next token [n, t, vocabulary] and its own state.

    Input and output embeddings are tied (Press and Wolf, Using the Output Embedding to Improve Language Models, 2017): in a
    word vocabulary they hold most of the parameters and of the computation.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.dropout = nn.Dropout(dropout)
        # With several layers in one nn.LSTM, cuDNN would set up the random numbers of the dropout between them again after every seeding.
        self.lstms = nn.ModuleList(nn.LSTM(hidden if layer else embedding, hidden, batch_first=True) for layer in range(layers))
        self.projection = nn.Linear(hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        outputs, states = self.embedding(tokens), []
        for layer, lstm in enumerate(self.lstms):
            before = None if state is None else (state[0][layer : layer + 1], state[1][layer : layer + 1])
            outputs, after = lstm(self.dropout(outputs), before)
            states.append(after)
        hidden, cells = (torch.cat(parts) for parts in zip(*states, strict=True))
        return F.linear(self.dropout(self.projection(outputs)), self.embedding.weight, self.bias), (hidden, cells)


def tempered(logits: Tensor, temperatures: Tensor) -> Tensor:
    """Probabilities [n, v] at temperatures [n, 1] above 0, from logits or logarithms of probabilities [n, v].

    exp(log p / T), normalised (Karshenas, equation 1).
    """
    return torch.softmax(logits / temperatures, dim=-1)


@torch.no_grad()
def generate(model: LanguageModel, prompts: Tensor, length: int, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """Sample `length` token ids after each of `prompts` [n, p], row i at temperature `temperatures[i]`. Returns int64 [n, length].

    All rows form one batch, and each step reads one token, because the LSTM's state holds the context. Token id 0, the unknown
    token, is never sampled. Raises ValueError if a temperature is not above 0.

    The loop does not wait for the device. `torch.multinomial` would, to check the probabilities; it also samples p / q for q from the
    exponential distribution, and takes the largest.
    """
    if not (temperatures > 0).all():
        raise ValueError(f"temperatures: {temperatures.tolist()} are not all above 0. Use 0.01 to always sample the likeliest token.")
    model.eval()
    logits, state = model(prompts)
    sampled = torch.empty(len(prompts), length, dtype=torch.int64, device=prompts.device)
    temperatures = temperatures.unsqueeze(1)
    for step in range(length):
        logits = logits[:, -1]
        logits[:, 0] = -torch.inf
        probabilities = tempered(logits, temperatures)
        sampled[:, step] = (probabilities / torch.empty_like(probabilities).exponential_(generator=generator)).argmax(1)
        if step < length - 1:
            logits, state = model(sampled[:, step : step + 1], state)
    return sampled
