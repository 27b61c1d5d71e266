"""A recurrent language model, and how texts are drawn from it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


class LanguageModel(nn.Module):
    """Token numbers [n, t] to scores of the next token [n, t, vocabulary], and the LSTM's state to go on from.

    The LSTM's outputs are projected to the embeddings' width and scored by the embeddings themselves (Press and Wolf, Using the Output
    Embedding to Improve Language Models, 2017): for a vocabulary of words that is most of the work and of the parameters.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.projection = nn.Linear(hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self.lstm(self.dropout(self.embedding(tokens)), state)
        return F.linear(self.dropout(self.projection(outputs)), self.embedding.weight, self.bias), state


def tempered(log_probabilities: Tensor, temperature: Tensor | float) -> Tensor:
    """Probabilities [..., v] at a temperature: exp(log p / T), made to sum to 1 (Karshenas, equation 1).

    A temperature for each row is [..., 1]. Raises ValueError where one is not above 0.
    """
    if not torch.as_tensor(temperature > 0).all():
        raise ValueError(f"temperature: {temperature} is not above 0. Near 0 the likeliest is always taken; give 0.01 for that.")
    return torch.softmax(log_probabilities / temperature, dim=-1)


@torch.no_grad()
def generate(model: LanguageModel, prompts: Tensor, length: int, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """`length` further tokens for each of `prompts` [n, p], each row at its own of `temperatures` [n]: int64 [n, length].

    All rows are drawn at once, and a step reads one token: the state stands for what came before. Number 0, the unknown token,
    is never drawn.
    """
    model.eval()
    scores, state = model(prompts)
    drawn = torch.empty(len(prompts), length, dtype=torch.int64, device=prompts.device)
    temperatures = temperatures.unsqueeze(1)
    for step in range(length):
        scores = scores[:, -1]
        scores[:, 0] = -torch.inf
        drawn[:, step] = torch.multinomial(tempered(scores, temperatures), 1, generator=generator).squeeze(1)
        if step < length - 1:
            scores, state = model(drawn[:, step : step + 1], state)
    return drawn
