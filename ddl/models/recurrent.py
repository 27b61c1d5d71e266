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

    def outputs(self, inputs: Tensor, last: bool = False) -> Tensor:
        """The outputs [n, t, hidden] for inputs [n, t, width]; of the `last` time step only, [n, hidden].

        Under `torch.vmap`, the LSTM must read in one direction.
        """
        if not torch._C._functorch.is_batchedtensor(self.weight_ih_l0):
            outputs: Tensor = self(inputs)[0]
            return outputs[:, -1] if last else outputs
        assert not self.bidirectional
        return _VmappedOutputs.apply(last, inputs, self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)


class _VmappedOutputs(Function):
    """The outputs of an LSTM under `torch.vmap`: `nn.LSTM`'s kernel has no rule for it."""

    @staticmethod
    def forward(last: bool, *tensors: Tensor) -> Tensor:
        raise AssertionError("only under torch.vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], last: bool, *tensors: Tensor) -> tuple[Tensor, int]:
        pairs = zip(tensors, in_dims[1:], strict=True)
        stacked = [tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0) for tensor, dim in pairs]
        return _StackedOutputs.apply(last, *stacked), 0


class _StackedOutputs(Function):
    """The outputs [k, n, t, h] of k LSTMs for inputs [k, n, t, w] and `nn.LSTM`'s weights [k, ...] (Hochreiter & Schmidhuber 1997).

    Forward and backward are written by hand, with few operations for each time step and all models: on small networks autograd's
    overhead for each operation would exceed its computation. A matrix product reads (previous output, input, 1) and gives all
    gates; the examples are the last axis, so that every gate is contiguous. Gates are in the order input, forget, output, cell:
    tanh(x) = 2 sigmoid(2x) - 1, hence one sigmoid computes all of them if the cell's rows are doubled (it is also faster than tanh).
    """

    @staticmethod
    def forward(ctx: Any, last: bool, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        k, n, steps, width = inputs.shape
        hidden = weight_hh.shape[2]
        weights = _cell_last(torch.cat([weight_hh, weight_ih, (bias_ih + bias_hh).unsqueeze(2)], dim=2), factor=2)
        # What the product of each time step reads: the previous output, the input, and 1 for the bias.
        read = inputs.new_empty(steps + 1, k, hidden + width + 1, n)
        read[0, :, :hidden], read[:, :, -1] = 0, 1
        read[:-1, :, hidden:-1] = inputs.permute(2, 0, 3, 1)
        outputs = read[1:, :, :hidden]
        gates = inputs.new_empty(steps, k, 4 * hidden, n)
        candidates, squashed = inputs.new_empty(steps, k, hidden, n), inputs.new_empty(steps, k, hidden, n)
        cells = inputs.new_empty(steps + 1, k, hidden, n)
        cells[0] = 0
        minus_one = inputs.new_full((), -1)
        before, *after = cells.unbind()
        now = zip(read.unbind(), gates.unbind(), candidates.unbind(), squashed.unbind(), after, outputs.unbind(), strict=False)
        for read_t, gates_t, candidate, squashed_t, cell, output in now:
            torch.bmm(weights, read_t, out=gates_t).sigmoid_()
            input_gate, forget_gate, output_gate, cell_gate = gates_t.chunk(4, dim=1)
            torch.add(minus_one, cell_gate, alpha=2, out=candidate)
            torch.mul(forget_gate, before, out=cell).addcmul_(input_gate, candidate)
            torch.mul(cell, 2, out=squashed_t).sigmoid_()
            torch.add(minus_one, squashed_t, alpha=2, out=squashed_t)
            torch.mul(output_gate, squashed_t, out=output)
            before = cell
        ctx.last = last
        ctx.save_for_backward(weight_ih, weight_hh, read, gates, candidates, cells, squashed)
        return outputs[-1].transpose(1, 2) if last else outputs.permute(1, 3, 0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight_ih, weight_hh, read, gates, candidates, cells, squashed = ctx.saved_tensors
        _, k, hidden, n = candidates.shape
        # The cell's rows are doubled in the gates' inputs and once more by tanh's slope.
        recurrent = _cell_last(weight_hh, factor=4).transpose(1, 2).contiguous()
        of_weights = read.new_zeros(k, read.shape[2], 4 * hidden)
        of_inputs = ctx.needs_input_grad[1]
        of_gates = torch.empty_like(gates if of_inputs else gates[:1])
        of_cell, part = read.new_zeros(k, hidden, n), read.new_empty(k, hidden, n)
        gradient = gradient.transpose(1, 2) if ctx.last else gradient.permute(2, 0, 3, 1)
        of_output = (gradient if ctx.last else gradient[-1]).clone(memory_format=torch.contiguous_format)
        saved = zip(read.unbind(), gates.unbind(), candidates.unbind(), cells.unbind(), squashed.unbind(), strict=False)
        for t, (read_t, gates_t, candidate, cell_before, squashed_t) in reversed(list(enumerate(saved))):
            input_gate, forget_gate, output_gate, _ = gates_t.chunk(4, dim=1)
            of_gates_t = of_gates[t if of_inputs else 0]
            of_input, of_forget, of_out, of_candidate = of_gates_t.chunk(4, dim=1)
            torch.mul(of_output, output_gate, out=part)
            of_cell += torch.ops.aten.tanh_backward.grad_input(part, squashed_t, grad_input=part)
            torch.mul(of_cell, candidate, out=of_input)
            torch.mul(of_cell, cell_before, out=of_forget)
            torch.mul(of_output, squashed_t, out=of_out)
            torch.mul(of_cell, input_gate, out=of_candidate)
            torch.ops.aten.sigmoid_backward.grad_input(of_gates_t, gates_t, grad_input=of_gates_t)
            of_weights.baddbmm_(read_t, of_gates_t.transpose(1, 2))
            if t > 0:
                of_cell *= forget_gate
                torch.bmm(recurrent, of_gates_t, out=of_output)
                if not ctx.last:
                    of_output += gradient[t - 1]
        of_weights = _output_last(of_weights.transpose(1, 2), factor=4)
        of_hh, of_ih, of_bias = of_weights.split([hidden, weight_ih.shape[2], 1], dim=2)
        if not of_inputs:
            return None, None, of_ih, of_hh, of_bias.squeeze(2), of_bias.squeeze(2)
        products = torch.matmul(_cell_last(weight_ih, factor=4).transpose(1, 2), of_gates)
        return None, products.permute(1, 3, 0, 2), of_ih, of_hh, of_bias.squeeze(2), of_bias.squeeze(2)


def _cell_last(rows: Tensor, factor: float) -> Tensor:
    """Rows [k, 4h, ...] in the order of `nn.LSTM` (input, forget, cell, output), with the cell's last and multiplied by `factor`."""
    of_input, of_forget, of_cell, of_output = rows.chunk(4, dim=1)
    return torch.cat([of_input, of_forget, of_output, of_cell * factor], dim=1)


def _output_last(rows: Tensor, factor: float) -> Tensor:
    """Rows [k, 4h, ...] in the order of `_cell_last`, in the order of `nn.LSTM` again, the cell's multiplied by `factor`."""
    of_input, of_forget, of_output, of_cell = rows.chunk(4, dim=1)
    return torch.cat([of_input, of_forget, of_cell * factor, of_output], dim=1)
