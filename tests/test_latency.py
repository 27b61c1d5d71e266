"""Latency: the metrics, the variants that are left out, and that a benchmark never fails a trial."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from ddl import yamlfile
from ddl.devices import Device
from ddl.latency import measure as latency
from ddl.learners.learner import Pipeline
from ddl.models.preprocess import Normalise
from ddl.progress import Predictor, Progress
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.worker import run_trial
from ddl.tasks.classification import Classification
from ddl.tasks.task import STRICT, Task
from ddl.trial_report import TrialReport

CPU = Device(torch.device("cpu"))


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    for name, depth in latency.BUDGETS.items():
        variants = ("fp32", "fp32 channels_last", "bf16", "fp32 exported") if name == "full" else None
        shorter = dataclasses.replace(depth, batches=(1, 4), variants=variants, calls_s=0.003, blocks_s=0.001, limit_s=60.0)
        monkeypatch.setitem(latency.BUDGETS, name, shorter)


def predictor(model: nn.Module | None = None) -> Predictor:
    layers = model or nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 5))
    pipeline = Pipeline(Normalise((0.5,) * 3, (0.25,) * 3), layers).eval()
    return Predictor(pipeline, torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8))


def test_a_quick_look_times_eager_fp32_and_the_trials_own_precision_at_both_batch_sizes():
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"], "bf16 channels_last compiled")
    assert found.metrics.keys() >= {
        "latency/p50_ms_batch1",
        "latency/p50_ms_batch4",
        "latency/examples_per_s_batch4",
        "latency/best_p50_ms_batch1",
        "latency/best_p50_ms_batch4",
        "latency/noise_percent",
        "latency/flops",
    }
    assert found.metadata["p50_ms"]["4"].keys() == {"fp32", "bf16 channels_last"}
    assert 0 < found.metadata["deviation"]["bf16 channels_last"] < latency.AGREEMENT["bf16"]
    assert all(value > 0 for name, value in found.metrics.items() if name != "latency/noise_percent")


def test_operations_and_parameters_are_those_of_the_model():
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"])
    assert found.metrics["latency/flops"] == 2 * (8 * 8 * 4 * 3 * 9 + 4 * 8 * 8 * 5)
    assert found.metadata["parameters"] == (4 * 3 * 9 + 4) + (4 * 8 * 8 * 5 + 5)


def test_a_full_look_has_every_form_exported_too_and_the_memory_of_a_forward_pass():
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["full"])
    assert found.metadata["left_out"] == {}
    assert set(found.metadata["p50_ms"]["1"]) == {"fp32", "fp32 channels_last", "bf16", "fp32 exported"}
    weights = 4 * found.metadata["parameters"]
    feature_maps = 2 * 4 * 4 * 8 * 8
    assert weights + feature_maps <= found.metrics["latency/peak_memory_bytes"] < weights + 20 * feature_maps


def test_compiled_agrees_with_eager(monkeypatch):
    monkeypatch.setitem(
        latency.BUDGETS,
        "full",
        dataclasses.replace(latency.BUDGETS["full"], variants=("fp32", "fp32 channels_last compiled"), batches=(1,)),
    )
    found = latency.measure_latency(predictor(nn.Sequential(nn.Flatten(), nn.Linear(192, 5))), CPU, latency.BUDGETS["full"])
    assert found.metadata["left_out"] == {}
    assert found.metadata["deviation"]["fp32 channels_last compiled"] < latency.AGREEMENT["fp32"]


@pytest.mark.parametrize("wrong", [lambda outputs: outputs * 1.1, lambda outputs: outputs * float("nan")])
def test_a_form_that_disagrees_is_never_chosen_however_fast(monkeypatch, wrong):
    ready = latency.prepare_variant
    known: dict[int, Tensor] = {}

    def planted(name, module, inputs):
        if name != "bf16":
            return lambda x: time.sleep(0.002) or known.setdefault(len(x), ready("fp32", module, x)(x))
        return lambda x: wrong(known[len(x)])

    monkeypatch.setattr(latency, "prepare_variant", planted)
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"], "bf16")
    assert set(found.metadata["best"].values()) == {"fp32"}
    assert "from fp32, more than 0.05" in found.metadata["left_out"]["bf16"]
    assert found.metrics["latency/best_p50_ms_batch1"] == found.metrics["latency/p50_ms_batch1"]


def test_compiled_has_its_weights_as_constants():
    # Only then are normalisations folded into convolutions, and weights laid out as the processor likes them.
    from torch._inductor.utils import run_and_get_code

    given = predictor()
    with torch.no_grad():
        _, code = run_and_get_code(latency.prepare_variant, "fp32 channels_last compiled", given.module, given.example)
    assert "_frozen_param" in "".join(code)


def test_the_best_form_is_the_fastest_of_those_that_agree(monkeypatch):
    ready = latency.prepare_variant

    def planted(name, module, inputs):
        run, pause = ready("fp32", module, inputs), 0.001 if name == "bf16" else 0.01
        return lambda x: time.sleep(pause) or run(x)

    monkeypatch.setattr(latency, "prepare_variant", planted)
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"], "bf16")
    assert found.metadata["best"] == {"1": "bf16", "4": "bf16"}
    assert found.metrics["latency/best_p50_ms_batch4"] < found.metrics["latency/p50_ms_batch4"]


class Undecided(nn.Module):
    """Which way it goes depends on the data, so it cannot be exported."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)[:, :5]
        return flat if flat.sum() > 0 else -flat


def test_a_form_that_cannot_be_made_is_left_out_with_the_reason_and_the_others_stay():
    found = latency.measure_latency(predictor(Undecided()), CPU, latency.BUDGETS["full"])
    assert found.metadata["left_out"].keys() == {"fp32 exported"}
    assert "batch 1: " in found.metadata["left_out"]["fp32 exported"]
    assert "fp32 channels_last" in found.metadata["p50_ms"]["4"]


def test_a_form_that_is_too_slow_is_left_out(monkeypatch):
    monkeypatch.setitem(latency.BUDGETS, "quick", dataclasses.replace(latency.BUDGETS["quick"], limit_s=0.0))
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"])
    assert "longer than 0 s" in found.metadata["left_out"]["fp32"]
    assert found.metrics.keys() == {"latency/flops"}


class Slow(Device):
    def synchronise(self) -> None:
        time.sleep(0.005)


def test_the_device_is_waited_for_within_every_call_and_at_the_end_of_a_block_of_calls():
    model, slow = predictor(), Slow(CPU.torch)
    assert latency.measure_latency(model, slow, latency.BUDGETS["quick"]).metrics["latency/p50_ms_batch1"] >= 5
    assert latency.call_in_a_block(model.module, model.example, slow, seconds=0.04, call_s=0.01) >= 0.005 / 4


def test_examples_per_second_are_those_of_the_blocks_of_both_rounds(monkeypatch):
    blocks = iter([0.01, 0.01, 0.03, 0.01] * 2)  # fp32 and bf16, two rounds, two batch sizes
    monkeypatch.setattr(latency, "call_in_a_block", lambda *arguments: next(blocks))
    metrics = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"], "bf16").metrics
    assert metrics["latency/examples_per_s_batch4"] == pytest.approx(4 / 0.02)


def test_percentiles_need_enough_calls_and_noise_is_how_far_two_rounds_lie_apart(monkeypatch):
    rounds = iter([[0.002] * 60, [0.002] * 6, [0.003] * 60, [0.002] * 5] * 2)
    monkeypatch.setattr(latency, "single_calls", lambda *arguments: next(rounds))
    found = latency.measure_latency(predictor(), CPU, latency.BUDGETS["quick"], "bf16")
    assert found.metrics["latency/noise_percent"] == pytest.approx(50)
    assert found.metrics["latency/p99_ms_batch1"] == pytest.approx(3)
    assert found.metrics["latency/best_p50_ms_batch1"] == pytest.approx(2)
    assert "latency/best_p90_ms_batch1" in found.metrics
    assert "latency/best_p99_ms_batch1" not in found.metrics


def test_the_trained_model_is_left_as_it_was():
    model = predictor()
    before = {name: (value.clone(), value.stride()) for name, value in model.module.state_dict().items()}
    latency.measure_latency(model, CPU, latency.BUDGETS["quick"], "bf16 channels_last")
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert (value.dtype, value.stride()) == (before[name][0].dtype, before[name][1])


def trial(tmp_path: Path, task: Task, depth: str = "quick", device: Device = CPU) -> list[TrialReport]:
    return list(run_trial(Assignment("one", task, 1, 1, 0, tmp_path, 1e9, latency=depth), device))


def classification() -> Classification:
    values = yaml.safe_load((yamlfile.FOLDER / "task" / "classification.yaml").read_text())
    del values["class"]
    tiny = {"content": "sample", "train_limit": 32, "val_limit": 16, "widths": [4], "convolutions": 1, "dense": 8, "epochs": 1}
    return Classification(**values | tiny | {"precision": "bf16 channels_last", "seed": 0})


def test_a_finished_trial_has_its_latency_which_is_no_part_of_its_training_time(tmp_path):
    *_, measured, metadata, ended = trial(tmp_path, classification())
    assert ended.status == "finished"
    assert ended.metrics["latency/p50_ms_batch1"] > 0
    assert metadata.metadata["latency"]["p50_ms"]["1"].keys() == {"fp32", "bf16 channels_last"}
    assert metadata.metadata["latency"]["input"] == [3, 32, 32]
    assert not metadata.metrics
    assert ended.metrics["time/train_s"] == ended.elapsed_s == measured.elapsed_s


def test_a_trial_resumed_at_its_end_has_its_latency_too(tmp_path):
    trial(tmp_path, classification(), "none")
    *_, ended = trial(tmp_path, classification())
    assert ended.status == "finished"
    assert ended.metrics["latency/p50_ms_batch1"] > 0


@pytest.mark.parametrize(("depth", "device"), [("none", CPU), ("quick", Device(CPU.torch, rank=1, world_size=1))])
def test_nothing_is_measured_where_it_is_not_asked_for_or_by_another_than_the_first_worker(tmp_path, depth, device):
    assert not any(name.startswith("latency/") for name in trial(tmp_path, classification(), depth, device)[-1].metrics)


@pytest.mark.parametrize("what", ["nothing", "a broken model", "an error"])
def test_a_trial_never_fails_by_it(tmp_path, what, capsys):
    *_, before, ended = trial(tmp_path, Odd(seed=0, what=what))
    assert ended.status == "finished"
    assert not any(name.startswith("latency/") for name in ended.metrics)
    if what != "nothing":
        assert "no such model" in before.metadata["latency"]["not_measured"]


class Broken(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("no such model")


@dataclass(frozen=True, config=STRICT)
class Odd(Task):
    """Trains nothing, and hands over what cannot be timed."""

    what: str

    def run(self, device, resume=None) -> Iterator[Progress]:
        def hand_over() -> Predictor | None:
            if self.what == "an error":
                raise RuntimeError("no such model")
            return None if self.what == "nothing" else predictor(Broken())

        yield Progress(1, 1, dict, predictor=hand_over)
