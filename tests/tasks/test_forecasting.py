"""Tests that every hyperparameter of the forecasting task has its effect, and that all settings are evaluated on the same months."""

import dataclasses

import pytest
import torch

from ddl.tasks.forecasting import Forecasting

from .steps import CPU, make_task, without_times

TINY = {"seed": 3, "window": 4, "hidden": 4, "passes": 3, "dropout": 0.1, "weight_decay": 0.1}
CHANGES = {
    "seed": 4,
    "model": "last_year",
    "window": 5,
    "form": "difference",
    "held_out": 36,
    "hidden": 5,
    "dropout": 0.3,
    "lr": 0.05,
    "weight_decay": 0.5,
    "passes": 4,
    "batch_size": 16,
    "epochs": 2,
    "holdout": 0.2,
}


def task(**changed) -> Forecasting:
    return make_task("forecasting", **TINY | changed)


def last(**changed):
    *_, progress = task(**changed).run(CPU)
    return progress


def metrics(**changed) -> dict[str, float]:
    return without_times(last(**changed).metrics)


@pytest.fixture(scope="module")
def unchanged() -> dict[str, float]:
    torch.set_num_threads(1)
    return metrics()


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Forecasting) if item.name != "selected_by"])
def test_every_hyperparameter_makes_a_difference(name, unchanged):
    assert metrics(**{name: CHANGES[name]}) != unchanged


def test_all_windows_are_judged_by_the_same_months():
    for window in (1, 24):
        first = next(task(window=window, form="seasonal_difference").run(CPU))
        assert first.metadata["data"]["val"] == 48
        assert first.metadata["data"]["train"] == 96 - 13 - window


def test_a_forecast_that_costs_nothing_trains_nothing():
    first, only = task(model="last_year_growth").run(CPU)
    assert first.metadata["parameters"] == 0
    assert round(only.metrics["val/rmse_passengers"], 1) == 15.6


def test_a_network_that_expects_no_change_forecasts_last_year_times_growth():
    """With the change always forecast as its mean in training, the error is near that of the naive forecast."""
    found = metrics(form="seasonal_difference", passes=40, weight_decay=100.0, lr=0.01)
    assert found["val/rmse_passengers"] == pytest.approx(15.6, abs=0.5)


def test_the_number_itself_is_learnt():
    """Better than forecasting the training part's mean, which is off by 220."""
    assert metrics(window=12, passes=100, hidden=8, lr=0.02)["val/rmse_passengers"] < 120


def test_the_last_epoch_alone_is_drawn():
    drawn = [one for one in task(epochs=2).run(CPU) if one.metrics]
    assert [set(one.figures) for one in drawn] == [set(), {"forecast.svg"}]
    picture = drawn[1].figures["forecast.svg"].decode()
    for name in ("LSTM", "passengers", "last year, times growth"):
        assert name in picture


def test_a_window_longer_than_the_series_is_refused():
    with pytest.raises(ValueError, match=r"task\.window: 200 is too long: the series has 144 numbers"):
        next(task(window=200).run(CPU))
