"""The variants of light augmentation differ from it in what their names say."""

import math
from dataclasses import replace
from pathlib import Path

import torch

from ddl import config
from ddl.data.augment import STRENGTHS
from ddl.sweeps import space
from experiments.light_augmentation import LightAugmentation
from tests.tasks.steps import CPU

ROOT = Path(__file__).resolve().parents[2]


def variants(scale: str = "smoke") -> dict[str, LightAugmentation]:
    """The tasks of the sweep, by configuration."""
    problems: list[str] = []
    sweep = config.compose_sweep(str(ROOT / "experiments" / "light_augmentation.yaml"), [], scale, problems)
    trials = space.expand_trials(sweep, problems) if sweep else []
    assert not problems
    return {trial.configuration: trial.task for trial in trials}


def test_every_variant_differs_from_the_others():
    paper = variants("paper")
    assert len({repr(task) for task in paper.values()}) == len(paper) == 13
    assert {task.epochs for task in paper.values()} == {40}


def images(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The training and validation images that the variant loads."""
    data = variants()[name].load_data(CPU)
    return data.train.inputs, data.val.inputs


def test_images_are_transformed_before_training_only_where_the_name_says_so():
    train, val = images("none")
    for name in variants():
        changed = [bool((mine != before).any()) for mine, before in zip(images(name), (train, val), strict=True)]
        assert changed == {"light sampled once": [True, False], "light on validation too": [False, True]}.get(name, [False, False]), name


def test_what_is_sampled_once_stays_and_depends_on_the_seed():
    once = variants()["light sampled once"]
    assert once.augment().rotation == 0
    first, again, other = (replace(once, seed=seed).load_data(CPU).train.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_part_of_the_augmentation_follows_its_name():
    light = STRENGTHS["light"]
    expected = {
        "none": STRENGTHS["none"],
        "light": light,
        "light wide rotation": replace(light, rotation=0.4 * math.pi),
        "light black outside": replace(light, fill="zeros"),
        "light nearest pixel": replace(light, interpolation="nearest"),
        "light on validation too": light,
    }
    assert {name: task.augment() for name, task in variants().items() if name in expected} == expected


def test_a_fill_of_zeros_shows_at_the_border_and_reflections_do_not():
    white = torch.full((50, 3, 32, 32), 255.0)
    assert STRENGTHS["light"](white).min() > 254
    assert replace(STRENGTHS["light"], fill="zeros")(white).min() == 0


def test_a_variant_trains():
    run = replace(variants()["light sampled once"], train_limit=64, val_limit=32).run(CPU)
    first = {name: value.clone() for name, value in next(run).predictor().module.named_parameters()}
    *_, last = run
    assert first
    assert not [name for name, value in last.predictor().module.named_parameters() if torch.equal(value, first[name])]
    assert {"train/loss", "val/accuracy"} <= last.metrics.keys()
