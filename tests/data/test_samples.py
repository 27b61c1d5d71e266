import json

import pytest
import torch
from PIL import Image

from ddl.data import image_sheets, sources
from ddl.data.sets import DATA_SETS
from ddl.data.splits import Split

SIZES = {"cifar10": (5_000, 1_000), "mnist": (10_000, 2_000)}


@pytest.mark.parametrize("name", SIZES)
def test_a_sample_is_what_it_says(name, tmp_path):
    recipe = DATA_SETS[name]
    data = sources.load_data_set(name, "sample")
    for split, size in zip((data.train, data.val), SIZES[name], strict=True):
        assert split.inputs.shape == (size, *recipe.shape)
        assert split.inputs.dtype == torch.uint8
        assert split.inputs.is_contiguous()
        assert split.targets.dtype == torch.int64
        assert split.targets.bincount().tolist() == [size // 10] * 10
    assert (data.origin.name, data.origin.source, data.origin.fallback_for) == (name, "bundled sample", "")
    assert not data.origin.complete
    assert (data.classes, data.mean, data.std) == (recipe.classes, recipe.mean, recipe.std)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", SIZES)
def test_a_sample_has_the_statistics_of_the_real_thing(name):
    data = sources.load_data_set(name, "sample")
    values = data.train.inputs.float() / 255
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.tensor(data.mean), atol=0.01, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), torch.tensor(data.std), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", SIZES)
def test_no_sample_image_is_validated_on_that_was_trained_on(name):
    data = sources.load_data_set(name, "sample")
    trained = {image.numpy().tobytes() for image in data.train.inputs}
    assert not any(image.numpy().tobytes() in trained for image in data.val.inputs)


def test_all_samples_are_small_enough_to_be_bundled():
    files = list(image_sheets.FOLDER.glob("*.webp"))
    assert {path.name for path in files} == set(json.loads(image_sheets.MANIFEST.read_text()))
    assert sum(path.stat().st_size for path in files) <= 20_000_000


def test_the_first_of_each_class_in_turn():
    targets = torch.tensor([1, 1, 0, 2, 0, 1, 2, 0, 2])
    split = Split(torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1), targets)
    chosen = image_sheets.in_turn(split, classes=3, per_class=2)
    assert chosen.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert chosen.inputs.flatten().tolist() == [2, 0, 3, 4, 1, 6]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_gives_back_every_pixel(tmp_path, channels):
    inputs = torch.randint(0, 256, (12, channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    split = Split(inputs, torch.arange(12) % 4)
    path = tmp_path / "sheet.webp"
    image_sheets.draw_sheet(inputs, columns=6).save(path, lossless=True)
    found = image_sheets.read_sheet(path, 4, (channels, 5, 7), image_sheets.split_fingerprint(split))
    assert torch.equal(found.inputs, inputs)
    assert torch.equal(found.targets, split.targets)


@pytest.mark.parametrize("damage", ["a pixel", "cut off", "not an image", "absent"])
def test_a_damaged_sheet_is_refused(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(image_sheets, "FOLDER", tmp_path)
    for file in ("mnist-train.webp", "mnist-val.webp"):
        whole = (image_sheets.MANIFEST.parent / file).read_bytes()
        (tmp_path / file).write_bytes(whole)
    victim = tmp_path / "mnist-val.webp"
    match damage:
        case "a pixel":
            with Image.open(victim) as image:
                altered = image.convert("RGB")
            altered.putpixel((3, 3), (1, 2, 3))
            altered.save(victim, lossless=True)
        case "cut off":
            victim.write_bytes(victim.read_bytes()[:100_000])
        case "not an image":
            victim.write_bytes(b"<html>")
        case "absent":
            victim.unlink()
    with pytest.raises(ValueError, match=r"mnist-val.webp: the bundled sample .*Restore it"):
        sources.load_data_set("mnist", "sample")
