"""The recurrent network that forecasts the next value of a series."""

from torch import Tensor, nn


class Forecaster(nn.Module):
    """Maps windows [n, w] to the next value [n]: an LSTM reads one value per step, a linear layer maps its last output."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, 1)

    def forward(self, windows: Tensor) -> Tensor:
        outputs, _ = self.lstm(windows.unsqueeze(2))
        return self.head(self.dropout(outputs[:, -1])).squeeze(1)
