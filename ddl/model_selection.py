"""Selection of a trial's best epoch on its validation data, for the one evaluation on its test data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ddl.progress import State

if TYPE_CHECKING:
    from ddl.devices import Device
    from ddl.learners.learner import Learner

_SELECTED_BY = re.compile(r"(max|min) (val/\S+)")


def parse_selection(text: str) -> tuple[str, str]:
    """(direction, metric) of a text such as `max val/accuracy`; ("", "") for an empty one. Raises ValueError for another text."""
    if not text:
        return "", ""
    match = _SELECTED_BY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} names no validation metric. Write its direction and name, as in max val/accuracy.")
    return match[1], match[2]


class BestEpoch:
    """The weights of a learner after its best epoch so far, by a validation metric; without a metric, those after its last epoch.

    It has one copy of the weights, on the device. Of epochs that are equally good, the first one counts.
    """

    def __init__(self, selected_by: str, resume: State | None = None):
        """`selected_by` as in `parse_selection`. `resume` is what `state` returned."""
        self._mode, self._metric = parse_selection(selected_by)
        self._value: float | None = resume["value"] if resume else None
        self._weights: State | None = resume["weights"] if resume else None

    def take(self, learner: Learner, metrics: Mapping[str, float]) -> None:
        """Copy the learner's weights if this epoch, with these metrics, is the best one. Raises ValueError if the metric is missing."""
        if not self._metric:
            return
        if self._metric not in metrics:
            raise ValueError(f"task.selected_by: {self._metric} is not measured. Name one of {', '.join(sorted(metrics))}.")
        value = metrics[self._metric]
        if not math.isfinite(value):
            return
        if self._value is None or (value > self._value if self._mode == "max" else value < self._value):
            self._value, self._weights = value, _copied(learner.weights())

    def restore(self, learner: Learner) -> None:
        """Give the learner the weights of its best epoch."""
        if self._weights is not None:
            learner.load_weights(self._weights)

    def state(self, device: Device) -> State:
        """The value and the unsharded weights of the best epoch. Collective, as `Device.gather`."""
        return {"value": self._value, "weights": self._weights and device.gather(self._weights)}


def _copied(state: Any) -> Any:
    """A nested state with copies of its tensors."""
    from torch import Tensor

    match state:
        case Tensor():
            return state.detach().clone()
        case dict():
            return {key: _copied(value) for key, value in state.items()}
        case list() | tuple():
            return [_copied(value) for value in state]
    return state
