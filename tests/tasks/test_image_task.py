"""Tests of what all image tasks share."""

import pytest

from ddl.tasks.image_task import ImageTask

from .steps import CPU, TINY, build

IMAGE_TASKS = sorted(name for name in TINY if isinstance(build(name), ImageTask))


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_a_linear_schedule_slows_all_steps_but_the_first(name):
    constant, linear = (
        [step.loss.item() for step in build(name, schedule=schedule, lr=0.01).run(CPU) if step.loss is not None]
        for schedule in ("constant", "linear")
    )
    assert len(constant) == len(linear) > 2
    assert constant[0] == linear[0]
    assert constant[2:] != linear[2:]


def test_all_but_the_ones_without_images_are_here():
    assert {"classification", "transfer", "generation: gan", "colouring: cgan", "denoising", "representation"} <= set(IMAGE_TASKS)
