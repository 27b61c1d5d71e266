"""The trials that the baselines train, built from ddl's models and data, and the report that both write.

A file of trials is JSON: `sweep`, `task` (the name of the task's class), `metric` (`name` and `mode`) and `trials`, each a dictionary of
the task's hyperparameters with `configuration` and `seed`. `python -m benchmarks.sweeps` writes it from the sweep's YAML.

Checkpoints, figures, latency and ddl's own metrics other than the sweep's are left out, so a baseline does a little less than ddl.
"""

import argparse
import csv
import html
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ddl.data import reviews, series, sources
from ddl.data.splits import DataSet, Examples, Split
from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary, read_vectors
from ddl.metrics import forecasts
from ddl.metrics.linear_classifier import fit_linear_classifier
from ddl.models import autoencoders
from ddl.models.cnn import ConvNet
from ddl.models.dropout import Dropout
from ddl.models.forecaster import Forecaster
from ddl.models.pca import fit_pca
from ddl.models.preprocess import Normalise, ScaleToUnit
from ddl.models.text_classifiers import AveragedEmbeddings, LstmClassifier

Trial = dict[str, Any]
"""Hyperparameters of a trial, with `configuration` and `seed`."""

Metrics = dict[str, float]
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Problem:
    """A model and the data to train it on.

    `prepare` maps stored inputs to model inputs. `loss` maps the model, inputs and targets to the loss. `evaluate` maps the model and
    batches of the training and of the validation split, in order, to metrics. `linear_decay`: the learning rate falls to 0.
    """

    model: nn.Module
    train: Examples
    val: Examples
    prepare: Callable[[Tensor], Tensor]
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    evaluate: Callable[[nn.Module, Batches, Batches], Metrics]
    optimiser: Callable[..., Optimizer]
    epochs: int
    batch_size: int
    linear_decay: bool = False


def build(task: str, trial: Trial) -> Problem:
    """The problem of a trial of `task`. The initial weights follow from its seed.

    Dropout is PyTorch's: ddl's needs a key for every step, and would have the same mask at each step without.
    """
    builders = {"Classification": _classification, "Representation": _representation, "Forecasting": _forecasting, "Sentiment": _sentiment}
    problem = builders[task](trial)
    for module in list(problem.model.modules()):
        for name, part in module.named_children():
            if isinstance(part, Dropout):
                setattr(module, name, nn.Dropout(part.p))
    return problem


def closed_form(task: str, trial: Trial) -> Metrics | None:
    """Metrics of a trial that needs no training: PCA and the naive forecasts. None for other trials."""
    if task == "Representation" and trial["method"] == "pca":
        data, prepare = images(trial), ScaleToUnit(trial["size"])
        model = fit_pca(prepare(data.train.inputs), trial["latent"])
        return _evaluate_autoencoder(model, [_prepared(data.train, prepare)], [_prepared(data.val, prepare)])
    if task == "Forecasting" and trial["model"] != "lstm":
        _, values = series.read_series(sources.load_file("airline").path)
        predicted = forecasts.naive_forecast(values, trial["held_out"], trial["model"])
        return {"val/rmse_passengers": F.mse_loss(predicted, values[-trial["held_out"] :]).sqrt().item()}
    return None


@cache
def _data_set(name: str, content: str) -> DataSet:
    return sources.load_data_set(name, content)


def images(trial: Trial) -> DataSet:
    """The images of a trial, with its limits."""
    data = _data_set(trial["data_set"], trial["content"])
    return replace(data, train=data.train.limit(trial["train_limit"] or None), val=data.val.limit(trial["val_limit"] or None))


def _prepared(split: Split, prepare: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    return prepare(split.inputs), split.targets


def _classification(trial: Trial) -> Problem:
    data = images(trial)
    torch.manual_seed(trial["seed"])
    channels, size = data.train.inputs.shape[1], data.train.inputs.shape[-1]
    shape = (channels, size, len(data.classes), trial["widths"], trial["convolutions"], trial["dense"])
    model = ConvNet(*shape, trial["dropout"], trial["batch_norm_layers"], trial["initialisation"])
    optimiser = partial(SGD, lr=trial["lr"], momentum=trial["momentum"]) if trial["optimiser"] == "sgd" else partial(Adam, lr=trial["lr"])
    prepare, decay = Normalise(data.mean, data.std), trial["schedule"] == "linear"
    sizes = trial["epochs"], trial["batch_size"]
    return Problem(model, data.train, data.val, prepare, _cross_entropy, _accuracy, optimiser, *sizes, decay)


def _cross_entropy(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(inputs), targets)


def _accuracy(model: nn.Module, train: Batches, val: Batches) -> Metrics:
    loss = correct = count = 0.0
    for inputs, targets in val:
        logits = model(inputs)
        loss += F.cross_entropy(logits, targets, reduction="sum").item()
        correct += (logits.argmax(1) == targets).sum().item()
        count += len(targets)
    return {"val/loss": loss / count, "val/accuracy": correct / count}


def _representation(trial: Trial) -> Problem:
    data, prepare = images(trial), ScaleToUnit(trial["size"])
    mean = prepare(data.train.limit(10_000).inputs).mean(0)
    torch.manual_seed(trial["seed"])
    ends = (trial["relu_latent"], trial["output"])
    if trial["method"] == "dense":
        epochs = trial["epochs"]
        model = autoencoders.dense_autoencoder(mean, trial["dense_down"], trial["latent"], trial["dense_up"], *ends)
    else:
        epochs, widths = trial["convolutional_epochs"], trial["convolutional_widths"]
        model = autoencoders.convolutional_autoencoder(mean, widths, trial["latent"], trial["convolutional_up"], *ends)
    optimiser, sizes = partial(Adam, lr=trial["lr"]), (epochs, trial["batch_size"])
    decay = trial["schedule"] == "linear"
    return Problem(model, data.train, data.val, prepare, _reconstruction_error, _evaluate_autoencoder, optimiser, *sizes, decay)


def _reconstruction_error(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(model(inputs), inputs)


def _evaluate_autoencoder(model: nn.Module, train: Batches, val: Batches) -> Metrics:
    """Reconstruction error, and the accuracy of a linear classifier on the representations, fitted on the training split."""
    representations, targets = zip(*((model.encode(inputs).float(), targets) for inputs, targets in train), strict=True)
    predict = fit_linear_classifier(torch.cat(representations), torch.cat(targets), classes=10)
    errors, correct = [], []
    for inputs, labels in val:
        encoded = model.encode(inputs)
        errors.append((model.decode(encoded).float() - inputs).square().flatten(1).mean(1))
        correct.append(predict(encoded.float()) == labels)
    return {"val/mse": torch.cat(errors).mean().item(), "val/accuracy": torch.cat(correct).double().mean().item()}


def _forecasting(trial: Trial) -> Problem:
    _, values = series.read_series(sources.load_file("airline").path)
    form = series.FORMS[trial["form"]]
    train, val, scaler = series.split_series(values, form, trial["window"], trial["held_out"], trial["passes"])
    torch.manual_seed(trial["seed"])
    model = Forecaster(trial["hidden"], trial["dropout"])

    def evaluate(model: nn.Module, train: Batches, batches: Batches) -> Metrics:
        predicted = form.restored(val.known + scaler.restore(torch.cat([model(inputs) for inputs, _ in batches])))
        return {"val/rmse_passengers": F.mse_loss(predicted, val.actual).sqrt().item()}

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(model(inputs), targets)

    optimiser = partial(AdamW, lr=trial["lr"], weight_decay=trial["weight_decay"])
    return Problem(model, train, val, nn.Identity(), loss, evaluate, optimiser, trial["epochs"], trial["batch_size"])


@cache
def _texts(
    content: str, train_limit: int, val_limit: int, size: int, min_count: int, longest: int
) -> tuple[WordVocabulary, TokenisedTexts, TokenisedTexts]:
    train, val = reviews.read_reviews(sources.load_file("imdb", content))
    chosen = [[n * len(part.texts) // (limit or len(part.texts)) for n in range(min(limit or len(part.texts), len(part.texts)))]
              for part, limit in ((train, train_limit), (val, val_limit))]  # fmt: skip
    words = WordVocabulary([train.texts[n] for n in chosen[0]], size, min_count)
    splits = [
        TokenisedTexts.of(words.encode([part.texts[n] for n in rows], longest), [part.labels[n] for n in rows])
        for part, rows in zip((train, val), chosen, strict=True)
    ]
    return words, splits[0], splits[1].by_length()


@cache
def _word_vectors(path: Path, words: tuple[str, ...], width: int) -> Tensor:
    """Vectors [v, width] of `words`; a word without one gets the mean, the padding zeros."""
    vectors, known = read_vectors(path, words, width)
    vectors = torch.where(known.unsqueeze(1), vectors, vectors[known].mean(0))
    vectors[0] = 0.0
    return vectors


def _sentiment(trial: Trial) -> Problem:
    limits = trial["train_limit"], trial["val_limit"]
    words, train, val = _texts(trial["content"], *limits, trial["words"], trial["min_count"], trial["longest"])
    torch.manual_seed(trial["seed"])
    if trial["model"] == "average":
        model: nn.Module = AveragedEmbeddings(len(words), trial["embedding"])
    else:
        path = Path(trial["vectors"]).expanduser() if trial["vectors"] else sources.load_file("glove", trial["content"]).path
        vectors, trainable = _word_vectors(path, tuple(words.words), trial["width"]), trial["model"] == "lstm"
        model = LstmClassifier(vectors, trainable, trial["hidden"], trial["dropout"], trial["pooling"], trial["bidirectional"])
    optimiser, sizes = partial(Adam, lr=trial["lr"]), (trial["epochs"], trial["batch_size"])
    return Problem(model, train, val, nn.Identity(), _cross_entropy, _accuracy, optimiser, *sizes)


def arguments() -> tuple[dict[str, Any], Path]:
    """Parse a baseline's command line: the file of trials and the folder for its report, which is created."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trials", type=Path, help="file of trials")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.csv and report.html")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return json.loads(given.trials.read_text()), given.out.resolve()


def best(metric: dict[str, str], measured: Iterable[Metrics]) -> float:
    """The best value of the sweep's metric over a trial's evaluations."""
    return (max if metric["mode"] == "max" else min)(values[metric["name"]] for values in measured)


def write_report(folder: Path, workload: dict[str, Any], rows: Sequence[tuple[str, int, float]]) -> None:
    """Write results.csv with the `rows` (configuration, seed, best metric), and report.html with means and standard deviations."""
    name = f"best {workload['metric']['name']}"
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("configuration", "seed", name), *sorted(rows)])
    lines = []
    for configuration in dict.fromkeys(configuration for configuration, _, _ in sorted(rows)):
        values = [value for other, _, value in rows if other == configuration]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(f"<tr><td>{html.escape(configuration)}<td>{statistics.mean(values):.4g}<td>{deviation:.2g}<td>{len(values)}")
    head = f"<!doctype html><title>{workload['sweep']}</title><h1>{workload['sweep']}</h1>"
    table = "\n".join([f"<table><tr><th>configuration<th>{name}, mean<th>standard deviation<th>seeds", *lines, "</table>"])
    (folder / "report.html").write_text(f"{head}\n{table}\n")
