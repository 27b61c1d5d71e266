"""Sweeps over the user's own images and tables: one YAML file each, and no Python."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ddl import launch
from ddl.config import ConfigError
from ddl.data import image_folders
from ddl.devices import Device
from ddl.ledger_reader import LedgerReader
from ddl.run import resume, run_sweep
from ddl.run_results import Run
from ddl.tasks.loading import RecordedTasks, Untrusted
from tests.docs import pages
from tests.ledgers import edited_ledger
from tests.tasks.steps import make_task

PAGE = pages.files(pages.ROOT / "docs" / "how-to" / "your-own-data.md")
PHOTOS, TABLE = PAGE["photos.yaml"], PAGE["houses.yaml"]
"""The sweeps as the page prints them."""
SMALL = ("task.widths=[4]", "task.convolutions=1", "task.dense=8", "task.batch_size=8", "task.epochs=3", "seeds=2")
SMALL_TABLE = ("task.hidden=[8]", "task.batch_size=8", "task.epochs=3", "seeds=2")
FAST = ("latency=none", "wandb.mode=disabled", "stack=off", "resources.cpus=1")


@pytest.fixture(autouse=True)
def in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    image_folders._load.cache_clear()


def photos(endings: tuple[str, ...] = ("png", "jpg", "webp"), mode: str = "RGB", root: str = "photos") -> None:
    """Dark cats, bright dogs and noisy fish."""
    rng = np.random.default_rng(0)
    for name, level, noise in (("cat", 60, 5), ("dog", 190, 5), ("fish", 120, 60)):
        Path(root, name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.normal(level, noise, (40 + number, 50, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert(mode).save(Path(root, name, f"{number}.{endings[number % len(endings)]}"))


def houses(rows: int = 60) -> None:
    rng = np.random.default_rng(0)
    area, age = rng.uniform(50, 200, rows), rng.integers(0, 90, rows)
    pd.DataFrame({"area": area, "age": age, "price": 3000 * area - 500 * age}).to_parquet("houses.parquet")


def sweep(content: str, *overrides: str, name: str = "mine") -> Run:
    Path(f"{name}.yaml").write_text(content)
    return run_sweep(f"{name}.yaml", overrides=[*FAST, *overrides], scale="smoke", executor="inline")


def metrics(run: Run) -> list[tuple[str, int, float]]:
    """(configuration, seed, last value of the sweep's metric) of each finished trial."""
    frame = run.results
    assert set(frame.status) == {"finished"}
    column = next(name for name in frame if name in ("val/accuracy", "val/rmse"))
    return sorted(zip(frame.configuration, frame.seed, frame[column], strict=True))


def resumed_run(run: Run) -> Run:
    """The run after its last trial has lost its results, as if the sweep had been interrupted before that, and a resume."""
    last = run.trials[-1].trial_id
    with edited_ledger(run.folder) as connection:
        connection.execute("UPDATE trials SET status = 'planned', metadata = '{}' WHERE trial_id = ?", (last,))
        connection.execute("DELETE FROM metrics WHERE trial_id = ?", (last,))
    shutil.rmtree(run.folder / "trials" / last)
    return resume(run.folder)


def test_a_sweep_over_photos_names_the_classes_and_resumes(capsys):
    photos()
    run = sweep(PHOTOS, *SMALL, "task.precision=fp32")
    found = metrics(run)
    assert len(found) == 4
    assert max(value for *_, value in found) > 0.5
    (metadata,) = [trial.metadata for trial in run.trials[:1]]
    assert metadata["classes"] == ["cat", "dog", "fish"]
    assert (metadata["data"]["train"], metadata["data"]["val"]) == (24, 6)
    assert "image folder with 3 classes: cat, dog, fish" in run.report.read_text()
    assert "image folder with 3 classes: cat, dog, fish" in " ".join(capsys.readouterr().out.split())
    assert LedgerReader(run.folder).run()["files"] == ["photos"]
    assert metrics(resumed_run(run)) == found


def test_a_sweep_over_a_table_runs_and_resumes():
    houses()
    run = sweep(TABLE, *SMALL_TABLE)
    found = metrics(run)
    assert len(found) == 4
    assert "houses.parquet, table with 2 features" in run.report.read_text()
    assert {"val/loss", "val/r2", "val/rmse", "train/loss"} <= set(run.results)
    assert metrics(resumed_run(run)) == found


def test_a_linear_model_learns_a_linear_table():
    houses(200)
    run = sweep(TABLE, "seeds=1", "task.lr=0.03", "task.epochs=40", "task.batch_size=8", "task.hidden=[]")
    assert run.results["val/r2"].item() > 0.999
    assert run.results["val/rmse"].item() < 3000  # the prices' standard deviation is 130,000


def test_a_classification_of_a_table_names_its_classes():
    houses()
    table = pd.read_parquet("houses.parquet")
    table.assign(price=np.where(table.price > table.price.median(), "dear", "cheap")).to_parquet("houses.parquet")
    run = sweep(
        TABLE.replace("val/rmse, mode: min", "val/accuracy, mode: max"),
        "seeds=1",
        "task.kind=classification",
        "task.epochs=20",
        "task.batch_size=8",
    )
    assert max(value for *_, value in metrics(run)) > 0.8
    assert "2 classes: cheap, dear" in run.report.read_text()


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_the_networks_follow_the_images_and_classes(mode, channels):
    photos(("png", "jpg"), mode)
    tiny = {"seed": 0, "data_set": "folder", "path": "photos", "batch_size": 16, "epochs": 1, "precision": "fp32"}
    task = make_task("classification", **tiny, image_size=24, widths=[4, 4], augmentation="light")
    *_, last = task.run(Device(torch.device("cpu")))
    predictor = last.predictor()
    assert predictor.example.shape == (1, channels, 24, 24)
    assert predictor.module(predictor.example).shape == (1, 3)
    transfer = make_task("transfer", **tiny, size=32, network="efficientnet_lite0", weights="none")
    *_, last = transfer.run(Device(torch.device("cpu")))
    predictor = last.predictor()
    assert predictor.example.shape == (1, channels, 32, 32)
    assert predictor.module(predictor.example).shape == (1, 3)
    assert transfer.files() == ("photos",)
    assert dict(last.metrics)["val/accuracy"] <= 1


def broken() -> None:
    photos()
    Path("photos/dog/0.png").write_bytes(b"no image")


def not_a_number() -> None:
    houses()
    table = pd.read_parquet("houses.parquet")
    table.assign(area=table.area.where(table.index != 7)).to_parquet("houses.parquet")


@pytest.mark.parametrize(
    ("content", "make", "said"),
    [
        (PHOTOS, broken, "1 of 30 images cannot be decoded. Replace or remove dog/0.png (not a PNG, JPEG or WebP image)."),
        (PHOTOS, lambda: None, "mine: reads photos, but there is no such file or folder in"),
        (TABLE, not_a_number, "houses.parquet: row 7 of area is"),
        (TABLE, lambda: None, "mine: reads houses.parquet, but there is no such file or folder in"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_before_anything_is_trained(content: str, make: Callable[[], None], said: str) -> None:
    make()
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        sweep(content, "seeds=1", "task.lr=0.01")
    assert "Traceback" not in str(caught.value)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({", task.path: photos": ""}, "task.path: missing. With task.data_set=folder, set task.path to the folder of your images."),
        ({"task.data_set: folder, ": ""}, "mine.yaml:6: task.path: 'photos' is not read by task.data_set=cifar10"),
        ({"task.path: photos": "task.path: photos, task.image_size: 1"}, "task.image_size: 1 x 1 pixels cannot be halved by 3 blocks"),
    ],
)
def test_hyperparameters_that_do_not_fit_together_are_reported_before_anything_starts(changed, said, capsys):
    content = PHOTOS
    for old, new in changed.items():
        content = content.replace(old, new)
    Path("mine.yaml").write_text(content)
    assert launch.main(["--sweep", "mine.yaml", "--scale", "smoke", "--executor", "inline"]) == launch.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("path", "target", "said"),
    [
        ("", "", "task.path: '' is not the name of a table. Name a file that ends in .npz or .parquet."),
        ("houses.csv", "", "'houses.csv' is not the name of a table"),
        ("houses.parquet", "", "task.target: missing. Name the column"),
        ("houses.npz", "price", "task.target: 'price' names a column of a Parquet file"),
        ("houses.npz", "price", "remove task.target, or empty it with task.target= on the command line."),
    ],
)
def test_the_table_and_its_target_fit_together(path, target, said, capsys):
    content = TABLE.replace("task.path: houses.parquet, task.target: price", f"task.path: '{path}', task.target: '{target}'")
    Path("mine.yaml").write_text(content)
    assert launch.main(["--sweep", "mine.yaml", "--scale", "smoke", "--executor", "inline"]) == launch.BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("classification", {"data_set": "folder", "path": "photos"}),
        ("transfer", {"data_set": "folder", "path": "photos", "weights": "none"}),
        ("tabular", {"path": "houses.npz"}),
    ],
)
def test_a_run_from_elsewhere_reads_no_data_of_the_users(task, given, tmp_path):
    photos()
    built = make_task(task, seed=0, **given)
    record = {"task_class": f"{type(built).__module__}.{type(built).__qualname__}", "files": [given["path"]]}
    values = {name: getattr(built, name) for name in vars(built) if not name.startswith("_")}
    with pytest.raises(Untrusted, match="--trust"):
        RecordedTasks(record, tmp_path / "ledger.sqlite", trust=False).build(values)
    assert RecordedTasks(record, tmp_path / "ledger.sqlite", trust=True).build(values) == built
