import pytest

from ddl.reports.statistics import Estimate
from ddl.reports.wording import duration, interval, number, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.79481, "0.7948"), (-0.5, "~0.5000"), (0.0, "0.0000"), (1.2e-5, "1.20e~05"), (41.53, "41.5"), (9621.4, "9,621"),
        (None, "\N{EN DASH}"), (float("nan"), "NaN"), (float("-inf"), "~∞"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text.replace("~", "\N{MINUS SIGN}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (48, "48 s"), (59.7, "1 min"), (570, "9 min 30 s"), (3600, "1 h"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes_and_intervals():
    assert [size(512), size(1.5e8), size(2e15)] == ["512 B", "150.0 MB", "2000.0 TB"]
    assert interval(Estimate(3, 0.5, 0.4, 0.6)) == "[0.4000, 0.6000]"
    assert interval(Estimate(1, 0.5)) == ""
