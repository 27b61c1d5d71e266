"""Tests of the learning rate schedule and of gradient clipping."""

import pytest
import torch
from torch import Tensor, nn

from ddl import checkpoints
from ddl.devices import Device
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import make_optimiser
from ddl.precision import Precision

CPU = Device(torch.device("cpu"))


def network(**more) -> OptimisedModule:
    """One weight, which SGD moves by the learning rate times the gradient."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    return OptimisedModule(module, lambda parameters: torch.optim.SGD(parameters, lr=1.0), Precision.parse("fp32"), CPU, **more)


def slope(made: OptimisedModule, gradient: float = 1.0) -> Tensor:
    return -gradient * made(torch.ones(1, 1)).sum()


def moves(made: OptimisedModule, steps: int) -> list[float]:
    """How far each step moves the weight."""
    found = []
    for _ in range(steps):
        before = made.module.weight.item()
        made.minimise(slope(made))
        found.append(made.module.weight.item() - before)
    return found


def test_the_learning_rate_is_constant_by_default():
    assert moves(network(), 5) == [1.0] * 5


def test_the_learning_rate_decays_linearly_to_zero():
    assert moves(network(decay_steps=4), 5) == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_the_decay_continues_after_a_restore():
    made = network(decay_steps=4)
    moves(made, 2)
    other = network(decay_steps=4)
    other.load_state_dict(made.state_dict())
    assert moves(other, 2) == [0.5, 0.25]


def test_a_gradient_is_clipped_to_the_norm():
    made = network(clip=2.0)
    made.minimise(slope(made, gradient=50.0))
    assert made.module.weight.item() == pytest.approx(2.0)
    made.minimise(slope(made, gradient=1.5))
    assert made.module.weight.item() == pytest.approx(3.5)


def test_one_cycle_rises_linearly_to_the_learning_rate_and_decays_linearly_to_zero():
    assert moves(network(decay_steps=8, warmup_steps=3), 9) == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


def test_one_cycle_continues_after_a_restore():
    made = network(decay_steps=8, warmup_steps=3)
    moves(made, 2)
    other = network(decay_steps=8, warmup_steps=3)
    other.load_state_dict(made.state_dict())
    assert moves(other, 3) == pytest.approx([0.75, 1.0, 0.8])


@pytest.mark.parametrize("precision", ["fp32", "fp32 channels_last", "bf16 channels_last"])
def test_a_restored_network_takes_the_steps_of_one_that_was_not_interrupted(precision, tmp_path):
    def made() -> OptimisedModule:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 1))
        return OptimisedModule(module, make_optimiser("adam", 0.01), Precision.parse(precision), CPU)

    def steps(network: OptimisedModule, n: int) -> list[float]:
        losses = []
        for _ in range(n):
            loss = network(images).float().square().mean()
            network.minimise(loss)
            losses.append(loss.item())
        return losses

    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    first = made()
    steps(first, 3)
    checkpoints.store(tmp_path, "trial", 3, first.state_dict())
    second = made()
    second.load_state_dict(checkpoints.newest(tmp_path, "trial")[1])
    assert steps(second, 3) == steps(first, 3)
    for parameter, state in second.optimiser.state.items():
        assert state["exp_avg"].stride() == parameter.stride(), "fused kernels read memory in order"
