"""Image classification with a published network, pretrained or not (Karshenas, section 2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from ddl.data.file_endings import WEIGHTS_ENDINGS
from ddl.progress import Predictor, Progress, State
from ddl.tasks.fit_task import count_parameters
from ddl.tasks.image_task import FolderPath, ImageTask
from ddl.tasks.task import STRICT, Count, Fraction, Width

if TYPE_CHECKING:
    from torch import nn

    from ddl.data.splits import Split
    from ddl.devices import Device
    from ddl.models.transfer import Body
    from ddl.precision import Precision

SMALLEST = 32
"""Smallest image side in pixels: each network halves it five times."""
ITEMS = {"vgg16": "vgg16", "efficientnet_b0": "efficientnet_b0", "efficientnet_lite0": "lite0"}
"""Item of `ddl.data.sources.load_file` with the ImageNet weights of each network."""

MISSING = "ImageNet weights (random weights used)"

FEATURE_BATCH = 256
"""Number of images whose features are computed at once."""

log = logging.getLogger(__name__)


def _check_weights(text: str) -> str:
    if text not in ("none", "imagenet") and not text.endswith(WEIGHTS_ENDINGS):
        raise ValueError(f"{text!r} is unknown. Use none, imagenet, or the path of a file ({', '.join(WEIGHTS_ENDINGS)}).")
    return text


@dataclass(frozen=True, config=STRICT)
class Transfer(ImageTask):
    """Trains VGG16 or an EfficientNet, or only its head, to classify Tiny ImageNet, CIFAR-10 (Karshenas, section 2, table 2) or your own
    images."""

    data_sets: ClassVar[tuple[str, ...]] = ("cifar10", "tinyimagenet")
    holds_out: ClassVar[bool] = True

    data_set: Literal["cifar10", "tinyimagenet", "folder"]
    """Data set to train and validate on; `folder` for your own images in `path`."""
    augmentation: Literal["none", "light", "aggressive"]
    """Strength of the random zoom, rotation, translation and flip of training images (Karshenas, section 1)."""
    size: Annotated[Count, Ge(SMALLEST)]
    """Side of the images in pixels, at least 32, to which they are resized."""
    network: Literal["vgg16", "efficientnet_b0", "efficientnet_lite0"]
    """Published network whose classifier is replaced by a new head."""
    weights: Annotated[str, AfterValidator(_check_weights)]
    """Initial weights of the network without its classifier: `none` (random), `imagenet`, or the path of a file."""
    if_no_weights: Literal["fail", "random"]
    """Behaviour if ImageNet weights are unavailable: fail, or use random weights and record that in the metadata."""
    trained: Literal["all", "head"]
    """Trained layers: `all`, or only the new `head` while the network stays frozen."""
    dense: list[Width]
    """Units of the head's hidden dense layers."""
    dropout: Fraction
    """Dropout probability before each layer of the head, 0 to below 1."""
    optimiser: Literal["adam", "sgd"]
    """Optimiser: Adam, or SGD with `momentum`."""
    momentum: Fraction
    """Momentum of sgd, 0 to below 1; ignored by adam."""
    path: FolderPath = field(default="", kw_only=True)
    """Folder of your own images, with a folder for each class; relative to the folder that the command is started in, or absolute."""

    def files(self) -> tuple[str, ...]:
        named = () if self.weights in ("none", "imagenet") else (self.weights,)
        return (*named, self.path) if self.path else named

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        from torch import nn

        from ddl.data.augment import STRENGTHS
        from ddl.learners.learner import Pipeline
        from ddl.learners.optimisers import make_optimiser
        from ddl.learners.supervised import Classifier
        from ddl.models.preprocess import Resize
        from ddl.models.transfer import TransferNetwork, make_body, make_head

        folder = self.data_set == "folder"
        data = self.load_folder(self.path, self.size, device) if folder else self.load(self.data_set, device)
        body = make_body(self.network, self.size)
        network = TransferNetwork(
            body.module, make_head(body.width, self.dense, self.dropout, len(data.classes)), frozen=self.trained == "head"
        )
        weights_metadata = self._pretrain(body)
        prepare = nn.Sequential(Resize(self.size), body.normalise).to(device.torch)
        augment = STRENGTHS[self.augmentation]
        # A frozen body maps an unaugmented image to the same features in every epoch.
        cached = self.trained == "head" and self.augmentation == "none"
        trained = network.head if cached else network
        learner = Classifier(
            self.optimised(trained, make_optimiser(self.optimiser, self.lr, self.momentum), data.train, device),
            training=nn.Identity() if cached else lambda images: prepare(augment(images.float())),
            evaluation=nn.Identity() if cached else prepare,
            device=device,
        )
        missing = MISSING if weights_metadata["source"] == MISSING else ""
        metadata = self.metadata(data, [network]) | {
            "trained_parameters": count_parameters([network], trainable_only=True),
            "weights": weights_metadata,
            "features": "computed once" if cached else "computed in every step",
            "classes": list(data.classes),
        }
        metadata["data"]["fallback_for"] = "; ".join(filter(None, [data.origin.fallback_for, missing]))
        network.to(device.torch)

        def predictor() -> Predictor:
            return Predictor(Pipeline(prepare, network).eval(), data.val.inputs[:1])

        train, val, test = data.train, data.val, data.test
        if cached:
            train, val, *tested = (
                _features(split, prepare, network.body, self.resolved_precision(), device) for split in (train, val, test) if split
            )
            test = tested[0] if tested else None
        weights = weights_metadata.get("sha256", weights_metadata["source"])
        if cached and resume and resume.get("weights", weights) != weights:
            raise ValueError(
                f"the head was trained on the features of other weights ({resume['weights']}) than those that are there now ({weights}). "
                "Restore them, or train the trial again with --again."
            )
        for progress in self.train(learner, train, val, device, metadata, resume, test):
            state = progress.state and partial(_with_weights, progress.state, weights)
            yield replace(progress, predictor=predictor, state=state)

    def _pretrain(self, body: Body) -> dict[str, Any]:
        """Load the initial weights, and return their metadata."""
        from ddl.data import sources
        from ddl.data.integrity import Unavailable, file_digest
        from ddl.data.weights import read_weights
        from ddl.models.transfer import load_published_weights

        if self.weights == "none":
            return {"source": "random"}
        path = Path(self.weights).expanduser()
        source = str(path)
        if self.weights == "imagenet":
            try:
                file = sources.load_file(ITEMS[self.network])
            except ValueError as error:
                if self.if_no_weights == "fail" or not isinstance(error.__cause__, Unavailable):
                    raise
                log.warning("%s: USING RANDOM WEIGHTS. %s", self.network, error)
                return {"source": MISSING}
            path, source = file.path, file.origin.source
        load_published_weights(body.module, read_weights(path), str(path))
        return {"source": source, "sha256": file_digest(path, "sha256")}


def _with_weights(state: Callable[[], State], weights: str) -> State:
    """The state with the digest or the source of the body's weights, which a head's own state lacks."""
    return {**state(), "weights": weights}


def _features(split: Split, prepare: nn.Module, module: nn.Module, precision: Precision, device: Device) -> Split:
    """Replace the inputs of a split by the body's features, fp32 [n, width]."""
    import torch

    from ddl.data.splits import Split

    module.eval()
    run = precision.apply(module)
    with torch.no_grad(), precision.autocast(device):
        features = [run(precision.layout(prepare(images))).to(torch.float32, copy=True) for images in split.inputs.split(FEATURE_BATCH)]
    return Split(torch.cat(features), split.targets)
