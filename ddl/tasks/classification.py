"""Image classification with a small convolutional network (Karshenas, section 1)."""

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Len
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from ddl.data import sources
from ddl.data.augment import STRENGTHS
from ddl.devices import Device, stream
from ddl.fit import fit
from ddl.learners.supervised import Classifier
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, CountOrZero, Positive, PrecisionName, Share, Task


@dataclass(frozen=True, config=STRICT)
class Classification(Task):
    data_sets: ClassVar[tuple[str, ...]] = ("cifar10", "mnist")
    strategies = ("ddp", "fsdp")
    changeable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dropout")

    data_set: Literal["cifar10", "mnist"]
    content: Literal["full", "sample"]
    """`full`: all of it. `sample`: the part that comes with the package, the same on every machine."""
    train_limit: CountOrZero
    """Use only the first so many training images; 0 for all."""
    val_limit: CountOrZero
    """The same for validation."""
    augmentation: Literal["none", "light", "aggressive"]
    widths: Annotated[list[Count], Len(1, 5)]
    """Channels of each block of convolutions; each block halves the image."""
    convolutions: Count
    """3x3 convolutions in a block."""
    dense: Count
    """Units of the dense layer before the class scores."""
    dropout: Share
    """Probability of a zero after each layer."""
    batch_norm_layers: CountOrZero
    """How many convolutions, from the first, are batch-normalised."""
    initialisation: Literal["glorot", "zeros"]
    optimiser: Literal["adam", "sgd"]
    lr: Positive
    momentum: Share
    """Of sgd; adam ignores it."""
    batch_size: Count
    epochs: Count
    precision: PrecisionName

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = sources.load(self.data_set, self.content)
        train = data.train.limit(self.train_limit or None).to(device.torch)
        val = data.val.limit(self.val_limit or None).to(device.torch)
        torch.manual_seed(stream(self.seed, "weights", 0))
        channels, size = train.inputs.shape[1], train.inputs.shape[-1]
        model = ConvNet(
            channels,
            size,
            len(data.classes),
            self.widths,
            self.convolutions,
            self.dense,
            self.dropout,
            self.batch_norm_layers,
            self.initialisation,
        )
        normalise = Normalise(data.mean, data.std).to(device.torch)
        augment = STRENGTHS[self.augmentation]
        precision = Precision.parse("fp32" if self.precision == "auto" else self.precision)
        learner = Classifier(
            model,
            self._optimiser,
            training=lambda images: normalise(augment(images.float())),
            evaluation=normalise,
            precision=precision,
            device=device,
        )
        facts = {
            "data": data.origin.facts() | {"train": len(train), "val": len(val)},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "precision": str(precision),
            "classes": list(data.classes),
        }
        yield from fit(
            learner,
            train,
            val,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            device=device,
            unit="images",
            facts=facts,
            resume=resume,
        )

    def _optimiser(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        if self.optimiser == "sgd":
            return SGD(parameters, lr=self.lr, momentum=self.momentum)
        return Adam(parameters, lr=self.lr, fused=True)  # one pass over the parameters instead of eight
