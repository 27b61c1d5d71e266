"""The direction of a metric whose user does not say it."""

import pytest

from ddl.metric_direction import likely_mode


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("val/loss", "min"),
        ("val/fid", "min"),
        ("kl", "min"),
        ("val/kl_divergence", "min"),
        ("val/rmse_passengers", "min"),
        ("bits_per_character", "min"),
        ("val/accuracy", "max"),
        ("val/confid", "max"),
        ("val/episode_return", "max"),
    ],
)
def test_losses_and_distances_are_minimised(metric: str, mode: str) -> None:
    assert likely_mode(metric) == mode
