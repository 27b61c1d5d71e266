"""Dropout with counter-based random numbers: its rate, what its mask depends on, and the same mask under `torch.vmap`."""

import copy

import pytest
import torch
from torch import nn

from ddl.models.dropout import Dropout, DropoutKeys


def layer(p: float = 0.3, seed: int = 3, step: int = 0, process: int = 0) -> Dropout:
    made = Dropout(p)
    DropoutKeys([made], [seed], process).advance(step)
    return made


def kept(dropout: nn.Module, *shape: int) -> torch.Tensor:
    return dropout(torch.ones(*shape)) > 0


def test_it_drops_its_fraction_and_scales_the_others():
    outputs = layer(0.25)(torch.ones(100, 400))
    assert outputs.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (outputs == 0).double().mean().item() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 40_000) ** 0.5)


def test_it_does_nothing_in_evaluation_or_at_0():
    inputs = torch.rand(4, 5)
    assert layer(0.5).eval()(inputs) is inputs
    assert layer(0.0)(inputs) is inputs


def test_the_gradient_has_the_mask_of_the_output():
    inputs = torch.ones(8, 8, requires_grad=True)
    outputs = layer()(inputs)
    outputs.sum().backward()
    assert torch.equal(inputs.grad, outputs.detach())


def test_the_mask_depends_on_seed_step_layer_and_process_and_on_nothing_else():
    masks = [kept(layer(), 8, 8), kept(layer(seed=4), 8, 8), kept(layer(step=1), 8, 8), kept(layer(process=1), 8, 8)]
    pair = nn.ModuleList([Dropout(0.3), Dropout(0.3)])
    DropoutKeys([pair], [3], 0).advance(0)
    masks.append(kept(pair[1], 8, 8))
    assert torch.equal(kept(pair[0], 8, 8), masks[0])
    assert all(not torch.equal(a, b) for index, a in enumerate(masks) for b in masks[:index])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(kept(layer(), 8, 8), masks[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_padding_at_the_end_changes_no_mask_before_it():
    assert torch.equal(kept(layer(), 4, 6, 5), kept(layer(), 7, 9, 5)[:4, :6])


def test_images_have_the_same_mask_with_channels_last_in_memory():
    images = torch.ones(4, 3, 6, 5)
    outputs = layer()(images.to(memory_format=torch.channels_last))
    assert torch.equal(outputs, layer()(images))
    assert outputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_stack_of_images_has_the_masks_that_each_has_alone(memory_format):
    member, images = Dropout(0.3), torch.ones(4, 3, 6, 5).to(memory_format=memory_format)
    keys = DropoutKeys([member, Dropout(0.3)], [3, 4], 0)
    keys.advance(0)

    def mask(key: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(member, {"key": key, "keep": keep}, images)

    stacked = torch.vmap(mask)(keys.stacked()["key"], member.keep.expand(2))
    assert torch.equal(stacked, torch.stack([layer(seed=3)(images), layer(seed=4)(images)]))


def test_a_member_of_a_stack_has_the_mask_that_it_has_alone():
    members = [Dropout(p) for p in (0.1, 0.5, 0.0)]
    keys = DropoutKeys(members, [3, 4, 5], 0)
    keys.advance(9)
    keep = torch.stack([member.keep for member in members])

    def mask(key: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(members[0], {"key": key, "keep": keep}, torch.ones(6, 4, 7))

    stacked = torch.vmap(mask)(keys.stacked()["key"], keep)
    for member, seed, outputs in zip(members, (3, 4, 5), stacked, strict=True):
        assert torch.equal(outputs, layer(member.p, seed, step=9)(torch.ones(6, 4, 7)))


def test_checkpoints_do_not_contain_the_buffers_and_copies_are_independent():
    dropout = layer()
    assert dropout.state_dict() == {}
    assert torch.equal(kept(copy.deepcopy(dropout), 8, 8), kept(dropout, 8, 8))
    assert repr(dropout) == "Dropout(p=0.3)"
