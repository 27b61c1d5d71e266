"""Scores of generated images, from a classifier trained on real images."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from ddl.devices import Device
from ddl.metrics.limits import INCEPTION_SPLITS


class ScoringClassifier(nn.Module):
    """Maps images [n, c, h, w] in 0..1 to logits [n, classes] and to the features of the last hidden layer, [n, width]."""

    def __init__(self, features: nn.Module, head: nn.Module, width: int):
        super().__init__()
        self.features, self.head, self.width = features, head, width

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.head(features), features


class GeneratedImageScores:
    """Metrics of generated and of real images by a scoring classifier.

    - `inception_score`: exp of the mean Kullback-Leibler divergence of p(class | image) from p(class), 1 .. number of classes
      (Salimans et al. 2016, arXiv:1606.03498); `real/inception_score` is the score of the real images.
    - `fid`: Frechet distance between the features of the two sets (Heusel et al. 2017, arXiv:1706.08500). It is not comparable
      with an FID by Inception v3.
    - `largest_class_share`: fraction of the generated images in the most frequently predicted class: 0.1 for ten equally frequent
      classes, 1 if the generator has collapsed onto one class.
    - `judge/accuracy`: accuracy of the scoring classifier on the real images.

    The Inception Score and the FID are torchmetrics', which reduces them over the processes of a trial.
    """

    def __init__(self, classifier: ScoringClassifier, device: Device):
        self._classifier, self._device = classifier, device
        with warnings.catch_warnings():
            # The warning about memory for all logits does not apply: ten numbers per image.
            warnings.filterwarnings("ignore", message="Metric `InceptionScore` will save")
            self._inception_scores = {
                kind: InceptionScore(_PassThrough(1), splits=INCEPTION_SPLITS).to(device.torch) for kind in ("real", "generated")
            }
        self._fid = FrechetInceptionDistance(_PassThrough(classifier.width)).to(device.torch)
        self._correct_and_count = torch.zeros(2, dtype=torch.float64, device=device.torch)
        self._class_counts: Tensor | None = None

    @torch.no_grad()
    def add_real(self, images: Tensor, labels: Tensor) -> None:
        """Add real images [n, c, h, w] in 0..1 and their labels [n]."""
        logits, features = self._classifier(images)
        self._inception_scores["real"].update(logits)
        self._fid.update(features, real=True)
        correct = (logits.argmax(1) == labels).sum().double()
        self._correct_and_count += torch.stack([correct, correct.new_tensor(float(len(labels)))])

    @torch.no_grad()
    def add_generated(self, images: Tensor) -> None:
        """Add generated images [n, c, h, w] in 0..1."""
        logits, features = self._classifier(images)
        self._inception_scores["generated"].update(logits)
        self._fid.update(features, real=False)
        counts = logits.argmax(1).bincount(minlength=logits.shape[1]).double()
        self._class_counts = counts if self._class_counts is None else self._class_counts + counts

    def results(self) -> Iterator[tuple[str, float]]:
        """Yield (name, value) of each metric. Both kinds of images must have been added."""
        assert self._class_counts is not None
        class_counts = self._device.sum(self._class_counts.clone())
        correct, count = self._device.sum(self._correct_and_count.clone()).tolist()
        # torchmetrics shuffles the images before splitting them. The trial's generator must not be affected.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield "inception_score", self._inception_scores["generated"].compute()[0].item()
            torch.manual_seed(0)
            yield "real/inception_score", self._inception_scores["real"].compute()[0].item()
        yield "fid", self._fid.compute().item()
        yield "largest_class_share", (class_counts.max() / class_counts.sum()).item()
        yield "judge/accuracy", correct / count


class _PassThrough(nn.Module):
    """Replaces the Inception network of torchmetrics: the inputs are logits or features already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs
