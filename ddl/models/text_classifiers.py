"""Networks that classify texts of token ids."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ddl.models.dropout import Dropout
from ddl.models.recurrent import LSTM

CLASSES = 2


class AveragedEmbeddings(nn.Module):
    """Maps token ids [n, t], padded with 0, to logits [n, 2] from the mean word embedding; word order has no effect."""

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """`lengths` is not used: the arguments are those of `LstmClassifier`."""
        mask = (tokens != 0).unsqueeze(2)
        return self.head((self.embedding(tokens) * mask).sum(1) / mask.sum(1))


class LstmClassifier(nn.Module):
    """Maps token ids [n, t], padded with 0, to logits [n, 2] with an LSTM over embeddings initialised to `vectors` [v, width].

    `trainable` embeddings are updated in training. `pooling` is `last` (the last output) or `max` (over time). `bidirectional`
    adds an LSTM that reads backwards; its last output is the one at the first word.
    """

    def __init__(self, vectors: Tensor, trainable: bool, hidden: int, dropout: float, pooling: str, bidirectional: bool):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(vectors.clone(), freeze=not trainable, padding_idx=0)
        self.lstm = LSTM(vectors.shape[1], hidden, bidirectional)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(hidden * (1 + bidirectional), CLASSES)
        self.pooling, self.hidden = pooling, hidden

    def forward(self, tokens: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """`lengths` are the numbers of tokens without padding. Without them, a bidirectional LSTM waits for the device to count them."""
        counts = (tokens != 0).sum(1)
        embedded = self.dropout(self.embedding(tokens))
        if self.lstm.bidirectional:
            outputs = self._packed(embedded, counts, counts.tolist() if lengths is None else lengths)
        else:
            outputs = self.lstm.outputs(embedded)  # padding after a text's end does not change earlier outputs
        if self.pooling == "max":
            pooled = outputs.masked_fill((tokens == 0).unsqueeze(2), -torch.inf).amax(1)
        else:
            pooled = outputs[torch.arange(tokens.shape[0], device=tokens.device), counts - 1]  # not len(): export would fix it
            if self.lstm.bidirectional:
                pooled = torch.cat([pooled[:, : self.hidden], outputs[:, 0, self.hidden :]], dim=1)
        return self.head(self.dropout(pooled))

    def _packed(self, embedded: Tensor, counts: Tensor, lengths: Sequence[int]) -> Tensor:
        """The LSTM's outputs without reading the padding, which its backward half would read first.

        `counts` on the device equals `lengths`. The texts are sorted on the device, because `pack_padded_sequence` would sort on the
        host and copy the order to the device, which makes the host wait.
        """
        order = counts.argsort(descending=True)
        packed, _ = self.lstm(pack_padded_sequence(embedded.index_select(0, order), sorted(lengths, reverse=True), batch_first=True))
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=embedded.shape[1])
        return outputs.index_select(0, order.argsort())
