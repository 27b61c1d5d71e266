"""How good generated images are, by a classifier trained on real ones."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from ddl.devices import Device

SPLITS = 10
"""The Inception Score is a mean over so many parts of the images (Salimans et al. 2016)."""


class ScoringClassifier(nn.Module):
    """A classifier as a critic: images [n, c, h, w] in 0..1 to class scores [n, classes] and to its last hidden layer, [n, width]."""

    def __init__(self, features: nn.Module, scores: nn.Module, width: int):
        super().__init__()
        self.features, self.scores, self.width = features, scores, width

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.scores(features), features


class GeneratedImageScores:
    """What a judge finds in real and in generated images.

    - `inception_score`: exp of the mean Kullback-Leibler divergence of p(class | image) from p(class), 1 .. number of classes
      (Salimans et al. 2016, arXiv:1606.03498); `real/inception_score` is that of as many real images.
    - `fid`: the Frechet distance between the two sets' features (Heusel et al. 2017, arXiv:1706.08500). With this judge it is
      not comparable with an FID by Inception v3.
    - `largest_class_share`: of the generated images, how many the judge takes for the class it sees most. 0.1 where ten
      classes are equally frequent, 1 where the generator has collapsed onto one.
    - `judge/accuracy`: of the judge on the real images.

    The score and the distance are torchmetrics', which sums over the processes of a trial.
    """

    def __init__(self, judge: ScoringClassifier, device: Device):
        self._judge, self._device = judge, device
        with warnings.catch_warnings():
            # That it keeps all class scores: ten numbers an image.
            warnings.filterwarnings("ignore", message="Metric `InceptionScore` will save")
            self._scores = {kind: InceptionScore(_PassThrough(1), splits=SPLITS).to(device.torch) for kind in ("real", "generated")}
        self._distance = FrechetInceptionDistance(_PassThrough(judge.width)).to(device.torch)
        self._right = torch.zeros(2, dtype=torch.float64, device=device.torch)
        self._seen: Tensor | None = None

    @torch.no_grad()
    def real(self, images: Tensor, classes: Tensor) -> None:
        """Real images [n, c, h, w] in 0..1 and their classes."""
        logits, features = self._judge(images)
        self._scores["real"].update(logits)
        self._distance.update(features, real=True)
        self._right += torch.stack([(logits.argmax(1) == classes).sum().double(), self._right.new_tensor(float(len(classes)))])

    @torch.no_grad()
    def generated(self, images: Tensor) -> None:
        logits, features = self._judge(images)
        self._scores["generated"].update(logits)
        self._distance.update(features, real=False)
        counts = logits.argmax(1).bincount(minlength=logits.shape[1]).double()
        self._seen = counts if self._seen is None else self._seen + counts

    def results(self) -> Iterator[tuple[str, float]]:
        assert self._seen is not None
        seen = self._device.sum(self._seen.clone())
        right, count = self._device.sum(self._right.clone()).tolist()
        # The score shuffles the images before it parts them.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield "inception_score", self._scores["generated"].compute()[0].item()
            torch.manual_seed(0)
            yield "real/inception_score", self._scores["real"].compute()[0].item()
        yield "fid", self._distance.compute().item()
        yield "largest_class_share", (seen.max() / seen.sum()).item()
        yield "judge/accuracy", right / count


class _PassThrough(nn.Module):
    """Stands where torchmetrics has its Inception network: the judge's outputs are given as they are."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs
