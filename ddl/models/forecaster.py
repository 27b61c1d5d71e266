"""The recurrent network that forecasts the next value of a series."""

from torch import Tensor, nn

from ddl.models.dropout import Dropout
from ddl.models.recurrent import LSTM


class Forecaster(nn.Module):
    """Maps windows [n, w] to the next value [n]: an LSTM reads one value per step, a linear layer maps its last output."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.lstm = LSTM(1, hidden)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(hidden, 1)

    def forward(self, windows: Tensor) -> Tensor:
        return self.head(self.dropout(self.lstm.outputs(windows.unsqueeze(2), last=True))).squeeze(1)
