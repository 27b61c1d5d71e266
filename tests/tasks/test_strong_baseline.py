"""Tests that every ingredient of the strong baseline has its effect, and of its size, its flips and its whitening."""

import dataclasses

import pytest
import torch
import yaml

from ddl import yamlfile
from ddl.data.augment import FlipAndShift
from ddl.models.compact import CompactNet
from ddl.tasks.strong_baseline import StrongBaseline

from .steps import CPU, make_task, without_times

TINY = {
    "seed": 3,
    "content": "sample",
    "train_limit": 24,
    "val_limit": 16,
    "widths": [4, 6],
    "batch_size": 8,
    "epochs": 2,
    "averaging": 0.5,
    "lr": 0.05,
    "precision": "fp32",
}
CHANGES = {
    "train_limit": 16,
    "val_limit": 8,
    "stem": "trained",
    "widths": [4, 5],
    "activation": "relu",
    "flips": "none",
    "translation": 0,
    "label_smoothing": 0.0,
    "lr": 0.06,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "schedule": "constant",
    "batch_size": 12,
    "epochs": 1,
    "averaging": 0.0,
    "mirrored_evaluation": False,
    "precision": "bf16",
    "seed": 4,
    "holdout": 0.2,
}


def task(**changed) -> StrongBaseline:
    return make_task("strong_baseline", **TINY | changed)


def last(**changed) -> dict[str, float]:
    *_, progress = task(**changed).run(CPU)
    return without_times(progress.metrics)


@pytest.fixture(scope="module")
def unchanged() -> dict[str, float]:
    torch.set_num_threads(1)
    return last()


@pytest.mark.parametrize("name", sorted({item.name for item in dataclasses.fields(StrongBaseline)} - {"content", "selected_by"}))
def test_every_hyperparameter_makes_a_difference(name, unchanged):
    assert last(**{name: CHANGES[name]}) != unchanged


def test_random_flips_are_not_the_alternating_ones(unchanged):
    assert last(flips="random") != unchanged


def test_the_network_of_the_study_scale_has_at_most_4_million_parameters():
    values = yaml.safe_load((yamlfile.FOLDER / "task" / "strong_baseline.yaml").read_text())
    first = next(task(widths=values["widths"]).run(CPU))
    assert first.metadata["parameters"] == 1_972_792
    assert first.metadata["parameters"] <= 4_000_000


def test_each_image_is_mirrored_in_every_other_epoch(monkeypatch):
    mirrored: dict[int, list[bool]] = {}
    augment = FlipAndShift.__call__

    def recorded(self, images, positions, epoch):
        result = augment(self, images, positions, epoch)
        for position, before, after in zip(positions.tolist(), images, result, strict=True):
            assert torch.equal(after, before) != torch.equal(after, before.flip(2))
            mirrored.setdefault(position, []).append(torch.equal(after, before.flip(2)))
        return result

    monkeypatch.setattr(FlipAndShift, "__call__", recorded)
    list(task(epochs=4, translation=0).run(CPU))
    assert set(mirrored) == set(range(24))
    for seen in mirrored.values():
        assert seen in ([True, False, True, False], [False, True, False, True])
    assert 0 < sum(seen[0] for seen in mirrored.values()) < 24


def test_training_leaves_the_whitening_filters_as_they_are(monkeypatch):
    made = []

    class Seen(CompactNet):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append((self, self.features[0].weight.clone()))

    monkeypatch.setattr("ddl.models.compact.CompactNet", Seen)
    *_, progress = task().run(CPU)
    ((network, filters),) = made
    assert torch.equal(network.features[0].weight, filters)
    assert network.features[0].bias.any(), "its bias is trained"
    stored = progress.state()["learner"]["mean"]
    assert torch.equal(stored["module.features.0.weight"], filters)


def test_a_resumed_trial_has_the_same_weights_and_mean_bit_for_bit():
    *_, end = task().run(CPU)
    middle = next(one.state() for one in task().run(CPU) if one.step == 4)
    *_, resumed_end = task().run(CPU, middle)
    whole, resumed = end.state()["learner"], resumed_end.state()["learner"]
    for name, value in whole["network"]["model"].items():
        assert torch.equal(resumed["network"]["model"][name], value)
        assert torch.equal(resumed["mean"][f"module.{name}"], whole["mean"][f"module.{name}"])
    assert not torch.equal(whole["mean"]["module.head.weight"], whole["network"]["model"]["head.weight"])
