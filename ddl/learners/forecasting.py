"""Training of a forecaster of one value ahead, evaluated in the series' own unit."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl import figures
from ddl.data.series import Scaler, SeriesForm, Windows
from ddl.devices import Device
from ddl.learners.learner import Batch, StackableLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics import forecasts


@dataclass(frozen=True)
class ForecastFigure:
    """The whole series, its time axis, other forecasts by name, and the epoch after which the figure is rendered."""

    years: Sequence[float]
    values: Sequence[float]
    baselines: Mapping[str, Sequence[float]]
    epochs: int


class ForecastLearner(StackableLearner):
    """A `Forecaster` trained on the mean squared error of the scaled targets of `Windows`.

    Metrics: `loss` (that error) and those of `metrics.forecasts.errors`.
    """

    def __init__(
        self, network: OptimisedModule, form: SeriesForm, scaler: Scaler, windows: Windows, figure: ForecastFigure, device: Device
    ):
        """`windows` are the held-out ones of the figure."""
        super().__init__(network)
        self._form, self._scaler, self._device = form, scaler, device
        self._windows, self._figure = windows, figure

    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        inputs, targets, *_ = batch
        return {"loss": F.mse_loss(network(inputs), targets)}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        model = self._network.trained()
        totals = torch.zeros(7, dtype=torch.float64, device=self._device.torch)
        for inputs, targets, known, actual, before in batches:
            scaled = model(inputs)
            squares = (scaled - targets).double().square().sum()
            totals += torch.cat([forecasts.error_sums(self._restored(scaled, known), actual, before), squares.view(1)])
        *sums, squares = self._device.sum(totals)
        yield "loss", (squares / sums[-1]).item()
        yield from forecasts.errors(torch.stack(sums))

    def _restored(self, scaled: Tensor, known: Tensor) -> Tensor:
        return self._form.restored(known + self._scaler.restore(scaled))

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """Yield the figure of the held-out forecasts over the series, after the last epoch only."""
        if epoch < self._figure.epochs:
            return
        values = self._restored(self._network.trained()(self._windows.inputs), self._windows.known).tolist()
        yield "forecast.svg", draw_forecasts(self._figure, {"LSTM": values})

    def predictor(self) -> nn.Module:
        return self._network.trained()


def draw_forecasts(figure: ForecastFigure, forecasts_by_name: Mapping[str, Sequence[float]]) -> bytes:
    """An SVG of the series, with forecasts of its last values."""
    series = {"passengers": list(figure.values)}
    for name, values in {**forecasts_by_name, **figure.baselines}.items():
        series[name] = [float("nan")] * (len(figure.values) - len(values)) + list(values)
    return figures.line_chart(figure.years, series, "year", "passengers a month, thousands")
