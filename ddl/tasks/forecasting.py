"""Forecasts of airline passengers, one month ahead (Karshenas, section 3, figure 3; assumptions: docs/sequences.md)."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.optim import AdamW

from ddl.data import series, sources
from ddl.data.splits import Origin
from ddl.devices import Device
from ddl.learners.forecasting import ForecastFigure, ForecastLearner, draw_forecasts
from ddl.learners.optimised_module import FP32, OptimisedModule
from ddl.metrics import forecasts
from ddl.models.forecaster import Forecaster
from ddl.progress import Progress, State
from ddl.tasks.fit_task import FitTask, count_parameters
from ddl.tasks.task import STRICT, Count, Fraction, Number


@dataclass(frozen=True, config=STRICT)
class Forecasting(FitTask):
    """Trains an LSTM to forecast monthly airline passengers, one month ahead (Karshenas, section 3, figure 3)."""

    unit = "windows"
    data_sets: ClassVar[tuple[str, ...]] = ("airline",)

    model: Literal["lstm", "last_value", "last_year", "last_year_growth"]
    """The LSTM, or a naive forecast as a baseline (`metrics.forecasts.NAIVE`), which uses only `held_out`."""
    window: Count
    """Length of the input window in months."""
    form: Literal["level", "logarithm", "difference", "seasonal_difference"]
    """Form of the forecast value: itself (as in the study), its logarithm, the monthly change of the logarithm, or that change
    minus the change a year before."""
    held_out: Count
    """Number of months held out at the end of the series; each is forecast from the true months before it."""
    hidden: Count
    """Units of the LSTM."""
    dropout: Fraction
    """Dropout probability before the output layer, 0 to below 1."""
    weight_decay: Number
    """Weight decay of AdamW."""
    passes: Count
    """Number of passes over the training windows per epoch."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        item = sources.load_file("airline")
        months, values = series.read_series(item.path)
        years = [int(month[:4]) + (int(month[5:]) - 1) / 12 for month in months]
        naive = forecasts.naive_forecast(values, self.held_out, "last_year_growth").tolist()
        figure = ForecastFigure(years, values.tolist(), {"last year, times growth": naive}, self.epochs)
        if self.model != "lstm":
            yield from self._naive(values, item.origin, figure)
            return
        form = series.FORMS[self.form]
        train, val, scaler = series.split_series(values, form, self.window, self.held_out, self.passes)
        train, val = train.to(device.torch), val.to(device.torch)
        self.seed_weights()
        model = Forecaster(self.hidden, self.dropout)
        network = OptimisedModule(
            model, lambda parameters: AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True), FP32, device
        )
        learner = ForecastLearner(network, form, scaler, val, figure, device)
        metadata = {
            "data": item.origin.metadata() | {"train": len(train.targets), "val": self.held_out},
            "parameters": count_parameters([model]),
        }
        yield from self.train(learner, train, val, device, metadata, resume)

    def _naive(self, values: Tensor, origin: Origin, figure: ForecastFigure) -> Iterator[Progress]:
        """One step without training, and one evaluation."""
        metadata = {
            "data": origin.metadata() | {"train": 0, "val": self.held_out},
            "parameters": 0,
            "evaluations": 1,
            "evaluation_steps": 0,
        }
        yield Progress(step=0, total_steps=1, state=dict, metadata=metadata)
        predicted = forecasts.naive_forecast(values, self.held_out, self.model)
        sums = forecasts.error_sums(predicted, values[-self.held_out :], forecasts.preceding(values, self.held_out))
        metrics = {f"val/{name}": value for name, value in forecasts.errors(sums)}
        figures = {"forecast.svg": draw_forecasts(figure, {self.model.replace("_", " "): predicted.tolist()})}
        yield Progress(step=1, total_steps=1, state=dict, metrics=metrics, figures=figures)
