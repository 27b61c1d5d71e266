"""Forecasting airline passengers, one month ahead (Karshenas, section 3, figure 3; docs/sequences.md says what is assumed)."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ddl.data import series, sources
from ddl.data.files import airline
from ddl.devices import Device, derive_seed
from ddl.learners.forecasting import ForecastFigure, ForecastLearner, draw_forecasts
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics import forecasts
from ddl.models.forecaster import Forecaster
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.fit_task import FitTask
from ddl.tasks.task import STRICT, Count, Fraction, Number


@dataclass(frozen=True, config=STRICT)
class Forecasting(FitTask):
    unit = "windows"
    data_sets: ClassVar[tuple[str, ...]] = ("airline",)

    model: Literal["lstm", "last_value", "last_year", "last_year_growth"]
    """The network, or a forecast that costs nothing to hold it against (`metrics.forecasts.NAIVE`); those ignore what follows."""
    window: Count
    """Months that the network sees."""
    form: Literal["level", "logarithm", "difference", "seasonal_difference"]
    """What is forecast: the number (the study's form), its logarithm, that one's change, or how this differs from last year's."""
    held_out: Count
    """The last so many months are not trained on: the forecasts are of these, each from the true months before it."""
    hidden: Count
    dropout: Fraction
    weight_decay: Number
    passes: Count
    """Passes over the training windows in an epoch; an evaluation follows each epoch."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        found = sources.load_files("airline")
        months, values = series.read_series(found.folder / airline.FILE)
        years = [int(month[:4]) + (int(month[5:]) - 1) / 12 for month in months]
        best = forecasts.naive_forecast(values, self.held_out, "last_year_growth").tolist()
        picture = ForecastFigure(years, values.tolist(), {"last year, times growth": best}, self.epochs)
        data = found.origin.metadata() | {"val": self.held_out}
        if self.model != "lstm":
            yield from self._naive(values, data, picture)
            return
        form = series.FORMS[self.form]
        train, val, scaler = series.split_series(values, form, self.window, self.held_out, self.passes)
        train, val = train.to(device.torch), val.to(device.torch)
        torch.manual_seed(derive_seed(self.seed, "weights", 0))
        model = Forecaster(self.hidden, self.dropout)
        network = OptimisedModule(model, self._optimiser, Precision.parse("fp32"), device)
        learner = ForecastLearner(network, form, scaler, val, picture, device)
        metadata = {
            "data": data | {"train": len(train.targets)},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        yield from self.train(learner, train, val, device, metadata, resume)

    def _naive(self, values: Tensor, data: dict[str, Any], picture: ForecastFigure) -> Iterator[Progress]:
        """Nothing is trained: one step, one evaluation."""
        metadata = {"data": data | {"train": 0}, "parameters": 0, "evaluations": 1, "evaluation_steps": 0}
        yield Progress(step=0, total_steps=1, state=dict, metadata=metadata)
        found = forecasts.naive_forecast(values, self.held_out, self.model)
        tally = forecasts.error_sums(found, values[-self.held_out :], forecasts.preceding(values, self.held_out))
        metrics = {f"val/{name}": value for name, value in forecasts.errors(tally)}
        figures = {"forecast.svg": draw_forecasts(picture, {self.model.replace("_", " "): found.tolist()})}
        yield Progress(step=1, total_steps=1, state=dict, metrics=metrics, figures=figures)

    def _optimiser(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        return AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
