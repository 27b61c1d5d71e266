import math

import pytest
import torch

from ddl.data import series, sources
from ddl.metrics import forecasts


@pytest.fixture(scope="module")
def passengers() -> torch.Tensor:
    return series.read_series(sources.load_file("airline").path)[1]


@pytest.mark.parametrize(("name", "rmse"), [("last_value", 48.0), ("last_year", 41.9), ("last_year_growth", 15.6)])
def test_what_forecasts_that_cost_nothing_reach_on_the_last_four_years(passengers, name, rmse):
    found = forecasts.naive_forecast(passengers, 48, name)
    errors = dict(forecasts.errors(forecasts.error_sums(found, passengers[-48:], forecasts.preceding(passengers, 48))))
    assert round(errors["rmse_passengers"], 1) == rmse


def test_an_unknown_one_is_refused(passengers):
    with pytest.raises(ValueError, match=r"'best': unknown\. Use one of: last_value"):
        forecasts.naive_forecast(passengers, 48, "best")


def test_too_few_values_before_the_first_forecast_are_named(passengers):
    assert len(forecasts.naive_forecast(passengers, 131, "last_year_growth")) == 131
    with pytest.raises(ValueError, match=r"held_out: 132 of 144 months leave too few for a naive forecast\. Hold out at most 131\."):
        forecasts.naive_forecast(passengers, 132, "last_year")


def test_errors_by_hand_and_in_parts():
    actual = torch.tensor([3.0, 2.0, 4.0, 5.0])
    before = torch.tensor([[1.0, 2.0], [2.0, 3.0], [3.0, 2.0], [2.0, 4.0]])
    found = torch.tensor([4.0, 2.0, 1.0, 5.0])  # turns: the second, foreseen, and the third, not
    whole = forecasts.error_sums(found, actual, before)
    errors = dict(forecasts.errors(whole))
    assert errors == pytest.approx(
        {
            "rmse_passengers": math.sqrt((1 + 9) / 4),
            "mae_passengers": 4 / 4,
            "rmse_to_last_month_passengers": math.sqrt((4 + 1 + 1 + 1) / 4),
            "turns_foreseen": 0.5,
        }
    )
    parts = forecasts.error_sums(found[:1], actual[:1], before[:1]) + forecasts.error_sums(found[1:], actual[1:], before[1:])
    torch.testing.assert_close(parts, whole)


def test_the_last_value_foresees_no_turn_and_echoes(passengers):
    found = forecasts.naive_forecast(passengers, 48, "last_value")
    errors = dict(forecasts.errors(forecasts.error_sums(found, passengers[-48:], forecasts.preceding(passengers, 48))))
    assert errors["turns_foreseen"] == errors["rmse_to_last_month_passengers"] == 0.0
