import pytest

from ddl.reports.statistics import Estimate
from ddl.reports.wording import cost, interval, key, metric, milestone, number, ranges
from ddl.units import duration, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.79481, "0.7948"), (0.004914, "0.00491"), (0.01, "0.0100"), (-0.5, "~0.5000"), (0.0, "0.0000"), (1.2e-5, "1.20e~05"), (92.731, "92.73"), (415.34, "415.3"), (9621.4, "9,621"), (6.8e40, "6.800e+40"),
        (None, "\N{EN DASH}"), (float("nan"), "NaN"), (float("-inf"), "~∞"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text.replace("~", "\N{MINUS SIGN}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (48, "48 s"), (59.7, "1 min"), (570, "9 min 30 s"), (3600, "1 h"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes_and_intervals():
    assert [size(512), size(1.5e8), size(2e15)] == ["512 B", "150.0 MB", "2000.0 TB"]
    assert interval(Estimate(3, 0.5, 0.4, 0.6)) == "[0.4000, 0.6000]"
    assert interval(Estimate(1, 0.5)) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val/accuracy", "validation accuracy"), ("best val/accuracy", "best validation accuracy"), ("last train/loss", "last training loss"),
        ("test/episode_return", "test episode return"), ("train/td_error", "training TD error"), ("val/psnr_db", "validation PSNR (dB)"), ("val/rmse_passengers", "validation RMSE passengers"), ("loss", "loss"),
        ("latency/p50_ms_batch1", "latency p50, batch 1 (ms)"), ("latency/p95_ms_batch_64", "latency p95, batch 64 (ms)"),
        ("time/images_per_s", "images / s"), ("time/train_s", "train time (s)"), ("device/energy_wh", "energy (Wh)"),
        ("device/gpu_utilisation_percent", "GPU utilisation (%)"), ("device/images_per_wh", "images / Wh"), ("elapsed_s", "training time"),
        ("parameters", "parameters"), ("train/episodes_to_solved", "episodes to solved"), ("val/iou/cat", "validation iou/cat"),
        ("", ""), ("val/", "validation "), ("/", " "),
    ],
)  # fmt: skip
def test_names(name, text):
    assert metric(name).strip() == text.strip()


def test_milestones_costs_and_hyperparameters():
    assert [milestone("train/episodes_to_solved"), milestone("time/solved_s")] == ["episodes to solved", "time to solved (s)"]
    assert [cost(125.0, "elapsed_s"), cost(1e6, "parameters"), cost(0.25, "latency/p50_ms"), cost(None, "parameters")] == [
        "2 min 5 s", "1,000,000", "0.2500", "\N{EN DASH}",
    ]  # fmt: skip
    assert [key("task.weight_decay"), key("launch.x")] == ["weight decay", "launch.x"]
    assert ranges([0, 1, 2, 4, 6, 7]) == "0\N{EN DASH}2, 4, 6, 7"
