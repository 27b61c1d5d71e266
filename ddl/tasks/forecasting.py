"""Forecasts of airline passengers, one month ahead (Karshenas, section 3, figure 3; assumptions: docs/sequences.md)."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch.optim import AdamW

from ddl.data import series, sources
from ddl.data.series import Scaler, Windows
from ddl.data.splits import Origin
from ddl.devices import Device
from ddl.learners.forecasting import ForecastFigure, ForecastLearner, draw_forecasts
from ddl.learners.optimised_module import FP32, OptimisedModule
from ddl.metrics import forecasts
from ddl.models.forecaster import Forecaster
from ddl.progress import Progress, State
from ddl.tasks.fit_task import FitTask, Fitting, count_parameters
from ddl.tasks.task import STRICT, Count, Fraction, Number, Width


@dataclass(frozen=True, config=STRICT)
class Forecasting(FitTask):
    """Trains an LSTM to forecast monthly airline passengers, one month ahead (Karshenas, section 3, figure 3)."""

    unit = "windows"
    data_sets: ClassVar[tuple[str, ...]] = ("airline",)
    stackable: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "dropout")

    model: Literal["lstm", "last_value", "last_year", "last_year_growth"]
    """The LSTM, or a naive forecast as a baseline (`metrics.forecasts.NAIVE`), which uses only `held_out`."""
    window: Count
    """Length of the input window in months."""
    form: Literal["level", "logarithm", "difference", "seasonal_difference"]
    """Form of the forecast value: itself (as in the study), its logarithm, the monthly change of the logarithm, or that change
    minus the change a year before."""
    held_out: Count
    """Number of months held out at the end of the series; each is forecast from the true months before it."""
    hidden: Width
    """Units of the LSTM."""
    dropout: Fraction
    """Dropout probability before the output layer, 0 to below 1."""
    weight_decay: Number
    """Weight decay of AdamW."""
    passes: Count
    """Number of passes over the training windows per epoch."""

    def can_stack(self) -> bool:
        return self.model == "lstm"

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        if self.model == "lstm":
            yield from super().run(device, resume)
        else:
            yield from self._naive()

    def load_data(self, device: Device) -> tuple[Windows, Windows, Scaler, Origin]:
        item = sources.load_file("airline")
        _, values = series.read_series(item.path)
        train, val, scaler = series.split_series(values, series.FORMS[self.form], self.window, self.held_out, self.passes)
        return train.to(device.torch), val.to(device.torch), scaler, item.origin

    def build(self, data: tuple[Windows, Windows, Scaler, Origin], device: Device) -> Fitting:
        train, val, scaler, origin = data
        model = Forecaster(self.hidden, self.dropout)
        network = OptimisedModule(
            model, lambda parameters: AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True), FP32, device
        )
        learner = ForecastLearner(network, series.FORMS[self.form], scaler, val, self._figure(), device)
        metadata = {
            "data": origin.metadata() | {"train": len(train.targets), "val": self.held_out},
            "parameters": count_parameters([model]),
        }
        return Fitting(learner, train, val, metadata)

    def _figure(self) -> ForecastFigure:
        months, values = series.read_series(sources.load_file("airline").path)
        years = [int(month[:4]) + (int(month[5:]) - 1) / 12 for month in months]
        naive = forecasts.naive_forecast(values, self.held_out, "last_year_growth").tolist()
        return ForecastFigure(years, values.tolist(), {"last year, times growth": naive}, self.epochs)

    def _naive(self) -> Iterator[Progress]:
        """One step without training, and one evaluation."""
        item = sources.load_file("airline")
        _, values = series.read_series(item.path)
        metadata = {
            "data": item.origin.metadata() | {"train": 0, "val": self.held_out},
            "parameters": 0,
            "evaluations": 1,
            "evaluation_steps": 0,
        }
        yield Progress(step=0, total_steps=1, state=dict, metadata=metadata)
        predicted = forecasts.naive_forecast(values, self.held_out, self.model)
        sums = forecasts.error_sums(predicted, values[-self.held_out :], forecasts.preceding(values, self.held_out))
        metrics = {f"val/{name}": value for name, value in forecasts.errors(sums)}
        figures = {"forecast.svg": draw_forecasts(self._figure(), {self.model.replace("_", " "): predicted.tolist()})}
        yield Progress(step=1, total_steps=1, state=dict, metrics=metrics, figures=figures)
