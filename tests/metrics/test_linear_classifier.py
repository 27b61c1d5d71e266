"""The linear classifier on a representation."""

import torch

from ddl.metrics.linear_classifier import fit_linear_classifier


def test_what_lines_can_part_is_parted_and_what_they_cannot_is_not():
    torch.manual_seed(0)
    classes = torch.arange(300) % 3
    corners = torch.tensor([[0.0, 0.0], [500.0, 0.0], [0.0, 0.02]])
    apart = corners[classes] + torch.randn(300, 2) * torch.tensor([50.0, 0.002])
    predict = fit_linear_classifier(apart, classes, 3)
    assert (predict(apart) == classes).float().mean() > 0.98, "whatever the units of a representation are"
    exclusive = torch.rand(400, 2) - 0.5
    labels = (exclusive.prod(1) > 0).long()
    assert (fit_linear_classifier(exclusive, labels, 2)(exclusive) == labels).float().mean() < 0.65


def test_it_is_the_same_again_and_draws_nothing():
    inputs, classes = torch.randn(100, 5), torch.arange(100) % 4
    before = torch.get_rng_state()
    first = fit_linear_classifier(inputs, classes, 4)(inputs)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(fit_linear_classifier(inputs, classes, 4)(inputs), first)


def test_a_dead_number_and_a_missing_class_do_no_harm():
    inputs, classes = torch.randn(60, 3), torch.arange(60) % 2
    inputs[:, 1] = 7.0
    inputs[:, 0] += 4 * classes
    assert (fit_linear_classifier(inputs, classes, 10)(inputs) == classes).float().mean() > 0.9
