"""What a `SupervisedTask` says about data and models that it cannot train."""

import numpy as np
import pytest
import torch
from torch import nn

import ddl
from ddl.devices import Device

X, Y = torch.zeros(6, 2), torch.zeros(6, 1)
PAIRS = "must return (inputs, targets) for training and for validation, two pairs of tensors"


class Untrained(nn.Module):
    """A model whose output is no tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        return {"y": self.layer(x)}


def task_of(data: object, model: type[nn.Module] = nn.Identity) -> ddl.SupervisedTask:
    @ddl.task
    class Sine(ddl.SupervisedTask):
        def data(self):
            return data

        def model(self):
            return model()

        def loss(self, outputs, targets):
            return nn.functional.mse_loss(outputs, targets)

    return Sine(seed=0, epochs=1, batch_size=2, lr=0.1, optimiser="sgd")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (((X, Y[2:]), (X, Y)), "the training part has 6 inputs and 4 targets. Each input needs its target."),
        (((X, Y), (X[:3], Y)), "the validation part has 3 inputs and 6 targets"),
        (((X, Y), (X[:0], Y[:0])), "the validation part has 0 inputs and 0 targets"),
        ((X, Y), PAIRS),
        (((X, Y),), PAIRS),
        (((X, Y), (np.zeros((6, 2)), Y)), PAIRS),
        (None, PAIRS),
    ],
)
def test_data_that_cannot_be_paired_are_named(data, message):
    with pytest.raises(ValueError, match=r"^Sine\.data: ") as raised:
        task_of(data).load_data(Device(torch.device("cpu")))
    assert message in str(raised.value)


def test_a_model_that_returns_no_tensor_is_named():
    with pytest.raises(TypeError, match=r"the model returned dict\. It must return a tensor, or a tuple of them"):
        list(task_of(((X, Y), (X, Y)), Untrained).run(Device(torch.device("cpu"))))
