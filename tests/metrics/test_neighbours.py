import torch

from ddl.metrics.neighbours import nearest


def test_the_angle_counts_and_the_length_does_not():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 1.0], [-1.0, 0.0], [1.0, 1.0]])
    assert nearest(embeddings, 0, 3) == [2, 4, 1]


def test_in_one_dimension_the_distance_counts():
    assert nearest(torch.tensor([[1.0], [5.0], [1.2], [-1.0], [0.9]]), 0, 3) == [4, 2, 3]
