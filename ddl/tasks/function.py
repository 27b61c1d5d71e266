"""Tasks that are made of a user's function: its keyword arguments are the hyperparameters, what it yields are the measurements."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from pydantic.dataclasses import dataclass

from ddl.progress import Progress, State, as_numbers
from ddl.tasks.hyperparameters import as_task, checked_field
from ddl.tasks.task import STRICT, Task

if TYPE_CHECKING:
    from ddl.devices import Device

OFFERED = ("seed", "device", "resume")
"""Arguments that a function gets if it has them: the trial's seed, its `torch.device`, and the state to continue from or None."""

Scalar = bool | int | float | str | None
"""Type of a hyperparameter whose parameter has no annotation."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FunctionTask(Task):
    """Base class of the tasks that `function_task` makes."""

    _function: ClassVar[Callable[..., Any]]
    """Trains a model, and yields or returns its measurements."""

    _measurements: ClassVar[int]
    """Number of measurements that the function yields in one trial; 0 if unknown."""

    timed: ClassVar[bool] = False
    strategies: ClassVar = ()

    @classmethod
    def can_resume(cls) -> bool:
        """True if the function has an argument for the state to continue from."""
        return "resume" in inspect.signature(cls._function).parameters

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        cls = type(self)
        resume = resume if cls.can_resume() else None  # it starts again, and so does the number of its measurements
        taken = inspect.signature(cls._function).parameters
        offered = {"seed": self.seed, "device": device.torch, "resume": resume and resume["state"]}
        arguments = {name: value for name, value in offered.items() if name in taken} | self._hyperparameters()
        result = cls._function(**arguments)
        measurements = [result] if isinstance(result, Mapping | Progress) else result
        if not isinstance(measurements, Iterable) or isinstance(measurements, str):
            raise TypeError(
                f"{cls.__name__} returned {type(result).__name__}. A function yields dictionaries of measurements, such as "
                '{"val/accuracy": 0.9}, or returns one.'
            )
        first = (resume["step"] if resume else 0) + 1
        for number, measurement in zip(itertools.count(first), _with_returned(measurements), strict=False):
            yield self._progress(measurement, number)

    def _hyperparameters(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "seed"}

    def _progress(self, measurement: Any, number: int) -> Progress:
        """`Progress` of what the function yielded as its measurement of this number, counted from 1."""
        given = measurement if isinstance(measurement, Progress) else Progress(metrics=measurement)
        metrics = as_numbers(given.metrics, type(self).__name__)
        if given.state is not None and not callable(given.state):
            raise TypeError(f"{type(self).__name__} yielded a state that is no function. Write ddl.Progress(..., state=lambda: {{...}}).")
        step = given.step or number
        loss = given.loss
        if loss is None and metrics:  # what `--reproduce` compares
            import torch

            loss = torch.tensor(next(iter(metrics.values())), dtype=torch.float64)
        take_state = given.state if self.can_resume() else None
        state = take_state and (lambda: {"step": number, "state": take_state()})
        return replace(given, step=step, total_steps=given.total_steps or self._measurements, metrics=metrics, loss=loss, state=state)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made again where it is read: pickle finds a function by its module, but not a class made of it.
        cls = type(self)
        return _rebuild, (cls._function, cls.__module__, cls._measurements, self._hyperparameters() | {"seed": self.seed})


def _with_returned(measurements: Any) -> Iterator[Any]:
    """The measurements, and the one that a generator returns at its end."""
    returned = yield from measurements
    if isinstance(returned, Mapping | Progress):
        yield returned


def _rebuild(function: Callable[..., Any], module: str, measurements: int, values: Mapping[str, Any]) -> FunctionTask:
    return function_task(function, module, measurements)(**values)


@functools.cache
def function_task(function: Callable[..., Any], module: str, measurements: int = 0) -> type[FunctionTask]:
    """Make a task of a `function` of the user's.

    Its parameters, without those that are `OFFERED`, are the hyperparameters. Their types are those of the annotations, and a parameter
    without a default must be given a value by the sweep. `module` is the name that the function's module is imported by, `measurements`
    their number in one trial, 0 if unknown. Raises ValueError for a function that cannot be called by keyword, and for an annotation or a
    default that cannot be used.
    """
    name = function.__qualname__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(f"{name}: is an async function. Write a plain one, which may call asyncio.run.")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise ValueError(f"{name}: an annotation cannot be evaluated ({error}). Correct or remove it.") from error
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(f"{name}: {parameter} has no name that a sweep could give. Name each hyperparameter.")
        if parameter.name in OFFERED:
            continue
        if hasattr(FunctionTask, parameter.name):
            raise ValueError(f"{name}: a hyperparameter cannot be called {parameter.name}. Rename it.")
        default = MISSING if parameter.default is parameter.empty else parameter.default
        annotations[parameter.name], default = checked_field(name, parameter.name, _hint(parameter, hints), default)
        if default is not MISSING:
            defaults[parameter.name] = default
    members = {
        "__annotations__": annotations,
        "__module__": module,
        "__qualname__": name,
        "__doc__": inspect.getdoc(function) or f"The task of the function {name}.",
        "changeable": tuple(annotations),
        "_function": staticmethod(function),
        "_measurements": measurements,
    }
    return as_task(type(name.rpartition(".")[2], (FunctionTask,), defaults | members), name)


def _hint(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    """The type of a hyperparameter: the annotation, or else that of the default."""
    unannotated = type(parameter.default) if isinstance(parameter.default, list | tuple | dict) else Scalar
    return hints.get(parameter.name, unannotated)
