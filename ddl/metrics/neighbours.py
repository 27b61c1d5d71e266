"""Nearest neighbours among word embeddings."""

import torch.nn.functional as F
from torch import Tensor


def nearest(embeddings: Tensor, of: int, count: int) -> list[int]:
    """Indices of the `count` rows of `embeddings` [v, width] nearest to row `of`, nearest first, without `of` itself.

    Cosine similarity; for width 1, where it is always 1 or -1, distance.
    """
    if embeddings.shape[1] == 1:
        closeness = -(embeddings - embeddings[of]).abs().squeeze(1)
    else:
        closeness = F.cosine_similarity(embeddings, embeddings[of].unsqueeze(0), dim=1)
    order = closeness.argsort(descending=True, stable=True).tolist()
    return [row for row in order if row != of][:count]
