import json
import os

import pytest
import torch

from ddl.data.splits import Origin, Split, fingerprint, from_tensors, held_out, to_tensors


def split(n: int = 6) -> Split:
    return Split(torch.arange(n * 4, dtype=torch.uint8).view(n, 1, 2, 2), torch.arange(n) % 2)


def test_limit_takes_the_first():
    assert len(split().limit(4)) == 4
    assert torch.equal(split().limit(4).inputs, split().inputs[:4])
    assert torch.equal(split().limit(4).targets, split().targets[:4])


@pytest.mark.parametrize("n", [None, 6, 100])
def test_limit_beyond_the_end_is_everything(n):
    whole = split()
    assert whole.limit(n) is whole


@pytest.mark.parametrize("n", [0, -1])
def test_limit_to_nothing_is_refused(n):
    with pytest.raises(ValueError, match="positive number, or null"):
        split().limit(n)


def test_a_split_moves_whole():
    moved = split().to("meta")
    assert moved.inputs.device.type == moved.targets.device.type == "meta"


def test_the_fingerprint_tells_values_shapes_types_and_names_apart_but_not_order_or_layout():
    zeros = torch.zeros(2, 6, dtype=torch.uint8)
    different = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.view(3, 4)},
        {"a": zeros.view(torch.int8)},
        {"a": zeros + 1},
        {"a": zeros, "b": zeros},
    ]
    assert len({fingerprint(tensors) for tensors in different}) == len(different)
    counted = torch.arange(12, dtype=torch.uint8).view(2, 6)
    assert fingerprint({"a": zeros, "b": counted}) == fingerprint({"b": counted.t().contiguous().t(), "a": zeros})


def test_two_splits_to_tensors_and_back():
    train, val = split(6), split(2)
    back = from_tensors(to_tensors(train, val))
    for found, given in zip(back, (train, val), strict=True):
        assert found.inputs is given.inputs
        assert found.targets is given.targets


def test_the_metadata_of_an_origin_is_json():
    metadata = Origin("cifar10", "bundled sample", False, "the whole of cifar10", "0" * 64).metadata()
    assert json.loads(json.dumps(metadata)) == metadata
    assert set(metadata) == {"name", "source", "complete", "fallback_for", "sha256"}


def test_a_name_that_is_no_utf_8_can_be_held_out():
    names = [*(f"{n}.jpg" for n in range(9)), os.fsdecode(b"caf\xe9.jpg")]
    assert sum(held_out(names, [0] * 10)) == 2
