"""Hyperparameters of the user's tasks: the values that YAML and records can give, and mistakes in defaults and annotations."""

import json
from dataclasses import asdict
from enum import Enum, StrEnum
from typing import Annotated, ClassVar

import pytest
from annotated_types import MinLen
from pydantic import ValidationError

import ddl
from ddl.config import ConfigError


class Optimiser(StrEnum):
    ADAM = "adam"
    SGD = "sgd"


@ddl.task
class Example(ddl.Task):
    """A task with a field of each kind."""

    unit: ClassVar[str] = "rows"
    lr: float = 1
    hidden: list[int] = [64, 64]  # noqa: RUF012 - each task gets a copy
    betas: tuple[float, float] = (0.9, 0.999)
    widths: Annotated[tuple[int, ...], MinLen(1)] = (8,)
    optimiser: Optimiser = "adam"
    clip: float = None

    def run(self, device, resume=None):
        yield ddl.Progress(step=1, total_steps=1, metrics={"val/loss": self.lr})


def test_values_of_yaml_become_those_of_the_annotations():
    task = Example(seed=0, betas=[0.5, 0.9], widths=[1, 2], optimiser="sgd")
    assert (task.betas, task.widths, task.optimiser) == ((0.5, 0.9), (1, 2), Optimiser.SGD)
    for wrong in ({"betas": [0.5]}, {"widths": []}, {"lr": "0.1"}, {"optimiser": "adma"}):
        with pytest.raises(ValidationError):
            Example(seed=0, **wrong)


def test_a_task_of_a_record_equals_that_of_the_defaults():
    task = Example(seed=3)
    assert Example(**json.loads(json.dumps(asdict(task)))) == task
    assert (task.clip, task.optimiser) == (None, Optimiser.ADAM)
    assert isinstance(task.optimiser, Optimiser)


def test_tasks_share_no_list():
    Example(seed=0).hidden.append(1)
    assert Example(seed=0).hidden == [64, 64]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("width: int = 64.5", "the default of width is 64.5, but it should be a valid integer. Correct the annotation or the default."),
        ("clip: float = float('inf')", "the default of clip is inf, but it should be a finite number."),
        ("kind: type = object", "the default of kind is <class 'object'>. A hyperparameter is a number, a text, None, or a list"),
        ("kind: torch.dtype = None", "the annotation of kind cannot be used (Unable to generate pydantic-core schema for"),
        ("kind: torch.dtype", "an annotation cannot be used (Unable to generate pydantic-core schema for"),
        ("lr: 'learning rate'", "SyntaxError"),
    ],
)
def test_a_default_or_annotation_that_cannot_be_used_is_named_with_its_line(tmp_path, monkeypatch, field, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong_task.py").write_text(f"import torch, ddl\n\n@ddl.task\nclass Mine(ddl.Task):\n    {field}\n    def run(self): ...\n")
    (tmp_path / "sweep.yaml").write_text("task: wrong_task.py:Mine\ntitle: A sweep\nmetric: {name: val/loss, mode: min}\n")
    with pytest.raises(ConfigError) as caught:
        ddl.run_sweep("sweep.yaml", executor="inline")
    (problem,) = caught.value.problems
    assert message in problem
    if "SyntaxError" not in message:
        assert problem.endswith("(wrong_task.py:3)).")  # Python names a decorated class by its decorator


class Plain(Enum):
    RELU = "relu"


def own_activation(activation: Plain): ...


def test_a_value_that_cannot_be_recorded_is_named_before_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"task.activation: <Plain.RELU: 'relu'> cannot be recorded.* an enumeration is a StrEnum"):
        ddl.sweep(own_activation, {"activation": ["relu"]}, metric="val/loss", executor="inline")
    assert list(tmp_path.iterdir()) == []
