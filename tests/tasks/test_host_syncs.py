"""No training step synchronises the device, except a look every so many steps (`steps.stray_synchronisations`).

RLlib's algorithms are exempt, because RLlib has its own training loop.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddl.data.splits import Split
from ddl.devices import Device
from ddl.progress import Progress
from ddl.tasks.classification import Classification

from .steps import CPU, LOOKS_APART, STEPPED, TASKS, build, build_stepped, stray_synchronisations, watch_cpu, watch_cuda

CHECKED = 2 * LOOKS_APART + 2
"""Steps of every task that are checked: enough for two looks."""

every_loop = pytest.mark.parametrize("name", sorted(name for name in STEPPED if name.partition(":")[0] in TASKS))


@every_loop
def test_a_step_reads_nothing_from_the_device(name):
    checked, stray = stray_synchronisations(build_stepped(name).run(CPU), watch_cpu)
    assert checked == CHECKED
    assert stray == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: only CUDA reports copies between host and device")
@every_loop
def test_a_step_does_not_synchronise_a_gpu(name):
    checked, stray = stray_synchronisations(build_stepped(name).run(Device(torch.device("cuda", 0))), watch_cuda)
    assert checked == CHECKED
    assert stray == []


def test_an_epochs_order_is_taken_to_the_device_once():
    taken: list[Tensor] = []

    class Recorded(Split):
        def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
            taken.append(indices)
            return super().batch(indices, on_host)

    task = build("classification", epochs=2)
    assert isinstance(task, Classification)
    built = task.build(task.load_data(CPU), CPU)
    train = Recorded(*vars(built.train).values())
    steps = sum(1 for progress in task.train(built.learner, train, built.val, CPU, {}, None) if progress.step)
    assert len(taken) == steps == 6
    places = [indices.untyped_storage().data_ptr() for indices in taken]
    assert places == [places[0]] * 3 + [places[3]] * 3, "batches are views of the epoch's order: none is copied to the device by itself"
    assert places[0] != places[3]


def trial(looks: set[int], loss: object = None) -> Iterator[Progress]:
    """A trial that reads a tensor in each step of `looks`."""
    tensor, steps = torch.zeros(2), 3 * LOOKS_APART
    yield Progress(0, steps, dict)
    for step in range(1, steps + 1):
        if step in looks:
            tensor.sum().item()
        yield Progress(step, steps, dict, loss=tensor.sum() if loss is None else loss)


def test_a_look_every_so_many_steps_is_expected_and_one_too_soon_is_not():
    assert stray_synchronisations(trial({2, 2 + LOOKS_APART}), watch_cpu) == (2 * LOOKS_APART + 2, [])
    _, stray = stray_synchronisations(trial({2, 1 + LOOKS_APART}), watch_cpu)
    assert len(stray) == 1
    assert stray[0].startswith(f"step {1 + LOOKS_APART}: _local_scalar_dense in tests/tasks/test_host_syncs.py:")


def test_the_first_step_of_an_epoch_and_an_evaluation_may_synchronise():
    def epochs() -> Iterator[Progress]:
        for step in range(7):
            torch.zeros(2).tolist() if step % 3 in (0, 1) else None
            yield Progress(step, 6, dict, metrics={"val/loss": 1.0} if step % 3 == 0 else {})

    assert stray_synchronisations(epochs(), watch_cpu) == (2, [])


def test_a_loss_that_was_read_is_an_error():
    with pytest.raises(TypeError, match=r"step 1: the loss is 0\.5\. Leave it on the device"):
        stray_synchronisations(trial(set(), loss=0.5), watch_cpu)


VALUES, MASK = torch.arange(4.0), torch.tensor([True, False, True, False])
SYNCHRONISING = {
    "item": lambda: VALUES.sum().item(),
    "bool": lambda: bool(MASK.any()),
    "if": lambda: 1 if VALUES.max() > 3 else 0,
    "int": lambda: int(VALUES.max()),
    "tolist": lambda: VALUES.tolist(),
    "cpu": lambda: VALUES.cpu(),
    "numpy": lambda: VALUES.numpy(),
    "nonzero": lambda: MASK.nonzero(),
    "where": lambda: torch.where(MASK),
    "mask": lambda: VALUES[MASK],
    "masked assignment": lambda: VALUES.clone().__setitem__(MASK, VALUES[:2]),
    "masked_select": lambda: VALUES.masked_select(MASK),
    "unique": lambda: VALUES.unique(),
    "equal": lambda: torch.equal(VALUES, VALUES),
    "multinomial": lambda: VALUES.multinomial(1),
    "repeat_interleave": lambda: torch.repeat_interleave(VALUES.long()),
    "tensor": lambda: torch.tensor([1.0, 2.0], device=CPU.torch),
    "as_tensor": lambda: torch.as_tensor([1.0, 2.0], device=CPU.torch),
    "new_tensor": lambda: VALUES.new_tensor([1.0, 2.0]),
    "list": lambda: VALUES[[0, 2]],
}


@pytest.mark.parametrize("operation", SYNCHRONISING)
def test_an_operation_that_would_synchronise_a_gpu_is_seen(operation):
    with watch_cpu() as found:
        SYNCHRONISING[operation]()
    assert found


def test_a_read_in_a_backward_pass_is_seen():
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(context, values: Tensor) -> Tensor:
            return values * 1

        @staticmethod
        def backward(context, gradient: Tensor) -> Tensor:
            return gradient * gradient.sum().item()

    with watch_cpu() as found:
        Reads.apply(torch.ones(2, requires_grad=True)).sum().backward()
    assert found


def test_operations_that_stay_on_the_device_are_not_seen():
    with watch_cpu() as found:
        weights = torch.ones(4, requires_grad=True)
        chosen = weights[torch.arange(3, device=CPU.torch)] * torch.where(MASK[:3], 1.0, VALUES[:3])
        chosen.masked_fill(MASK[:3], 0.0).sum().backward()
        torch.tensor(2.0)  # a number on the host
    assert found == []
