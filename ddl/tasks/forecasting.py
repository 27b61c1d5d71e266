"""Forecasts of airline passengers, one month ahead (Karshenas, section 3, figure 3; assumptions: docs/sequences.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass

from ddl.precision import FP32
from ddl.progress import Progress, State
from ddl.tasks.fit_task import FitTask, Fitting, count_parameters, split_lengths
from ddl.tasks.task import STRICT, Count, Fraction, Number, Width

if TYPE_CHECKING:
    from torch import Tensor

    from ddl.data.series import Scaler, Windows
    from ddl.data.splits import Origin
    from ddl.devices import Device
    from ddl.learners.forecasting import ForecastFigure


@plain_dataclass(frozen=True, eq=False)
class _WindowedSeries:
    """The windows, on the device, and the scaler of their values."""

    origin: Origin
    scaler: Scaler
    train: Windows
    val: Windows
    test: Windows | None


@dataclass(frozen=True, config=STRICT)
class Forecasting(FitTask):
    """Trains an LSTM to forecast monthly airline passengers, one month ahead (Karshenas, section 3, figure 3)."""

    unit = "windows"
    holds_out: ClassVar[bool] = True
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
    weight_decay: Annotated[Number, Ge(0)]
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

    def load_data(self, device: Device) -> _WindowedSeries:
        from ddl.data import series, sources

        item = sources.load_file("airline")
        _, values = series.read_series(item.path)
        months = self._validation_months(values)
        last = months + self.held_out if self.holdout else months
        train, rest, scaler = series.split_series(values, series.FORMS[self.form], self.window, last, self.passes)
        val, test = rest.part(slice(months), 1), rest.part(slice(months, None), 1)
        train, val, test = (windows.to(device.torch) for windows in (train, val, test))
        return _WindowedSeries(item.origin, scaler, train, val, test if self.holdout else None)

    def _validation_months(self, values: Tensor) -> int:
        """Number of months for validation: the last `held_out` ones, or with `holdout` the last ones before them."""
        return max(1, round(self.holdout * (len(values) - self.held_out))) if self.holdout else self.held_out

    def build(self, data: _WindowedSeries, device: Device) -> Fitting:
        from torch.optim import AdamW

        from ddl.data import series
        from ddl.learners.forecasting import ForecastLearner
        from ddl.learners.optimised_module import OptimisedModule
        from ddl.models.forecaster import Forecaster

        model = Forecaster(self.hidden, self.dropout)
        network = OptimisedModule(
            model, lambda parameters: AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True), FP32, device
        )
        learner = ForecastLearner(network, series.FORMS[self.form], data.scaler, data.val, self._figure(), device)
        metadata = {
            "data": data.origin.metadata() | split_lengths(data.train, data.val, data.test) | {"train": len(data.train.targets)},
            "parameters": count_parameters([model]),
        }
        return Fitting(learner, data.train, data.val, metadata, data.test)

    def _figure(self) -> ForecastFigure:
        from ddl.data import series, sources
        from ddl.learners.forecasting import ForecastFigure
        from ddl.metrics import forecasts

        months, values = series.read_series(sources.load_file("airline").path)
        held_out = self._validation_months(values)
        if self.holdout:  # the test months are not shown
            months, values = months[: -self.held_out], values[: -self.held_out]
        years = [int(month[:4]) + (int(month[5:]) - 1) / 12 for month in months]
        naive = forecasts.naive_forecast(values, held_out, "last_year_growth").tolist()
        return ForecastFigure(years, values.tolist(), {"last year, times growth": naive}, self.epochs)

    def _naive(self) -> Iterator[Progress]:
        """One step without training, and one evaluation."""
        from ddl.data import series, sources
        from ddl.learners.forecasting import draw_forecasts
        from ddl.metrics import forecasts

        item = sources.load_file("airline")
        _, values = series.read_series(item.path)
        months = self._validation_months(values)
        parts = {"val": (values[: -self.held_out], months), "test": (values, self.held_out)} if self.holdout else {"val": (values, months)}
        metadata = {
            "data": item.origin.metadata() | {"train": 0} | {name: held_out for name, (_, held_out) in parts.items()},
            "parameters": 0,
            "evaluations": 1,
            "evaluation_steps": 0,
        }
        yield Progress(step=0, total_steps=1, state=dict, metadata=metadata)
        metrics: dict[str, float] = {}
        for split, (known, held_out) in parts.items():
            predicted = forecasts.naive_forecast(known, held_out, self.model)
            sums = forecasts.error_sums(predicted, known[-held_out:], forecasts.preceding(known, held_out))
            metrics |= {f"{split}/{name}": value for name, value in forecasts.errors(sums)}
        predicted = forecasts.naive_forecast(parts["val"][0], months, self.model)
        figures = {"forecast.svg": draw_forecasts(self._figure(), {self.model.replace("_", " "): predicted.tolist()})}
        yield Progress(step=1, total_steps=1, state=dict, metrics=metrics, figures=figures)
