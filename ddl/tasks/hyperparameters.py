"""Hyperparameters of the user's classes and functions: the types and defaults of a task's fields."""

import copy
import functools
import inspect
import json
from dataclasses import MISSING, Field, field
from enum import Enum
from types import UnionType
from typing import Annotated, Any, ClassVar, Optional, TypeVar, Union, dataclass_transform, get_args, get_origin

from pydantic import Strict, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from ddl.tasks.task import STRICT, Number

Class = TypeVar("Class", bound=type)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def task(cls: Class) -> Class:
    """Make a task of a user's class: its annotated fields become hyperparameters, whose values are checked. A decorator.

    Raises ValueError for an annotation or a default that cannot be used.
    """
    name = cls.__qualname__
    annotations = inspect.get_annotations(cls, eval_str=True)
    for key, hint in annotations.items():
        if ClassVar in (hint, get_origin(hint)):
            continue
        annotations[key], default = checked_field(name, key, hint, vars(cls).get(key, MISSING))
        if default is not MISSING:
            setattr(cls, key, default)
    cls.__annotations__ = annotations
    return as_task(cls, name)


def as_task(cls: Class, name: str) -> Class:
    """The class as a task, whose values are checked. Raises ValueError, which begins with `name`, for an annotation that cannot be used."""
    try:
        return dataclass(cls, frozen=True, config=STRICT, kw_only=True)  # type: ignore[return-value]
    except PydanticUserError as error:
        raise ValueError(
            f"{name}: an annotation cannot be used ({_first_sentence(error)}). A hyperparameter is a number, a text, or a list of them."
        ) from error


def checked_field(owner: str, name: str, hint: Any, default: Any) -> tuple[Any, Any]:
    """(annotation, default) of a field that is annotated with `hint`. None is also valid if it is the default.

    `default` is `MISSING` if there is none. What is returned is the value that a record of it gives, copied for each task if it is a list.
    Raises ValueError, which begins with `owner`, if the default cannot be recorded, or is not valid where its record is read: in a worker,
    a resume or a reproduction.
    """
    annotation = _strict(hint)
    if default is MISSING or isinstance(default, Field | FieldInfo):
        return annotation, default
    if default is None:
        annotation = Optional[annotation]  # noqa: UP045 - `|` takes no Annotated of Python 3.11
    if not is_recordable(default):
        raise ValueError(f"{owner}: the default of {name} is {default!r}. A hyperparameter is a number, a text, None, or a list of them.")
    try:
        only = dataclass(type(owner, (), {"__annotations__": {name: annotation}}), config=STRICT)
        default = getattr(only(**{name: json.loads(json.dumps(default))}), name)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower().replace("input ", "it ")
        raise ValueError(f"{owner}: the default of {name} is {default!r}, but {reason}. Correct the annotation or the default.") from error
    except PydanticUserError as error:
        raise ValueError(f"{owner}: the annotation of {name} cannot be used ({_first_sentence(error)}). Correct or remove it.") from error
    copied = isinstance(default, list | dict)
    return annotation, field(default_factory=functools.partial(copy.deepcopy, default)) if copied else default


def is_recordable(value: Any) -> bool:
    """True if a hyperparameter's value can be recorded, as JSON, and is the same when it is read; a tuple is then a list."""
    if type(value) in (bool, int, str) or value is None:
        return True
    try:
        return json.loads(json.dumps(value)) == _listed(value)
    except (TypeError, ValueError):
        return False


def _listed(value: Any) -> Any:
    """The value with lists in place of tuples."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _strict(annotation: Any) -> Any:
    """The annotation; a number has to be one, but a list may stand for a tuple and a text for an enum, which YAML does not have."""
    if annotation is float:
        return Number
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        annotation = Union[tuple(_strict(argument) for argument in arguments)]  # noqa: UP007 - `|` joins two
    elif origin in (list, tuple, dict) and arguments:
        annotation = origin[tuple(argument if argument in (..., ()) else _strict(argument) for argument in arguments)]
    elif origin is Annotated:
        annotation = Annotated[(_strict(arguments[0]), *arguments[1:])]
    lax = tuple in (annotation, origin) or (isinstance(annotation, type) and issubclass(annotation, Enum))
    return Annotated[annotation, Strict(False)] if lax else annotation


def _first_sentence(error: PydanticUserError) -> str:
    """The problem, without pydantic's advice about its own settings."""
    return str(error).partition(". ")[0].partition("\n")[0]
