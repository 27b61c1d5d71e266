"""Training of an image classifier that is evaluated with the running mean of its weights."""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.learner import Batch, Pipeline, SeveralNetworksLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.running_mean import RunningMean
from ddl.learners.supervised import evaluate_logits
from ddl.models.compact import MirrorMean

Augment = Callable[[Tensor, Tensor, int], Tensor]
"""Maps floating-point images [n, c, h, w], their positions in the training split, int64 [n], and the epoch, from 0, to images."""


class AveragedClassifier(SeveralNetworksLearner):
    """A network that maps images to logits [n, classes], trained on the cross-entropy with smoothed labels.

    Training batches are (images as stored, labels int64 [n], positions int64 [n]); evaluation ignores the positions. Evaluation uses the running
    mean of the weights and, with `mirror`, the mean logits of each image and its mirror image. Metrics: `loss` (nats; in training with
    smoothed labels) and `accuracy` (0..1).
    """

    def __init__(
        self,
        network: OptimisedModule,
        augment: Augment,
        normalise: nn.Module,
        *,
        steps_per_epoch: int,
        label_smoothing: float,
        averaging: float,
        mirror: bool,
        device: Device,
    ):
        """`label_smoothing` as in Szegedy et al. 2016, arXiv:1512.00567, section 7; `averaging` as in `RunningMean`."""
        self._network, self._mean = network, RunningMean(network, averaging, average_buffers=True)
        super().__init__({"network": network, "mean": self._mean})
        self._augment, self._normalise, self._device = augment, normalise, device
        self._steps_per_epoch, self._label_smoothing = steps_per_epoch, label_smoothing
        self._evaluated = MirrorMean(self._mean.module) if mirror else self._mean.module

    def step(self, batch: Batch) -> dict[str, Tensor]:
        images, labels, positions = batch
        epoch = self._network.steps // self._steps_per_epoch
        self._network.train()
        logits = self._network(self._normalise(self._augment(images.float(), positions, epoch)))
        loss = F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)
        self._network.minimise(loss)
        self._mean.update()
        return {"loss": loss.detach(), "accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        evaluated = self._evaluated.eval()
        yield from evaluate_logits(lambda images, *_: self._network.through(evaluated, self._normalise(images)), batches, self._device)

    def predictor(self) -> nn.Module:
        return Pipeline(self._normalise, self._evaluated).eval()
