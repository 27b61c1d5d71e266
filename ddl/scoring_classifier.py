"""The scoring classifier of generated digits, trained once per data set content and cached with the data."""

import logging
import math

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Adam

from ddl.data import store
from ddl.data.augment import Augmentation
from ddl.data.cache import cache_folder
from ddl.data.splits import DataSet, fingerprint
from ddl.devices import Device, derive_seed
from ddl.fit import FitSettings, Member, fit
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.supervised import Classifier
from ddl.metrics.generated_images import ScoringClassifier
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.precision import FP32
from ddl.precision_setup import without_tf32

VERSION = 2
"""Part of the cache file name. Increase it when the network or its training below changes."""
WIDTHS = [16, 32, 64]
CONVOLUTIONS = 1
FEATURES = 128
AUGMENTATION = Augmentation(zoom=0.1, rotation=0.2, translation=0.07, flip=0.0)
LR = 3e-3
"""Adam's learning rate at the first step; it decays linearly to 0."""
BATCH_SIZE = 64
FOLDER = "scoring_classifiers"

log = logging.getLogger(__name__)


def load_scoring_classifier(data: DataSet, epochs: int, device: torch.device) -> ScoringClassifier:
    """Load the scoring classifier of `data`, trained for `epochs` epochs on its training split, from the cache.

    If it is not cached, the first process trains it, with a fixed seed, light augmentation and fp32, while the others wait. The
    result depends only on the data and `epochs`.
    """
    file = f"{data.origin.name}-{data.origin.sha256[:16]}-{epochs}-{VERSION}.safetensors"
    # This runs during a trial's evaluation, which must not change the state of torch's generators.
    with torch.enable_grad(), without_tf32(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = _network(data)
        with store.lock(FOLDER):
            weights = _read(file)
            if weights is None:
                log.info("training the classifier that scores generated images of %s, %d epochs", data.origin.name, epochs)
                weights = _train_classifier(data, epochs, device)
                store.write_tensors(FOLDER, file, weights, {"sha256": fingerprint(weights)})
        model.load_state_dict(weights)
    # Generated images are in 0..1, the data set's in 0..255.
    normalise = Normalise([value / 255 for value in data.mean], [value / 255 for value in data.std])
    features = nn.Sequential(normalise, model.features, *model.head[:-1])
    return ScoringClassifier(features, model.head[-1], FEATURES).to(device).eval().requires_grad_(False)


def _network(data: DataSet) -> ConvNet:
    channels, size = data.train.inputs.shape[1:3]
    shape = (channels, size, len(data.classes), WIDTHS, CONVOLUTIONS, FEATURES)
    return ConvNet(*shape, dropout=0.0, batch_norm_layers=len(WIDTHS), initialisation="glorot")


def _train_classifier(data: DataSet, epochs: int, device: torch.device) -> dict[str, Tensor]:
    """Train the network and return its weights."""
    one_process = Device(device)  # the trial's other processes wait
    normalise = Normalise(data.mean, data.std).to(device)
    torch.manual_seed(derive_seed(0, "judge", 0))
    model = _network(data)
    steps = epochs * math.ceil(len(data.train) / BATCH_SIZE)
    network = OptimisedModule(model, lambda parameters: Adam(parameters, lr=LR), FP32, one_process, steps)
    learner = Classifier(network, lambda images: normalise(AUGMENTATION(images.float())), normalise, one_process)
    splits = data.train.to(device), data.val.limit(BATCH_SIZE).to(device)
    for _ in fit(Member(learner, 0, {}), FitSettings(*splits, epochs, BATCH_SIZE, one_process, "images")):
        pass
    return {name: tensor.cpu().contiguous() for name, tensor in learner.state_dict()["model"].items()}


def _read(file: str) -> dict[str, Tensor] | None:
    """Read cached weights; None if the file is missing, unreadable or damaged."""
    path = cache_folder(FOLDER) / file
    try:
        weights, metadata = store.read_tensors(path)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        log.warning("%s: cannot be read (%s). Training the classifier again.", path, error)
        return None
    if fingerprint(weights) != metadata.get("sha256"):
        log.warning("%s: checksum mismatch. Training the classifier again.", path)
        return None
    return weights
