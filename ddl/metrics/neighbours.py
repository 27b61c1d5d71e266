"""Which words a model's embeddings put beside each other."""

import torch.nn.functional as F
from torch import Tensor


def nearest(embeddings: Tensor, of: int, count: int) -> list[int]:
    """The `count` rows of `embeddings` [v, width] nearest to row `of`, nearest first, without itself.

    By the angle between them; in one dimension, where there is none but 0 and 180 degrees, by distance.
    """
    if embeddings.shape[1] == 1:
        closeness = -(embeddings - embeddings[of]).abs().squeeze(1)
    else:
        closeness = F.cosine_similarity(embeddings, embeddings[of].unsqueeze(0), dim=1)
    order = closeness.argsort(descending=True, stable=True).tolist()
    return [row for row in order if row != of][:count]
