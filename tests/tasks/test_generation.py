"""Tests of the scoring classifier, of collapse, and of the image tasks' validation errors."""

import threading

import pytest
import torch
from pydantic import ValidationError

from ddl import scoring_classifier
from ddl.data import sources
from ddl.data.cache import cache_folder
from ddl.devices import Device
from ddl.learners import adversarial
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.images import colourfulness
from ddl.models.preprocess import ScaleToUnit
from ddl.precision import Precision
from ddl.progress import Diverged
from ddl.scoring_classifier import load_scoring_classifier

from .steps import CPU, build


@pytest.fixture
def trainings(tmp_path, monkeypatch) -> list[int]:
    """Epochs of each scoring classifier trained in the test, with its own cache; the training is replaced by random weights."""
    monkeypatch.setenv("DDL_CACHE", str(tmp_path))
    epochs_of: list[int] = []

    def train(data, epochs, device):
        epochs_of.append(epochs)
        torch.manual_seed(len(epochs_of))
        return {name: tensor.clone() for name, tensor in scoring_classifier._network(data).state_dict().items()}

    monkeypatch.setattr(scoring_classifier, "_train_classifier", train)
    return epochs_of


def sample():
    return sources.load_data_set("mnist", "sample")


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_scoring_classifier_is_trained_once_for_its_data_and_epochs(trainings):
    first = load_scoring_classifier(sample(), 1, CPU.torch)
    assert same(load_scoring_classifier(sample(), 1, CPU.torch), first)
    assert trainings == [1]
    assert not same(load_scoring_classifier(sample(), 2, CPU.torch), first)
    assert trainings == [1, 2]


def test_concurrent_loads_train_one_scoring_classifier(trainings):
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_scoring_classifier(sample(), 1, CPU.torch))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trainings == [1]
    assert all(same(one, found[0]) for one in found)


def test_a_damaged_scoring_classifier_is_trained_again(trainings, caplog):
    load_scoring_classifier(sample(), 1, CPU.torch)
    (path,) = cache_folder(scoring_classifier.FOLDER).glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    load_scoring_classifier(sample(), 1, CPU.torch)
    assert "cannot be read" in caplog.text
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    load_scoring_classifier(sample(), 1, CPU.torch)
    assert "checksum mismatch" in caplog.text
    assert trainings == [1, 1, 1]


def test_a_scoring_classifier_of_one_epoch_is_accurate_on_images_in_0_to_1():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    val = sample().val.limit(500)
    with torch.no_grad():
        logits, features = load_scoring_classifier(sample(), 1, CPU.torch)(ScaleToUnit(28)(val.inputs))
    assert (logits.argmax(1) == val.targets).float().mean() > 0.85
    assert features.shape == (500, scoring_classifier.FEATURES)
    assert torch.equal(torch.get_rng_state(), before), "training the classifier must not change the trial's random numbers"


def test_a_generator_of_one_class_has_collapsed_and_is_named(monkeypatch):
    monkeypatch.setattr(adversarial, "COLLAPSED", 0.1)  # what ten classes cannot stay below
    steps = build("generation: gan", collapse_grace_steps=2).run(CPU)
    with pytest.raises(Diverged, match=r"the generator has collapsed: \d+% of its images are of one class after 3 steps"):
        list(steps)


def test_before_its_grace_is_over_or_without_one_class_it_has_not(monkeypatch):
    monkeypatch.setattr(adversarial, "COLLAPSED", 0.1)
    assert list(build("generation: gan", collapse_grace_steps=1000).run(CPU))[-1].metrics
    monkeypatch.setattr(adversarial, "COLLAPSED", 1.1)
    assert list(build("generation: gan", collapse_grace_steps=0).run(CPU))[-1].metrics


@pytest.mark.parametrize("name", ["generation", "generation: gan"])
def test_real_images_are_scored_beside_and_the_same_latents_shown(name):
    measured = [one for one in build(name, epochs=3).run(CPU) if one.metrics]
    assert "samples_over_epochs-003.png" not in measured.pop().figures, "after 1, 2, 4, 8, ... epochs"
    for number, one in enumerate(measured, 1):
        assert {"val/inception_score", "real/inception_score", "val/fid", "judge/accuracy", "val/largest_class_share"} <= one.metrics.keys()
        assert {"samples.png", f"samples_over_epochs-{number:03d}.png", "interpolation.png"} <= one.figures.keys()
    assert measured[0].metrics["real/inception_score"] == measured[1].metrics["real/inception_score"]


def test_without_its_weight_the_kl_term_is_no_part_of_the_loss():
    last = [list(build("generation", kl_weight=weight).run(CPU))[-1].metrics for weight in (0.0, 0.02)]
    assert last[0]["train/loss"] == last[0]["train/mse"]
    assert last[1]["train/loss"] == pytest.approx(last[1]["train/mse"] + 0.02 * last[1]["train/kl"] / 784, rel=1e-4)


def test_colouring_is_measured_beside_the_real_colours_and_beside_none():
    last = list(build("colouring").run(CPU))[-1]
    wanted = sources.load_data_set("cifar10", "sample").val.limit(20).inputs / 255
    assert last.metrics["real/colourfulness"] == pytest.approx(colourfulness(wanted).mean().item(), rel=1e-4)
    assert 0.03 < last.metrics["grey/mae"] < 0.08
    assert last.figures.keys() == {"strip.png"}


@pytest.mark.parametrize("name", ["mae", "ssim", "psnr"])
def test_denoising_is_measured_alike_whatever_the_loss(name):
    first, *_, last = build("denoising", loss=name).run(CPU)
    assert {"val/mse", "val/psnr_db", "val/ssim", "val/loss"} <= last.metrics.keys()
    assert last.metrics["noisy/mse"] == pytest.approx(0.033, abs=0.004), "0.2 squared, less what is cut off at 0 and 1"
    assert first.metadata["data"]["fallback_for"] == "Tiny ImageNet"
    assert (last.metrics["val/loss"], last.metrics["val/mse"]) != (last.metrics["val/mse"], last.metrics["val/loss"])


def test_the_noise_is_the_seeds_and_as_strong_as_asked():
    def noise(**changed):
        return list(build("denoising", epochs=1, **changed).run(CPU))[-1].metrics["noisy/mse"]

    assert noise() == noise(lr=0.01) != noise(seed=4)
    assert noise(noise=0.05) == pytest.approx(0.0025, rel=0.1)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("generation", {"latent": 0}, "latent\n.*greater than or equal to 1"),
        ("generation", {"widths": [4, 4, 4]}, r"widths\n.*28 x 28 cannot be halved 3 times\. Use a multiple of 8"),
        ("generation", {"model": "diffusion"}, "model\n.*'vae' or 'gan'"),
        ("generation", {"kl_weight": -1.0}, "kl_weight\n.*greater than or equal to 0"),
        ("generation", {"generated": 9}, "generated\n.*greater than or equal to 10"),
        ("colouring", {"widths": [2] * 7}, "widths\n.*at most 6 items"),
        ("colouring", {"model": "vae"}, "model\n.*'unet' or 'cgan'"),
        ("denoising", {"loss": "mse"}, "loss\n.*'mae', 'ssim' or 'psnr'"),
        ("denoising", {"ssim_window": 33}, r"ssim_window\n.*33 x 33 is larger than the images, 32 x 32\. Use at most 32"),
        ("denoising", {"ssim_window": 10}, "ssim_window\n.*has no centre pixel"),
        ("denoising", {"noise": 0.0}, "noise\n.*greater than 0"),
    ],
)
def test_what_cannot_be_is_named_before_anything_starts(name, changed, said):
    with pytest.raises(ValidationError, match=said):
        build(name, **changed)


def test_a_sweeps_file_is_told_which_line_is_wrong(ask):
    base = "task: denoising\ntitle: A small sweep\nmetric: {name: val/mse, mode: min}\nscale:\n  smoke: {task.content: sample}\n"
    problems = ask("space: {task.ssim_window: [11, 33]}\n", base=base).problems
    assert len(problems) == 1
    assert problems[0].startswith("small.yaml:6: task.ssim_window")
    assert "larger than the images" in problems[0]


def test_a_gans_parameters_are_not_shared_out():
    shared = Device(torch.device("cpu"), 0, 2, "fsdp")
    network = OptimisedModule(torch.nn.Linear(1, 1), torch.optim.Adam, Precision.parse("fp32"), Device(torch.device("cpu")))
    with pytest.raises(ValueError, match=r"strategy fsdp: .* Use ddp for a GAN"):
        adversarial.GanPair(network, network, shared)
