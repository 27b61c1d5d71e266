"""The recurrent network that forecasts a number from those before it."""

from torch import Tensor, nn


class Forecaster(nn.Module):
    """Windows [n, w] to the next number [n]: an LSTM over the window, one number a step, and a linear layer on its last output."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, 1)

    def forward(self, windows: Tensor) -> Tensor:
        outputs, _ = self.lstm(windows.unsqueeze(2))
        return self.head(self.dropout(outputs[:, -1])).squeeze(1)
