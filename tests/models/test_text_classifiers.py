import pytest
import torch

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
