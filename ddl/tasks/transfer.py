"""Image classification with a known network, pretrained or not (Karshenas, section 2)."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass
from torch import nn

from ddl.data import sources, weights
from ddl.data.augment import STRENGTHS
from ddl.data.integrity import Unavailable, file_digest
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.learners.learner import Pipeline
from ddl.learners.optimisers import make_optimiser
from ddl.learners.supervised import Classifier
from ddl.models.preprocess import Resize
from ddl.models.transfer import SMALLEST, Body, TransferNetwork, load_published_weights, make_body, make_head
from ddl.precision import Precision
from ddl.progress import Predictor, Progress, State
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, Count, Fraction

ITEMS = {"vgg16": "vgg16", "efficientnet_b0": "efficientnet_b0", "efficientnet_lite0": "lite0"}
"""Where `ddl.data.sources.load_files` has a network's ImageNet weights."""

MISSING = "ImageNet weights, for which random ones stand in"

FEATURE_BATCH = 256
"""Images whose features are computed at once."""

log = logging.getLogger(__name__)


def _known_weights(text: str) -> str:
    if text not in ("none", "imagenet") and not text.endswith(weights.ENDINGS):
        raise ValueError(f"{text!r} is unknown. Use none, imagenet, or the path of a file ({', '.join(weights.ENDINGS)}).")
    return text


@dataclass(frozen=True, config=STRICT)
class Transfer(ImageTask):
    data_sets: ClassVar[tuple[str, ...]] = ("cifar10", "tinyimagenet")

    data_set: Literal["cifar10", "tinyimagenet"]
    augmentation: Literal["none", "light", "aggressive"]
    size: Annotated[Count, Ge(SMALLEST)]
    """Pixels of a side that images are brought to."""
    network: Literal["vgg16", "efficientnet_b0", "efficientnet_lite0"]
    weights: Annotated[str, AfterValidator(_known_weights)]
    """Of the network without its classifier: `none` (random), `imagenet`, or the path of a file."""
    if_no_weights: Literal["fail", "random"]
    """Where ImageNet weights cannot be had: fail, or begin at random, which the trial's record then says."""
    trained: Literal["all", "head"]
    """`head`: the network keeps the weights it begins with, and only the layers after it learn."""
    dense: list[Count]
    """Units of the dense layers between the network's features and the class scores."""
    dropout: Fraction
    """Probability of a zero before each dense layer and before the class scores."""
    optimiser: Literal["adam", "sgd"]
    momentum: Fraction
    """Of sgd; adam ignores it."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        known = make_body(self.network, self.size)
        network = TransferNetwork(
            known.module, make_head(known.width, self.dense, self.dropout, len(data.classes)), frozen=self.trained == "head"
        )
        said = self._pretrain(known)
        prepare = nn.Sequential(Resize(self.size), known.normalise).to(device.torch)
        augment = STRENGTHS[self.augmentation]
        # What a frozen body says of an image that is the same in every epoch is the same in every epoch.
        cached = self.trained == "head" and self.augmentation == "none"
        learning = network.head if cached else network
        learner = Classifier(
            self.optimised(learning, make_optimiser(self.optimiser, self.lr, self.momentum), data.train, device),
            training=nn.Identity() if cached else lambda images: prepare(augment(images.float())),
            evaluation=nn.Identity() if cached else prepare,
            device=device,
        )
        fallbacks = [data.origin.fallback_for, MISSING if said["source"] == MISSING else ""]
        metadata = self.metadata(data, [network]) | {
            "trained_parameters": sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
            "weights": said,
            "features": "computed once" if cached else "computed in every step",
            "classes": list(data.classes),
        }
        metadata["data"]["fallback_for"] = "; ".join(filter(None, fallbacks))
        network.to(device.torch)

        def predictor() -> Predictor:
            return Predictor(Pipeline(prepare, network).eval(), data.val.inputs[:1])

        train, val = data.train, data.val
        if cached:
            train, val = (_features(split, prepare, network.body, self.settled(), device) for split in (train, val))
        for progress in self.train(learner, train, val, device, metadata, resume):
            yield replace(progress, predictor=predictor)

    def _pretrain(self, known: Body) -> dict[str, Any]:
        """Load the weights that the network begins with, and say which."""
        if self.weights == "none":
            return {"source": "random"}
        path = Path(self.weights).expanduser()
        source = str(path)
        if self.weights == "imagenet":
            try:
                files = sources.load_files(ITEMS[self.network])
            except ValueError as error:
                if self.if_no_weights == "fail" or not isinstance(error.__cause__, Unavailable):
                    raise
                log.warning("%s: RANDOM WEIGHTS STAND IN. %s", self.network, error)
                return {"source": MISSING}
            (path,) = files.folder.glob("*.pth")
            source = files.origin.source
        load_published_weights(known.module, weights.read_weights(path), str(path))
        return {"source": source, "sha256": file_digest(path, "sha256")}


@torch.no_grad()
def _features(split: Split, prepare: nn.Module, module: nn.Module, precision: Precision, device: Device) -> Split:
    """The split with the body's features, fp32 [n, width], as its inputs."""
    module.eval()
    run = precision.apply(module)
    found = []
    with precision.autocast(device):
        for images in split.inputs.split(FEATURE_BATCH):
            found.append(run(precision.layout(prepare(images))).float())
    return Split(torch.cat(found), split.targets)
