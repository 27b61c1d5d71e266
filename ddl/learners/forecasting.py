"""One number from the window before it, judged in the series' own unit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl import figures
from ddl.data.series import Scaler, SeriesForm, Windows
from ddl.devices import Device
from ddl.learners.learner import Batch, Learner
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics import forecasts
from ddl.progress import State


@dataclass(frozen=True)
class ForecastFigure:
    """The whole series to draw forecasts over: a time for each number, other forecasts by name, and the number of epochs after
    which it is drawn."""

    years: Sequence[float]
    values: Sequence[float]
    beside: Mapping[str, Sequence[float]]
    epochs: int


class ForecastLearner(Learner):
    """Mean squared error on `Windows`' scaled targets. Metrics: `loss` (that error) and those of `metrics.forecasts.errors`."""

    def __init__(
        self,
        network: OptimisedModule,
        form: SeriesForm,
        scaler: Scaler,
        windows: Windows,
        picture: ForecastFigure,
        device: Device,
    ):
        self._network, self._device = network, device
        self._form, self._scaler = form, scaler
        self._windows, self._picture = windows, picture

    def step(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets, *_ = batch
        self._network.train()
        loss = F.mse_loss(self._network(inputs), targets)
        self._network.minimise(loss)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        model = self._network.trained()
        totals = torch.zeros(7, dtype=torch.float64, device=self._device.torch)
        for inputs, targets, known, actual, before in batches:
            scaled = model(inputs)
            squares = (scaled - targets).double().square().sum()
            totals += torch.cat([forecasts.error_sums(self._restored(scaled, known), actual, before), squares.view(1)])
        *tally, squares = self._device.sum(totals)
        yield "loss", (squares / tally[-1]).item()
        yield from forecasts.errors(torch.stack(tally))

    def _restored(self, scaled: Tensor, known: Tensor) -> Tensor:
        return self._form.restored(known + self._scaler.restore(scaled))

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """After the last epoch: the forecasts of what was held out, over the series."""
        if epoch < self._picture.epochs:
            return
        found = self._restored(self._network.trained()(self._windows.inputs), self._windows.known).tolist()
        yield "forecast.svg", draw_forecasts(self._picture, {"LSTM": found})

    def predictor(self) -> nn.Module:
        return self._network.trained()

    def state_dict(self) -> State:
        return self._network.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._network.load_state_dict(state)


def draw_forecasts(picture: ForecastFigure, found: Mapping[str, Sequence[float]]) -> bytes:
    """An SVG of the series with forecasts of its end over it."""
    series = {"passengers": list(picture.values)}
    for name, values in {**found, **picture.beside}.items():
        series[name] = [float("nan")] * (len(picture.values) - len(values)) + list(values)
    return figures.line_chart(picture.years, series, "year", "passengers a month, thousands")
