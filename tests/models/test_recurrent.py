"""The LSTM under `torch.vmap` computes the outputs and gradients of `nn.LSTM`."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from ddl.models.recurrent import LSTM

MEMBERS = 3


class Outputs(nn.Module):
    """Calls `LSTM.outputs`."""

    def __init__(self, width: int, hidden: int, last: bool):
        super().__init__()
        self.lstm, self.last = LSTM(width, hidden), last

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.lstm.outputs(inputs, self.last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("width", "hidden", "n", "steps"), [(1, 16, 128, 8), (5, 3, 4, 9), (2, 4, 1, 1)])
def test_outputs_and_gradients_are_those_of_each_model_alone(width, hidden, n, steps, last):
    members = [Outputs(width, hidden, last) for _ in range(MEMBERS)]
    inputs = torch.randn(MEMBERS, n, steps, width, requires_grad=True)
    weights = torch.randn(MEMBERS, n, hidden) if last else torch.randn(MEMBERS, n, steps, hidden)
    alone = [member(inputs[index]) for index, member in enumerate(members)]
    torch.autograd.backward([(outputs * weight).sum() for outputs, weight in zip(alone, weights, strict=True)])
    of_inputs, inputs.grad = inputs.grad, None
    parameters = {
        name: torch.stack([member.get_parameter(name).detach() for member in members]).requires_grad_()
        for name, _ in members[0].named_parameters()
    }
    stacked = torch.vmap(lambda tensors, given: functional_call(members[0], tensors, given))(parameters, inputs)
    torch.testing.assert_close(stacked, torch.stack(alone), rtol=1e-5, atol=1e-6)
    (stacked * weights).sum().backward()
    torch.testing.assert_close(inputs.grad, of_inputs, rtol=1e-4, atol=1e-5)
    for name, value in parameters.items():
        torch.testing.assert_close(value.grad, torch.stack([member.get_parameter(name).grad for member in members]), rtol=1e-4, atol=1e-4)


def test_inputs_that_all_members_share():
    members = [Outputs(2, 3, last=False) for _ in range(MEMBERS)]
    inputs = torch.randn(4, 5, 2)
    parameters = {name: torch.stack([member.get_parameter(name) for member in members]) for name, _ in members[0].named_parameters()}
    stacked = torch.vmap(lambda tensors: functional_call(members[0], tensors, inputs))(parameters)
    torch.testing.assert_close(stacked, torch.stack([member(inputs) for member in members]), rtol=1e-5, atol=1e-6)


def test_a_single_model_is_torchs_lstm_bit_for_bit():
    torch.manual_seed(1)
    ours = LSTM(3, 4)
    torch.manual_seed(1)
    theirs = nn.LSTM(3, 4, batch_first=True)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    inputs = torch.randn(2, 5, 3)
    assert torch.equal(ours.outputs(inputs), theirs(inputs)[0])
    assert torch.equal(ours.outputs(inputs, last=True), theirs(inputs)[0][:, -1])
