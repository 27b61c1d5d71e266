"""Contract tests of every learner on synthetic data. A new learner needs only an entry in `LEARNERS`."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddl import checkpoints, learners
from ddl.data.augment import FlipAndShift
from ddl.data.series import FORMS, Scaler, Windows
from ddl.data.splits import Split
from ddl.data.text_windows import TextWindows
from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary
from ddl.data.vocabulary import Vocabulary
from ddl.devices import Device
from ddl.learners.adversarial import GanLearner, GanPair
from ddl.learners.autoencoder import AutoencoderLearner
from ddl.learners.averaged_classifier import AveragedClassifier
from ddl.learners.forecasting import ForecastFigure, ForecastLearner
from ddl.learners.language import LanguageLearner, TextSamples
from ddl.learners.learner import Batch, Learner
from ddl.learners.module_learner import ModuleLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.sample_gallery import SampleGallery
from ddl.learners.sentiment import Questions, SentimentLearner
from ddl.learners.supervised import Classifier, Regressor
from ddl.learners.translation import AdversarialTranslationLearner, TranslationEvaluation, TranslationLearner
from ddl.learners.variational import VariationalLearner
from ddl.metrics.generated_images import ScoringClassifier
from ddl.metrics.images import absolute_error
from ddl.models import autoencoders
from ddl.models.autoencoders import VariationalAutoencoder
from ddl.models.cnn import ConvNet
from ddl.models.forecaster import Forecaster
from ddl.models.language import LanguageModel
from ddl.models.mlp import RestoreUnit
from ddl.models.preprocess import ScaleToUnit
from ddl.models.strided import StridedDecoder, StridedEncoder
from ddl.models.text_classifiers import LstmClassifier
from ddl.models.unet import PatchDiscriminator, UNet
from ddl.precision import Precision

CPU = Device(torch.device("cpu"))
FP32 = Precision.parse("fp32")


def classifier(optimiser: Callable) -> Callable[[], Learner]:
    def make() -> Learner:
        model = ConvNet(1, 8, 3, widths=[4], convolutions=2, dense=16, dropout=0.2, batch_norm_layers=1, initialisation="glorot")
        return Classifier(
            OptimisedModule(model, optimiser, FP32, CPU),
            training=lambda images: images.float() / 255,
            evaluation=lambda images: images.float() / 255,
            device=CPU,
        )

    return make


def images_and_classes(n: int) -> Batch:
    return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (n,))


def averaged() -> Learner:
    model = ConvNet(1, 8, 3, widths=[4], convolutions=2, dense=16, dropout=0.0, batch_norm_layers=1, initialisation="glorot")
    recipe = {"steps_per_epoch": 5, "label_smoothing": 0.1, "averaging": 0.9, "mirror": True}
    augment = FlipAndShift("alternating", 0, torch.arange(100) % 2 == 0)
    return AveragedClassifier(network(model), augment, ScaleToUnit(8), **recipe, device=CPU)


def numbered_images(n: int) -> Batch:
    return *images_and_classes(n), torch.arange(n)


def compressor() -> Learner:
    images, classes = in_grey(torch.arange(0, 90, 4, dtype=torch.uint8))
    return AutoencoderLearner(
        network(autoencoders.dense_autoencoder(torch.full((1, 8, 8), 0.5), [16], latent=2, up=[16], relu_latent=False, output="sigmoid")),
        ScaleToUnit(8),
        train=Split(images, classes),
        classes=3,
        shown=images[:4],
        device=CPU,
    )


def variational() -> Learner:
    model = VariationalAutoencoder(StridedEncoder(1, 8, [4, 6], 8, 2 * 3), StridedDecoder(3, 8, 1, 8, [4, 6]))
    return VariationalLearner(network(model), ScaleToUnit(8), 0.01, gallery(), levels_and_classes(4)[0], CPU)


def adversarial() -> Learner:
    gan = GanPair(network(StridedDecoder(3, 8, 1, 8, [4, 6])), network(StridedEncoder(1, 8, [4, 6], 8, 1)), CPU, 0.1)
    return GanLearner(gan, ScaleToUnit(8), 3, gallery(), grace_steps=1000, averaging=0.9, device=CPU)


def translator() -> Learner:
    return TranslationLearner(network(UNet(1, 3, 8, [4, 6])), ScaleToUnit(8), absolute_error, evaluation())


def adversarial_translator() -> Learner:
    gan = GanPair(network(UNet(1, 3, 8, [4, 6])), network(PatchDiscriminator(4, 4)), CPU)
    return AdversarialTranslationLearner(gan, ScaleToUnit(8), 10.0, evaluation())


def network(module: torch.nn.Module, lr: float = 0.01, **more: Any) -> OptimisedModule:
    return OptimisedModule(module, lambda parameters: torch.optim.Adam(parameters, lr=lr), FP32, CPU, **more)


def gallery() -> SampleGallery:
    """Scored by the mean grey of each quarter of an image."""
    quarters = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    return SampleGallery(30, 3, 0, lambda: ScoringClassifier(quarters, torch.nn.Identity(), 4), CPU)


def evaluation() -> TranslationEvaluation:
    return TranslationEvaluation(
        ScaleToUnit(8), {"mae": absolute_error}, {"grey/mae": absolute_error}, grey_and_colour(4), ("a", "b", "c"), CPU
    )


def levels_and_classes(n: int) -> Batch:
    """Images of one grey each, dark, and their classes by it."""
    return in_grey(torch.randint(0, 90, (n,), dtype=torch.uint8))


def in_grey(levels: torch.Tensor) -> Batch:
    return levels.view(-1, 1, 1, 1).repeat(1, 1, 8, 8), levels.long() // 30


def grey_and_colour(n: int) -> Batch:
    grey = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8)
    return grey, torch.cat([grey, 255 - grey, grey // 2], dim=1)


TEXT = "the rain in spain stays mainly in the plain\n" * 20


def language() -> Learner:
    vocabulary = Vocabulary.learn(TEXT, "word", 20)
    writing = TextSamples(vocabulary, "the", [0.5, 2.0], texts=2, tokens=6, references=[TEXT], test_references=[])
    model = LanguageModel(len(vocabulary), 8, 12, 1, dropout=0.1)
    return LanguageLearner(network(model, lr=0.02, decay_steps=1000, clip=1.0), writing, CPU)


def text_windows(n: int) -> Batch:
    windows = TextWindows(*Vocabulary.learn(TEXT, "word", 20).encode(TEXT), first=1, length=5, context=0)
    return windows.batch(torch.randint(len(windows), (n,)))


WORDS = WordVocabulary(["good bad fair foul fine"], size=10, min_count=1)


def sentiment() -> Learner:
    model = LstmClassifier(torch.randn(len(WORDS), 6), trainable=True, hidden=8, dropout=0.1, pooling="last", bidirectional=False)
    return SentimentLearner(network(model, lr=0.02), Questions(WORDS, ["good fair", "bad foul"], "fine"), CPU)


def texts_and_classes(n: int) -> Batch:
    """Of a text's words those before the number 4 are of one class. All are of one length, so that parts are padded alike."""
    encoded = torch.randint(2, len(WORDS), (n, 6))
    tokens, labels, _ = TokenisedTexts.of(encoded.tolist(), (encoded[:, -1] < 4).long().tolist()).batch(torch.arange(n))
    return tokens, labels


def forecaster() -> Learner:
    form, picture = FORMS["logarithm"], ForecastFigure([], [], {}, epochs=1)
    return ForecastLearner(
        network(Forecaster(hidden=8, dropout=0.0), lr=0.02), form, Scaler(5.0, 0.5), Windows(*series_windows(3), 1), picture, CPU
    )


def series_windows(n: int) -> Batch:
    inputs = torch.randn(n, 5)
    actual = 100 + 20 * inputs[:, -1]
    return inputs, inputs[:, -1] - inputs[:, 0], torch.zeros(n), actual, torch.stack([actual + 1, actual - 1], dim=1)


def line() -> Learner:
    return ModuleLearner(network(torch.nn.Linear(5, 1), lr=0.05), torch.nn.functional.huber_loss, mean_errors, CPU)


def mean_errors(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"mae": (outputs - targets).abs().mean()}


def of_a_line(n: int) -> Batch:
    inputs = torch.randn(n, 5)
    return inputs, inputs[:, -1:] + 0.1 * torch.randn(n, 1)


def regressor() -> Learner:
    model = torch.nn.Sequential(torch.nn.Linear(5, 1), torch.nn.Flatten(0))
    return Regressor(network(model, lr=0.05), RestoreUnit(3.0, 2.0), CPU)


def of_a_table(n: int) -> Batch:
    inputs, targets = of_a_line(n)
    return inputs, targets[:, 0]


LEARNERS: dict[str, tuple[Callable[[], Learner], Callable[[int], Batch]]] = {
    "Classifier with Adam": (classifier(lambda parameters: torch.optim.Adam(parameters, lr=0.01)), images_and_classes),
    "Classifier with SGD": (classifier(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)), images_and_classes),
    "AveragedClassifier": (averaged, numbered_images),
    "Forecasts": (forecaster, series_windows),
    "Module": (line, of_a_line),
    "Regressor": (regressor, of_a_table),
    "Language": (language, text_windows),
    "Sentiment": (sentiment, texts_and_classes),
    "Classifier with plain SGD": (classifier(lambda parameters: torch.optim.SGD(parameters, lr=0.1)), images_and_classes),
    "Compressor": (compressor, levels_and_classes),
    "Variational": (variational, levels_and_classes),
    "Adversarial": (adversarial, levels_and_classes),
    "Translator": (translator, grey_and_colour),
    "AdversarialTranslator": (adversarial_translator, grey_and_colour),
}
"""How to make one, with weights from torch's generator, and a batch of so many examples for it."""


def loss_of_a_step(learner: Learner, batch: Batch) -> float:
    return learner.step(batch)["loss"].item()


def distance_from_real_images(learner: Learner, batch: Batch) -> float:
    learner.step(batch)
    return dict(learner.evaluate([batch]))["fid"]


def mean_absolute_error(learner: Learner, batch: Batch) -> float:
    return learner.step(batch)["mae"].item()


LEARNS = {GanLearner: distance_from_real_images, AdversarialTranslationLearner: mean_absolute_error}
"""What falls while a learner learns, where it is not its loss: two networks against each other have none that does. It is measured
after one more step."""

every_learner = pytest.mark.parametrize(("make", "batch_of"), LEARNERS.values(), ids=LEARNERS.keys())


def test_every_learner_has_contract_tests():
    found = set()
    for module in pkgutil.iter_modules(learners.__path__):
        for name, cls in inspect.getmembers(importlib.import_module(f"{learners.__name__}.{module.name}"), inspect.isclass):
            if issubclass(cls, Learner) and not inspect.isabstract(cls):
                found.add(name)
    assert found == {type(make()).__name__ for make, _ in LEARNERS.values()}


@every_learner
def test_a_step_gives_a_loss_and_named_parts_that_hold_nothing_back(make, batch_of):
    parts = make().step(batch_of(6))
    assert "loss" in parts
    for name, value in parts.items():
        assert isinstance(name, str)
        assert value.shape == ()
        assert not value.requires_grad
        assert math.isfinite(value)


@every_learner
def test_steps_learn(make, batch_of):
    learner, batch = make(), batch_of(24)
    measure = LEARNS.get(type(learner), loss_of_a_step)
    before = sum(measure(learner, batch) for _ in range(5))
    for _ in range(140):
        learner.step(batch)
    assert sum(measure(learner, batch) for _ in range(5)) < 0.5 * before


@every_learner
@pytest.mark.parametrize("parts", [1, 2, 3, 25])
def test_an_evaluation_counts_each_example_once_however_they_are_batched(make, batch_of, parts):
    learner, batch = make(), batch_of(25)
    learner.step(batch)
    whole = dict(learner.evaluate([batch]))
    split = dict(learner.evaluate(zip(*(tensor.tensor_split(parts) for tensor in batch), strict=True)))
    assert whole.keys() == split.keys()
    assert all(isinstance(value, float) for value in whole.values())
    assert split == pytest.approx(whole, rel=1e-5)


@every_learner
def test_an_evaluation_changes_nothing(make, batch_of, tmp_path):
    learner, batch = make(), batch_of(10)
    learner.step(batch)
    checkpoints.store(tmp_path, "learner", 0, learner.state_dict())
    first, again = dict(learner.evaluate([batch])), dict(learner.evaluate([batch]))
    assert first == again
    assert equal(learner.state_dict(), checkpoints.newest(tmp_path, "learner")[1])


@every_learner
def test_a_learner_with_anothers_state_continues_as_the_other(make, batch_of, tmp_path):
    one, batches = make(), [batch_of(8) for _ in range(6)]
    for batch in batches[:3]:
        one.step(batch)
    checkpoints.store(tmp_path, "learner", 3, one.state_dict())
    other = make()
    other.step(batches[5])
    other.load_state_dict(checkpoints.newest(tmp_path, "learner")[1])
    assert equal(one.state_dict(), other.state_dict())
    for batch in batches[3:]:
        step_alike(one, other, batch)
    assert dict(one.evaluate(batches)) == dict(other.evaluate(batches))


@every_learner
def test_a_state_of_a_learner_that_has_not_begun(make, batch_of, tmp_path):
    one, other, batch = make(), make(), batch_of(8)
    assert not equal(one.state_dict(), other.state_dict()), "they begin with other weights"
    checkpoints.store(tmp_path, "learner", 0, one.state_dict())
    other.load_state_dict(checkpoints.newest(tmp_path, "learner")[1])
    step_alike(one, other, batch)


def step_alike(one: Learner, other: Learner, batch: Batch) -> None:
    after = []
    for learner in (one, other):
        torch.manual_seed(5)
        after.append(learner.step(batch))
    assert equal(*after)
    assert equal(one.state_dict(), other.state_dict())


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b
