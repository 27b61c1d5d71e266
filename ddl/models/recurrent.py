"""An LSTM that `torch.vmap` can train for several models at once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class LSTM(nn.LSTM):
    """`nn.LSTM` with one layer and the batch first, whose `outputs` can be computed for several models by `torch.vmap`."""

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, inputs: int, hidden: int, bidirectional: bool = False):
        super().__init__(inputs, hidden, batch_first=True, bidirectional=bidirectional)

    def outputs(self, inputs: Tensor) -> Tensor:
        """The outputs [n, t, hidden] for inputs [n, t, width]. Under `torch.vmap`, the LSTM must read in one direction."""
        if not torch._C._functorch.is_batchedtensor(self.weight_ih_l0):
            return self(inputs)[0]
        assert not self.bidirectional
        return _VmappedOutputs.apply(inputs, self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)


class _VmappedOutputs(Function):
    """The outputs of an LSTM under `torch.vmap`: `nn.LSTM`'s kernel has no rule for it."""

    @staticmethod
    def forward(*tensors: Tensor) -> Tensor:
        raise AssertionError("only under torch.vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        pairs = zip(tensors, in_dims, strict=True)
        stacked = [tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0) for tensor, dim in pairs]
        return _StackedOutputs.apply(*stacked), 0


class _StackedOutputs(Function):
    """The outputs [k, n, t, h] of k LSTMs for inputs [k, n, t, w] and `nn.LSTM`'s weights [k, ...] (Hochreiter & Schmidhuber 1997).

    Forward and backward are written by hand, with few operations for each time step and all models: on small networks autograd's
    overhead for each operation would exceed its computation. A matrix product reads (previous output, input, 1) and gives all
    gates; the examples are the last axis, so that every gate is contiguous. Gates are in the order input, forget, output, cell:
    tanh(x) = 2 sigmoid(2x) - 1, hence one sigmoid computes all of them if the cell's rows are doubled (it is also faster than tanh).
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        k, n, steps, width = inputs.shape
        hidden = weight_hh.shape[2]
        weights = _cell_last(torch.cat([weight_hh, weight_ih, (bias_ih + bias_hh).unsqueeze(2)], dim=2), factor=2)
        # What the product of each time step reads: the previous output, the input, and 1 for the bias.
        read = inputs.new_empty(steps + 1, k, hidden + width + 1, n)
        read[0, :, :hidden], read[:, :, -1] = 0, 1
        read[:-1, :, hidden:-1] = inputs.permute(2, 0, 3, 1)
        gates = inputs.new_empty(steps, k, 4 * hidden, n)
        candidates, squashed = inputs.new_empty(2, steps, k, hidden, n)
        cells = inputs.new_empty(steps + 1, k, hidden, n)
        cells[0] = 0
        minus_one = inputs.new_full((), -1)
        for t in range(steps):
            torch.bmm(weights, read[t], out=gates[t])
            gates[t].sigmoid_()
            input_gate, forget_gate, output_gate, cell_gate = gates[t].chunk(4, dim=1)
            torch.add(minus_one, cell_gate, alpha=2, out=candidates[t])
            torch.mul(forget_gate, cells[t], out=cells[t + 1]).addcmul_(input_gate, candidates[t])
            torch.mul(cells[t + 1], 2, out=squashed[t]).sigmoid_()
            torch.add(minus_one, squashed[t], alpha=2, out=squashed[t])
            torch.mul(output_gate, squashed[t], out=read[t + 1, :, :hidden])
        ctx.save_for_backward(weight_ih, weight_hh, read, gates, candidates, cells, squashed)
        return read[1:, :, :hidden].permute(1, 3, 0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight_ih, weight_hh, read, gates, candidates, cells, squashed = ctx.saved_tensors
        steps, k, hidden, n = candidates.shape
        # The cell's rows are doubled in the gates' inputs and once more by tanh's slope.
        recurrent = _cell_last(weight_hh, factor=4).transpose(1, 2).contiguous()
        of_weights = read.new_zeros(k, 4 * hidden, read.shape[2])
        of_gates = torch.empty_like(gates) if ctx.needs_input_grad[0] else gates.new_empty(1, *gates.shape[1:])
        of_output, of_cell, part = read.new_zeros(3, k, hidden, n)
        gradient = gradient.permute(2, 0, 3, 1).contiguous()
        for t in reversed(range(steps)):
            input_gate, forget_gate, output_gate, _ = gates[t].chunk(4, dim=1)
            now = of_gates[t] if ctx.needs_input_grad[0] else of_gates[0]
            of_input, of_forget, of_out, of_candidate = now.chunk(4, dim=1)
            of_output += gradient[t]
            torch.mul(of_output, output_gate, out=part)
            of_cell += torch.ops.aten.tanh_backward.grad_input(part, squashed[t], grad_input=part)
            torch.mul(of_cell, candidates[t], out=of_input)
            torch.mul(of_cell, cells[t], out=of_forget)
            torch.mul(of_output, squashed[t], out=of_out)
            torch.mul(of_cell, input_gate, out=of_candidate)
            torch.ops.aten.sigmoid_backward.grad_input(now, gates[t], grad_input=now)
            of_cell *= forget_gate
            of_weights.baddbmm_(now, read[t].transpose(1, 2))
            torch.bmm(recurrent, now, out=of_output)
        of_hh, of_ih, of_bias = _output_last(of_weights, factor=4).split([hidden, weight_ih.shape[2], 1], dim=2)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            products = torch.matmul(_cell_last(weight_ih, factor=4).transpose(1, 2), of_gates)
            of_inputs = products.permute(1, 3, 0, 2)
        return of_inputs, of_ih, of_hh, of_bias.squeeze(2), of_bias.squeeze(2)


def _cell_last(rows: Tensor, factor: float) -> Tensor:
    """Rows [k, 4h, ...] in the order of `nn.LSTM` (input, forget, cell, output), with the cell's last and multiplied by `factor`."""
    of_input, of_forget, of_cell, of_output = rows.chunk(4, dim=1)
    return torch.cat([of_input, of_forget, of_output, of_cell * factor], dim=1)


def _output_last(rows: Tensor, factor: float) -> Tensor:
    """Rows [k, 4h, ...] in the order of `_cell_last`, in the order of `nn.LSTM` again, the cell's multiplied by `factor`."""
    of_input, of_forget, of_output, of_cell = rows.chunk(4, dim=1)
    return torch.cat([of_input, of_forget, of_cell * factor, of_output], dim=1)
