"""The classifier that scores generated digits: trained here, once for each content of the data, and kept in the data's cache."""

import logging
import math

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Adam

from ddl.data import store
from ddl.data.augment import Augmentation
from ddl.data.splits import DataSet, fingerprint
from ddl.devices import Device, derive_seed
from ddl.fit import fit
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.supervised import Classifier
from ddl.metrics.generated_images import ScoringClassifier
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.precision import Precision

LAYOUT = 2
"""Of the network and its training below: a judge of another one is another judge."""
WIDTHS = [16, 32, 64]
FEATURES = 128
DROPOUT = 0.0
AUGMENTATION = Augmentation(zoom=0.1, rotation=0.2, translation=0.07, flip=0.0)
LR = 3e-3
"""Of Adam, at first; it falls to 0 linearly."""
BATCH_SIZE = 64
FOLDER = "judges"

log = logging.getLogger(__name__)


def load_scoring_classifier(data: DataSet, epochs: int, device: torch.device) -> ScoringClassifier:
    """A judge of the images of `data` after so many epochs on its training split, from the cache where it is there.

    The same data and epochs give the same judge, trained by whichever process comes first while the others wait. It is trained
    with a fixed seed, augmented a little, in fp32.
    """
    file = f"{data.origin.name}-{data.origin.sha256[:16]}-{epochs}-{LAYOUT}.safetensors"
    # A trial is under way, being evaluated: it must find torch's generators as it left them.
    with torch.enable_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = _network(data)
        with store.lock(FOLDER):
            weights = _read(file)
            if weights is None:
                log.info("training the classifier that scores generated images of %s, %d epochs", data.origin.name, epochs)
                weights = _train(data, epochs, device)
                store.write_tensors(FOLDER, file, weights, {"sha256": fingerprint(weights)})
        model.load_state_dict(weights)
    # Generated images are in 0..1, not in 0..255.
    normalise = Normalise([value / 255 for value in data.mean], [value / 255 for value in data.std])
    features = nn.Sequential(normalise, model.features, *model.head[:-1])
    return ScoringClassifier(features, model.head[-1], FEATURES).to(device).eval().requires_grad_(False)


def _network(data: DataSet) -> ConvNet:
    channels, size = data.train.inputs.shape[1:3]
    return ConvNet(
        channels,
        size,
        len(data.classes),
        WIDTHS,
        convolutions=1,
        dense=FEATURES,
        dropout=DROPOUT,
        batch_norm_layers=len(WIDTHS),
        initialisation="glorot",
    )


def _train(data: DataSet, epochs: int, device: torch.device) -> dict[str, Tensor]:
    """Weights of the network."""
    alone = Device(device)  # the other processes of a trial wait for this one
    normalise = Normalise(data.mean, data.std).to(device)
    torch.manual_seed(derive_seed(0, "judge", 0))
    model = _network(data)
    steps = epochs * math.ceil(len(data.train) / BATCH_SIZE)
    network = OptimisedModule(model, lambda parameters: Adam(parameters, lr=LR), Precision.parse("fp32"), alone, steps)
    learner = Classifier(network, lambda images: normalise(AUGMENTATION(images.float())), normalise, alone)
    splits = data.train.to(device), data.val.limit(BATCH_SIZE).to(device)
    for _ in fit(learner, *splits, epochs=epochs, batch_size=BATCH_SIZE, seed=0, device=alone, unit="images", metadata={}):
        pass
    return {name: tensor.cpu().contiguous() for name, tensor in learner.state_dict()["model"].items()}


def _read(file: str) -> dict[str, Tensor] | None:
    """The weights as they were kept; None where there are none, or not those any more."""
    path = store.cache_folder(FOLDER) / file
    try:
        with safe_open(path, framework="pt") as opened:
            checksum = (opened.metadata() or {}).get("sha256")
            weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (it is no dictionary)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        log.warning("%s: cannot be read (%s). It is trained again.", path, error)
        return None
    if fingerprint(weights) != checksum:
        log.warning("%s: is not what was written. It is trained again.", path)
        return None
    return weights
