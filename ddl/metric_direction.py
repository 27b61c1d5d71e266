"""The likely direction of a metric, by its name."""

import re

SMALLER_IS_BETTER = re.compile(r"(loss|error|mae|mse|rmse|perplexity|nll|bits|(?<![a-z])(fid|kl)|divergence)(_|$)")
"""Quantities, the end of a metric's name, of which smaller values are better if the user does not say."""


def likely_mode(metric: str) -> str:
    """`min` if smaller values of the metric are usually better, else `max`."""
    return "min" if SMALLER_IS_BETTER.search(metric.rpartition("/")[2]) else "max"
