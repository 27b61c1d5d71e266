import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ddl.models.text_classifiers import AveragedEmbeddings, LstmClassifier

TOKENS = torch.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 3]])
ALONE = torch.tensor([[3, 4, 5]])


def reader(**changed) -> LstmClassifier:
    torch.manual_seed(1)
    settings = {"trainable": True, "hidden": 6, "dropout": 0.0, "pooling": "last", "bidirectional": False} | changed
    return LstmClassifier(torch.randn(10, 4), **settings)


@pytest.mark.parametrize("pooling", ["last", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(pooling, bidirectional):
    model = reader(pooling=pooling, bidirectional=bidirectional)
    torch.testing.assert_close(model(TOKENS)[:1], model(ALONE))
    torch.testing.assert_close(AveragedEmbeddings(10, 1)(TOKENS).shape, torch.Size([2, 2]))


@pytest.mark.parametrize("pooling", ["last", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_known_lengths_change_nothing(pooling, bidirectional):
    model, lengths = reader(pooling=pooling, bidirectional=bidirectional), (TOKENS != 0).sum(1).tolist()
    assert torch.equal(model(TOKENS, lengths), model(TOKENS))
    average = AveragedEmbeddings(10, 1)
    assert torch.equal(average(TOKENS, lengths), average(TOKENS))


def test_a_bidirectional_lstm_reads_as_torchs_packing_does():
    """Texts of equal lengths too, whose order is arbitrary. Weights get the same gradients."""
    model = reader(bidirectional=True)
    tokens = torch.tensor([[3, 4, 0, 0], [6, 7, 8, 9], [5, 3, 0, 0], [9, 8, 7, 0], [4, 4, 4, 4]])
    lengths, embedded = (tokens != 0).sum(1), model.embedding(tokens)
    packed, _ = model.lstm(pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True, total_length=4)
    found = model._packed(embedded, lengths, lengths.tolist())
    assert torch.equal(found, expected)
    weights = list(model.lstm.parameters())
    for ours, theirs in zip(
        *(torch.autograd.grad(out.square().sum(), weights, retain_graph=True) for out in (found, expected)), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_padding_changes_no_average():
    model = AveragedEmbeddings(10, 1)
    torch.testing.assert_close(model(TOKENS)[:1], model(ALONE))


def test_an_average_cannot_see_an_order_and_an_lstm_can():
    turned = ALONE.flip(1)
    average = AveragedEmbeddings(10, 1)
    torch.testing.assert_close(average(ALONE), average(turned))
    for changed in ({}, {"bidirectional": True}, {"pooling": "max"}):
        model = reader(**changed)
        assert not torch.allclose(model(ALONE), model(turned))


def test_both_ends_count_where_it_reads_both_ways():
    model = reader(bidirectional=True)
    for place in (0, 2):
        other = ALONE.clone()
        other[0, place] = 9
        assert not torch.allclose(model(other), model(ALONE))


@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_vectors_stay_and_padding_is_never_trained(trainable):
    model = reader(trainable=trainable)
    before = model.embedding.weight.clone()
    assert model.embedding.weight.requires_grad == trainable
    model(TOKENS).sum().backward()
    if trainable:
        assert model.embedding.weight.grad[3].any()
        assert not model.embedding.weight.grad[0].any()
    assert torch.equal(model.embedding.weight, before)
