"""Tests of PCA, which does not use `fit`, and of the task's validation errors."""

import pytest
import torch
from pydantic import ValidationError

from ddl import checkpoints
from ddl.data import sources
from ddl.metrics.images import squared_error
from ddl.models.preprocess import ScaleToUnit

from .steps import CPU, build
from .test_task import measured

SMALL = {"size": 16, "latent": 10, "train_limit": 500, "val_limit": 100}


def test_pca_is_one_step_that_measures_all():
    first, last = build("representation", method="pca", **SMALL).run(CPU)
    assert (first.step, last.step, first.total_steps, last.total_steps) == (0, 1, 1, 1)
    assert first.metadata["parameters"] == 11 * 16 * 16
    assert first.metadata["data"]["train"] == 500
    assert last.metrics.keys() == {"train/mse", "train/accuracy", "val/mse", "val/accuracy"}
    assert last.metrics["val/accuracy"] > 0.6
    assert 0 < last.metrics["train/mse"] < last.metrics["val/mse"] < 0.05
    assert last.figures["reconstructions.png"].startswith(b"\x89PNG")


def test_more_numbers_lose_less():
    errors = [list(build("representation", method="pca", **SMALL | {"latent": k}).run(CPU))[-1].metrics["val/mse"] for k in (2, 10, 30)]
    assert errors == sorted(errors, reverse=True)


def test_pcas_predictor_takes_stored_images_and_a_resume_has_it_still(tmp_path):
    task = build("representation", method="pca", **SMALL)
    _, last = task.run(CPU)
    images = sources.load_data_set("mnist", "sample").val.inputs[:100]
    predictor = last.predictor()
    prepared = ScaleToUnit(16)(images)
    assert squared_error(predictor.module(images), prepared).mean().item() == pytest.approx(last.metrics["val/mse"], rel=1e-4)
    assert predictor.example.shape == (1, 1, 28, 28)
    checkpoints.store(tmp_path, "trial", 1, last.state())
    (resumed,) = task.run(CPU, checkpoints.newest(tmp_path, "trial")[1])
    assert resumed.step == 1
    assert not resumed.metrics
    torch.testing.assert_close(resumed.predictor().module(images), predictor.module(images))


def test_pca_that_was_stopped_before_its_step_does_it(tmp_path):
    task = build("representation", method="pca", **SMALL)
    steps = task.run(CPU)
    checkpoints.store(tmp_path, "trial", 0, next(steps).state())
    assert measured(task.run(CPU, checkpoints.newest(tmp_path, "trial")[1])) == measured(steps)


def test_each_method_has_its_own_epochs():
    assert [next(build(name).run(CPU)).metadata["evaluations"] for name in ("representation", "representation: convolutional")] == [2, 2]
    assert next(build("representation: convolutional", convolutional_epochs=3).run(CPU)).metadata["evaluations"] == 3


def test_the_expected_cost_of_an_evaluation_includes_the_linear_classifier():
    metadata = next(build("representation").run(CPU)).metadata
    assert metadata["evaluation_steps"] == pytest.approx((20 + 40 / 2) / 16 / 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"latent": 0}, "latent\n.*greater than or equal to 1"),
        ({"latent": 257}, "latent\n.*257 numbers do not reduce an image of 256 pixels. Use at most 256"),
        (
            {"method": "convolutional", "size": 20, "convolutional_widths": [2, 2, 2, 2]},
            "convolutional_widths\n.*20 x 20 cannot be halved 3 times. Use a multiple of 8",
        ),
        ({"method": "umap"}, "method\n.*'pca', 'dense' or 'convolutional'"),
        ({"size": 0}, "size\n.*greater than or equal to 1"),
        ({"dense_down": []}, "dense_down\n.*at least 1 item"),
    ],
)
def test_what_cannot_be_is_named_before_anything_starts(changed, said):
    with pytest.raises(ValidationError, match=said):
        build("representation", **changed)
