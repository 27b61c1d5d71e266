"""Tests of the scores of generated images with known values."""

import pytest
import torch
from torch import nn

from ddl.devices import Device
from ddl.metrics.generated_images import GeneratedImageScores, ScoringClassifier

CPU = Device(torch.device("cpu"))
CLASSES = 4


def scores() -> GeneratedImageScores:
    """Scores by a confident classifier: the brightest pixel is the label."""
    return GeneratedImageScores(ScoringClassifier(nn.Flatten(), Confident(), CLASSES), CPU)


class Confident(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 100 * features


def of(classes: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(classes, CLASSES).float().view(-1, 1, 2, 2)


EVENLY = torch.arange(4000) % CLASSES


def test_as_varied_and_distinct_as_the_real_ones():
    made = scores()
    made.add_real(of(EVENLY), EVENLY)
    made.add_generated(of(EVENLY.flip(0)))
    found = dict(made.results())
    assert found["inception_score"] == pytest.approx(CLASSES, rel=0.02)
    assert found["real/inception_score"] == pytest.approx(CLASSES, rel=0.02)
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert found["largest_class_share"] == 1 / CLASSES
    assert found["judge/accuracy"] == 1


def test_of_one_class_alone():
    made = scores()
    made.add_real(of(EVENLY), torch.zeros_like(EVENLY))
    made.add_generated(of(torch.full((200,), 2)))
    found = dict(made.results())
    assert found["inception_score"] == pytest.approx(1)
    assert found["largest_class_share"] == 1
    assert found["judge/accuracy"] == 1 / CLASSES
    # Means lie (3/4, 1/4, 1/4, 1/4) apart; the real covariance I/4 - 1/16, of trace 3/4, is all that the others lack.
    assert found["fid"] == pytest.approx(0.75 + 0.75, rel=0.01)


def test_two_classes_of_four():
    made = scores()
    made.add_real(of(EVENLY), EVENLY)
    made.add_generated(of(EVENLY % 2))
    found = dict(made.results())
    assert found["inception_score"] == pytest.approx(2, rel=0.02)
    assert found["largest_class_share"] == 0.5


def test_a_classifier_that_cannot_separate_the_classes():
    made = scores()
    made.add_real(torch.zeros(100, 1, 2, 2), EVENLY[:100])
    made.add_generated(torch.zeros(100, 1, 2, 2))
    assert dict(made.results())["inception_score"] == pytest.approx(1)


def test_the_scores_draw_nothing_from_the_trials_generator():
    made = scores()
    made.add_real(of(EVENLY), EVENLY)
    made.add_generated(of(EVENLY))
    before = torch.get_rng_state()
    first = dict(made.results())
    assert torch.equal(torch.get_rng_state(), before)
    assert first.keys() == {"inception_score", "real/inception_score", "fid", "largest_class_share", "judge/accuracy"}
