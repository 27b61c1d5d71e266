"""Tests of the transfer task: frozen bodies, published weights, and errors in weights files."""

import dataclasses
import pickle

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from ddl import checkpoints
from ddl.data import official, sources
from ddl.data.augment import STRENGTHS
from ddl.data.cache import cache_folder
from ddl.data.files import FILE_ITEMS
from ddl.data.files.imagenet_weights import LITE0
from ddl.data.integrity import Damaged, Unavailable, file_digest
from ddl.models import transfer as models
from ddl.precision_setup import candidates
from ddl.progress import Progress
from ddl.tasks.transfer import Transfer

from .steps import CPU, make_task

TINY = {
    "seed": 3,
    "data_set": "cifar10",
    "content": "sample",
    "train_limit": 16,
    "val_limit": 8,
    "size": 32,
    "network": "efficientnet_lite0",
    "weights": "none",
    "dense": [8],
    "batch_size": 8,
    "epochs": 1,
    "lr": 0.001,
    "schedule": "constant",
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch) -> None:
    """Its own cache, and no source of weights."""
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DDL_DATA_MIRROR", raising=False)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")

    def no_package(*arguments: object, **options: object) -> None:
        raise Unavailable("no package client")

    monkeypatch.setattr("ddl.data.packages.pip_download", no_package)
    sources.load_file.cache_clear()


def task(**changed) -> Transfer:
    return make_task("transfer", **TINY | changed)


def run(**changed) -> list[Progress]:
    return list(task(**changed).run(CPU))


def figures(steps: list[Progress]) -> dict[str, float]:
    return {name: value for one in steps for name, value in one.metrics.items() if not name.startswith("time/")}


def state_of(progress: Progress) -> dict[str, torch.Tensor]:
    """Of the whole network."""
    return progress.predictor().module.model.state_dict()


@pytest.fixture
def weights_file(tmp_path):
    """Weights of EfficientNet-Lite0 as they are published, though random: a file, and the tensors under our names."""
    torch.manual_seed(11)
    module = models.make_body("efficientnet_lite0", 32).module
    for name, value in module.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    own = module.state_dict()
    named = {"_" + name.replace("blocks.", "blocks|").replace(".", "._", 0): value for name, value in own.items()}
    given = {}
    for name, value in named.items():
        parts = name.removeprefix("_").replace("blocks|", "blocks.").split(".")
        marked = [part if part.isdigit() or index == len(parts) - 1 else f"_{part}" for index, part in enumerate(parts)]
        given[".".join(marked)] = value
    given |= {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    path = tmp_path / "lite0.pth"
    torch.save(given, path)
    return path, {name: value.clone() for name, value in own.items()}


@pytest.mark.parametrize("augmentation", ["none", "light"])
def test_a_frozen_body_keeps_its_weights_and_the_averages_of_its_batchnorm(weights_file, augmentation):
    path, given = weights_file
    steps = run(weights=str(path), trained="head", augmentation=augmentation, epochs=2)
    trained = state_of(steps[-1])
    for name, value in given.items():
        assert torch.equal(trained[f"body.{name}"], value), name
    first = next(task(weights=str(path), trained="head", augmentation=augmentation).run(CPU))
    assert not torch.equal(trained["head.1.weight"], state_of(first)["head.1.weight"])


def test_all_layers_learn_where_all_are_trained(weights_file):
    path, given = weights_file
    trained = state_of(run(weights=str(path), trained="all")[-1])
    assert not torch.equal(trained["body.conv_stem.weight"], given["conv_stem.weight"])
    assert not torch.equal(trained["body.bn0.running_mean"], given["bn0.running_mean"])


def test_a_frozen_body_is_in_eval_mode_while_its_head_trains_and_keeps_nothing_for_a_backward_pass():
    known = models.make_body("efficientnet_lite0", 32)
    network = models.TransferNetwork(known.module, models.make_head(known.width, [], 0.5, 10), frozen=True).train()
    assert not any(part.training for part in network.body.modules())
    assert all(part.training for part in network.head.modules())
    assert not network.body(torch.randn(2, 3, 32, 32)).requires_grad
    assert network(torch.randn(2, 3, 32, 32)).requires_grad


def test_features_that_are_computed_once_train_the_head_as_those_of_every_step_do(monkeypatch):
    cached = figures(run(trained="head", epochs=2, dropout=0.0))
    assert next(task(trained="head").run(CPU)).metadata["features"] == "computed once"
    # A strength that moves nothing, under another name, so that features are computed in every step.
    monkeypatch.setitem(STRENGTHS, "light", STRENGTHS["none"])
    fresh = run(trained="head", epochs=2, dropout=0.0, augmentation="light")
    assert fresh[0].metadata["features"] == "computed in every step"
    assert figures(fresh) == pytest.approx(cached, rel=1e-4)


def test_a_head_trains_in_every_precision_that_a_probe_may_choose():
    settings = {"trained": "head", "lr": 0.01, "epochs": 2}
    untrained = run(**settings | {"lr": 1e-9})[-1].metrics["val/loss"]
    fp32 = run(**settings)[-1].metrics["val/loss"]
    assert fp32 < untrained - 0.02
    for precision in candidates(CPU):
        before = state_of(next(task(**settings, precision=precision).run(CPU)))
        last = run(**settings, precision=precision)[-1]
        after = state_of(last)
        assert not [name for name, value in before.items() if name.startswith("head.") and torch.equal(after[name], value)], precision
        assert last.metrics["val/loss"] == pytest.approx(fp32, abs=0.005), precision


def test_a_body_sees_each_image_once_where_nothing_of_it_changes(monkeypatch):
    seen = []
    forward = models.lite0.EfficientNetLite0.forward
    monkeypatch.setattr(models.lite0.EfficientNetLite0, "forward", lambda self, images: seen.append(len(images)) or forward(self, images))
    run(trained="head", epochs=3)
    assert sum(seen) == 16 + 8


def test_the_model_that_is_handed_over_takes_images_as_they_are_stored():
    last = run(trained="head")[-1]
    predictor = last.predictor()
    images = sources.load_data_set("cifar10", "sample").val.inputs[:8]
    assert predictor.example.dtype == torch.uint8
    assert predictor.example.shape == (1, 3, 32, 32)
    with torch.no_grad():
        right = predictor.module(images).argmax(1) == sources.load_data_set("cifar10", "sample").val.targets[:8]
    assert right.float().mean().item() == pytest.approx(last.metrics["val/accuracy"])


def test_a_head_resumes_to_the_same_figures(tmp_path):
    undisturbed = run(trained="head", epochs=2)
    for one in task(trained="head", epochs=2).run(CPU):
        if one.step == 1:
            checkpoints.store(tmp_path, "trial", one.step, one.state())
            break
    torch.manual_seed(99)
    resumed = list(task(trained="head", epochs=2).run(CPU, checkpoints.newest(tmp_path, "trial")[1]))
    assert figures(resumed) == figures([one for one in undisturbed if one.step > 1])


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [("vgg16", 64, 14_714_688), ("efficientnet_b0", 64, 4_007_548), ("efficientnet_lite0", 64, 3_371_008)],
)
def test_a_body_is_the_published_network_without_its_classifier(name, size, parameters):
    known = models.make_body(name, size)
    assert sum(parameter.numel() for parameter in known.module.parameters()) == parameters
    with torch.no_grad():
        assert known.module.eval()(torch.zeros(2, 3, size, size)).shape == (2, known.width)


@pytest.mark.parametrize("name", ["vgg16", "efficientnet_b0"])
def test_a_body_takes_torchvisions_own_weights(name):
    import torchvision

    build = {"vgg16": torchvision.models.vgg16, "efficientnet_b0": torchvision.models.efficientnet_b0}[name]
    with torch.device("meta"):
        whole = build()
    given = {key: torch.rand(value.shape) for key, value in whole.state_dict().items() if not key.startswith("classifier.")}
    given["classifier.0.weight"] = torch.zeros(1)
    known = models.make_body(name, 64)
    models.load_published_weights(known.module, given, "a file")
    assert torch.equal(
        known.module.state_dict()["features.0.weight" if name == "vgg16" else "features.0.0.weight"], next(iter(given.values()))
    )


def test_padding_is_tensorflows():
    conv = models.lite0.SameConv(1, 1, 3, stride=2)
    nn.init.ones_(conv.weight)
    ones = torch.ones(1, 1, 4, 4)
    # An even side: nothing above and left, a row below and a column on the right.
    assert conv(ones).flatten().tolist() == [9, 6, 6, 4]
    assert conv(torch.ones(1, 1, 3, 3)).flatten().tolist() == [4, 4, 4, 4]


def test_a_body_begins_with_outputs_that_are_neither_lost_nor_blown_up_on_the_way():
    known = models.make_body("efficientnet_lite0", 64)
    seen: list[float] = []
    for part in known.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].var().item()))
    known.module.train()(torch.randn(16, 3, 64, 64))
    assert 0.05 < min(seen) < max(seen) < 50


def test_weights_of_another_network_are_named(weights_file, tmp_path):
    path, _ = weights_file
    with pytest.raises(
        ValueError, match=r"lite0\.pth: weights of another network: .* is missing, .*, and \d+ more\. Use weights of this network"
    ):
        run(network="efficientnet_b0", weights=str(path))


def test_a_shape_that_differs_is_named(weights_file, tmp_path):
    _, own = weights_file
    own["conv_stem.weight"] = torch.zeros(32, 1, 3, 3)
    save_file(own, tmp_path / "grey.safetensors")
    with pytest.raises(ValueError, match=r"conv_stem\.weight has the shape \[32, 1, 3, 3\], not \[32, 3, 3, 3\]"):
        run(weights=str(tmp_path / "grey.safetensors"))


class Evil:
    def __reduce__(self):
        return print, ("CODE WAS RUN",)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cut.pth", "cut", "not a file of weights only, or cut off"),
        ("cut.safetensors", "cut", "not a file of weights only, or cut off"),
        ("page.pth", b"<!doctype html>", "not a file of weights only, or cut off"),
        ("empty.pth", b"", "not a file of weights only, or cut off"),
        ("evil.pth", pickle.dumps({"a": Evil()}, protocol=2), "not a file of weights only, or cut off"),
        ("list.pth", "list", "not a dictionary of tensors by name"),
        ("gone.pth", None, "there is no such file"),
    ],
)
def test_a_file_that_is_no_good_weights_is_refused_and_runs_no_code(tmp_path, capsys, file, content, said):
    path = tmp_path / file
    if content == "cut":
        save = torch.save if path.suffix == ".pth" else save_file
        save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:-500])
    elif content == "list":
        torch.save([torch.zeros(1)], path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(Damaged, match=said):
        run(weights=str(path))
    assert "CODE WAS RUN" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": 31}, "greater than or equal to 32"),
        ({"weights": "imagenett"}, r"'imagenett' is unknown\. Use none, imagenet, or the path of a file"),
        ({"network": "vgg19"}, "'vgg16', 'efficientnet_b0' or 'efficientnet_lite0'"),
        ({"dense": [0]}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_found_before_anything_starts(changed, said):
    with pytest.raises(ValidationError, match=said):
        task(**changed)


def test_weights_that_cannot_be_had_fail_the_trial_or_are_said_to_be_random(caplog):
    with pytest.raises(ValueError, match="lite0: no source has it, and it has no fallback"):
        run(weights="imagenet")
    first = next(task(weights="imagenet", if_no_weights="random").run(CPU))
    assert first.metadata["weights"]["source"] == first.metadata["data"]["fallback_for"] == "ImageNet weights (random weights used)"
    assert "USING RANDOM WEIGHTS" in caplog.text


def test_published_weights_come_from_the_users_mirror_by_their_checksum(weights_file, tmp_path, monkeypatch):
    path, given = weights_file
    monkeypatch.setenv(official.MIRROR, str(tmp_path))
    (tmp_path / LITE0.file).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="cut off or altered"):
        run(weights="imagenet")
    monkeypatch.setitem(FILE_ITEMS, "lite0", dataclasses.replace(LITE0, checksum=f"sha256:{file_digest(path, 'sha256')}"))
    cache_folder("lite0").joinpath("unavailable.json").unlink()
    first = next(task(weights="imagenet").run(CPU))
    assert first.metadata["weights"] == {"source": f"mirror {tmp_path}", "sha256": file_digest(path, "sha256")}
    assert torch.equal(state_of(first)["body.conv_stem.weight"], given["conv_stem.weight"])


CHANGES = {
    "train_limit": 8,
    "val_limit": 4,
    "augmentation": "light",
    "size": 48,
    "network": "vgg16",
    "trained": "head",
    "dense": [9],
    "dropout": 0.1,
    "optimiser": "sgd",
    "lr": 0.002,
    "batch_size": 12,
    "epochs": 2,
    "schedule": "linear",
    "precision": "bf16",
    "seed": 4,
    "holdout": 0.2,
}


def test_every_hyperparameter_makes_a_difference(weights_file):
    unchanged = figures(run())
    for name, value in (CHANGES | {"weights": str(weights_file[0])}).items():
        assert figures(run(**{name: value})) != unchanged, name
    assert figures(run(optimiser="sgd", momentum=0.9)) != figures(run(optimiser="sgd"))
    left = {item.name for item in dataclasses.fields(Transfer)} - CHANGES.keys()
    assert left == {"weights", "momentum", "data_set", "content", "if_no_weights", "path", "selected_by"}


def test_a_head_does_not_continue_on_the_features_of_other_weights(weights_file, tmp_path):
    path, given = weights_file
    for one in task(trained="head", epochs=2, weights=str(path)).run(CPU):
        if one.step == 1:
            state = one.state()
            break
    *_, last = task(trained="head", epochs=2, weights=str(path)).run(CPU, state)
    assert last.step == 4
    torch.save({name: 1.1 * value for name, value in given.items()}, path)
    with pytest.raises(ValueError, match="the head was trained on the features of other weights"):
        next(task(trained="head", epochs=2, weights=str(path)).run(CPU, state))
