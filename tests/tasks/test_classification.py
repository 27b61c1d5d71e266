"""Tests that every hyperparameter of the classification task has its effect."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from ddl.data import sources
from ddl.models import cnn
from ddl.models.cnn import ConvNet
from ddl.tasks.classification import Classification

from .steps import CPU, make_task, without_times

TINY = {
    "seed": 3,
    "content": "sample",
    "train_limit": 32,
    "val_limit": 16,
    "augmentation": "none",
    "widths": [4, 6],
    "convolutions": 1,
    "dense": 8,
    "dropout": 0.1,
    "optimiser": "sgd",
    "lr": 0.05,
    "momentum": 0.5,
    "batch_size": 8,
    "epochs": 1,
    "schedule": "constant",
    "precision": "fp32",
}


def task(**changed) -> Classification:
    return make_task("classification", **TINY | changed)


def last(**changed) -> dict[str, float]:
    *_, progress = task(**changed).run(CPU)
    return without_times(progress.metrics)


CHANGES = {
    "data_set": "mnist",
    "train_limit": 24,
    "val_limit": 8,
    "augmentation": "light",
    "widths": [6, 6],
    "convolutions": 2,
    "dense": 9,
    "dropout": 0.2,
    "batch_norm_layers": 1,
    "initialisation": "zeros",
    "optimiser": "adam",
    "lr": 0.06,
    "momentum": 0.6,
    "batch_size": 16,
    "epochs": 2,
    "schedule": "linear",
    "precision": "bf16",
    "seed": 4,
    "holdout": 0.2,
}


OF_FOLDERS = ("path", "image_size")
"""Hyperparameters of `data_set: folder`."""


@pytest.fixture(scope="module")
def unchanged() -> dict[str, float]:
    torch.set_num_threads(1)
    return last()


@pytest.mark.parametrize(
    "name", sorted({item.name for item in dataclasses.fields(Classification)} - {"content", "selected_by", *OF_FOLDERS})
)
def test_every_hyperparameter_makes_a_difference(name, unchanged):
    assert last(**{name: CHANGES[name]}) != unchanged


@pytest.mark.parametrize("changed", [{"path": "other"}, {"image_size": 16}])
def test_every_hyperparameter_of_image_folders_makes_a_difference(changed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for path in ("photos", "other"):
        for number in range(20):
            file = tmp_path / path / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(file)
    given = {"data_set": "folder", "path": "photos", "image_size": 8}
    assert last(**given) != last(**given | changed)


def test_blocks_that_leave_no_pixel_are_named():
    assert task(data_set="cifar10", widths=[4] * 5).widths == [4] * 5
    with pytest.raises(ValidationError, match=r"5 blocks cannot halve 28 x 28 pixels\. Use at most 4\."):
        task(data_set="mnist", widths=[4] * 5)


def test_momentum_is_of_sgd_alone():
    assert last(optimiser="adam", momentum=0.5) == last(optimiser="adam", momentum=0.0)


def test_each_seed_begins_with_its_own_weights_whatever_ran_before():
    starts = []
    for seed in (3, 3, 4, 3 + 2**32):
        torch.rand(1)
        weights = next(task(seed=seed).run(CPU)).state()["learner"]["model"]
        starts.append(sum(weight.double().abs().sum().item() for weight in weights.values()))
    assert starts[0] == starts[1]
    assert len(set(starts)) == 3


def test_precision_left_open_is_fp32():
    assert last(precision="auto") == last(precision="fp32")


def test_metadata_has_the_data_and_the_number_of_parameters():
    first = next(task().run(CPU))
    sample = sources.load_data_set("cifar10", "sample")
    assert first.metadata["data"] == sample.origin.metadata() | {"train": 32, "val": 16}
    assert first.metadata["data"]["source"] == "bundled sample"
    assert not first.metadata["data"]["complete"]
    by_hand = (3 * 4 * 9 + 4) + (4 * 6 * 9 + 6) + (6 * 8 * 8 * 8 + 8) + (8 * 10 + 10)
    assert first.metadata["parameters"] == by_hand
    assert first.metadata["precision"] == "fp32"
    assert first.metadata["evaluations"] == 1


def test_no_limit_is_all_of_the_data():
    first = next(task(data_set="mnist", train_limit=0, val_limit=0, batch_size=1024, widths=[1], convolutions=1, dense=1).run(CPU))
    sample = sources.load_data_set("mnist", "sample")
    assert (first.metadata["data"]["train"], first.metadata["data"]["val"]) == (len(sample.train), len(sample.val))


@pytest.fixture
def seen(monkeypatch) -> dict[bool, list[torch.Tensor]]:
    """Inputs of the model, by whether it is in training mode."""
    given: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    class Seeing(ConvNet):
        def forward(self, images):
            given[self.training].append(images.clone())
            return super().forward(images)

    monkeypatch.setattr(cnn, "ConvNet", Seeing)
    return given


@pytest.mark.parametrize("data_set", ["cifar10", "mnist"])
def test_images_are_normalised_by_the_official_figures_in_training_and_in_evaluation(seen, data_set):
    list(task(data_set=data_set, batch_size=32).run(CPU))
    data = sources.load_data_set(data_set, "sample")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(seen[False][0], (data.val.inputs[:16] / 255 - mean) / std, atol=1e-4, rtol=1e-4)
    expected = (data.train.inputs[:32] / 255 - mean) / std
    (trained,) = seen[True]
    assert sorted(trained.sum((1, 2, 3)).tolist()) == pytest.approx(sorted(expected.sum((1, 2, 3)).tolist()), rel=1e-3, abs=0.1)


def test_augmentation_is_for_training_alone(seen):
    list(task(augmentation="aggressive").run(CPU))
    moved = {key: list(images) for key, images in seen.items()}
    for images in seen.values():
        images.clear()
    list(task(augmentation="none").run(CPU))
    assert all(torch.equal(a, b) for a, b in zip(moved[False], seen[False], strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(moved[True], seen[True], strict=True))


def test_from_zeros_it_stays_at_chance_for_the_studys_reason():
    steps = [
        one.metrics
        for one in task(initialisation="zeros", epochs=3, lr=0.5, train_limit=200, val_limit=0, batch_size=50).run(CPU)
        if one.metrics
    ]
    for metrics in steps:
        assert metrics["val/accuracy"] == pytest.approx(0.1, abs=0.03)
    assert steps[-1]["train/loss"] == pytest.approx(math.log(10), abs=0.2)
