"""Tiny ImageNet, on an archive in its very layout with an image or two a class."""

import functools
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddl.data import sources
from ddl.data.integrity import Damaged
from ddl.data.sets import DATA_SETS
from ddl.data.sets.tinyimagenet import FILE, TINYIMAGENET

WNIDS = [f"n{10_000_000 + 7 * number}" for number in range(200)]


def picture(shade: int, mode: str = "RGB", side: int = 64) -> bytes:
    """A JPEG of one shade."""
    file = io.BytesIO()
    Image.fromarray(np.full((side, side), shade, dtype=np.uint8)).convert(mode).save(file, "JPEG", quality=95)
    return file.getvalue()


@functools.cache
def layout() -> dict[str, bytes]:
    """Two training images and one validation image a class; the shade tells class and split. wnids.txt is in no order."""
    files = {"wnids.txt": "\n".join(reversed(WNIDS)).encode(), "words.txt": b"n10000000\tentity\n"}
    annotations = []
    for number, wnid in enumerate(WNIDS):
        folder = f"train/{wnid}"
        files[f"{folder}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t0\t63\t63\n".encode()
        files[f"{folder}/images/{wnid}_0.JPEG"] = picture(number, "L" if number % 2 else "RGB")
        files[f"{folder}/images/{wnid}_10.JPEG"] = picture(number + 20)
        shuffled = 7 * number % 200
        files[f"val/images/val_{shuffled}.JPEG"] = picture(number + 40)
        annotations.append(f"val_{shuffled}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    files["val/val_annotations.txt"] = "".join(sorted(annotations)).encode()
    files["test/images/test_0.JPEG"] = picture(0)
    return files


def packed(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
    return file.getvalue()


Publish = Callable[[Mapping[str, bytes]], Path]


@pytest.fixture
def publish(tmp_path, monkeypatch) -> Publish:
    """Puts an archive of these files into the user's mirror, as the official one."""

    def publish(files: Mapping[str, bytes]) -> Path:
        content = packed(files)
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        monkeypatch.setitem(DATA_SETS, "tinyimagenet", replace(TINYIMAGENET, content={FILE: checksum}))
        path = tmp_path / "mirror" / "tinyimagenet" / FILE
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        monkeypatch.setenv("DDL_DATA_MIRROR", str(tmp_path / "mirror"))
        return path

    return publish


def test_every_image_has_its_class_by_the_layout_of_each_split(publish):
    publish(layout())
    data = sources.load_data_set("tinyimagenet", "full")
    assert data.origin.complete
    assert data.origin.fallback_for == ""
    assert data.train.inputs.shape == (400, 3, 64, 64)
    assert data.val.inputs.shape == (200, 3, 64, 64)
    assert data.train.targets.tolist() == [*range(200)] * 2, "class by class in turn"
    shades = data.train.inputs.float().mean((1, 2, 3))
    expected = torch.tensor([number + more for more in (0, 20) for number in range(200)]).float()
    torch.testing.assert_close(shades, expected, atol=1, rtol=0)
    torch.testing.assert_close(data.val.inputs.float().mean((1, 2, 3)), data.val.targets + 40.0, atol=1, rtol=0)
    assert sorted(data.val.targets.tolist()) == list(range(200))


def test_it_is_decoded_once(publish, forget, monkeypatch):
    publish(layout())
    sources.load_data_set("tinyimagenet", "full")
    forget()
    monkeypatch.setitem(DATA_SETS, "tinyimagenet", replace(TINYIMAGENET, decode=lambda content: pytest.fail("decoded again")))
    assert sources.load_data_set("tinyimagenet", "full").origin.complete


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"../evil.txt": b"x"}, "would leave the target folder"),
        ({"wnids.txt": b"n00000001\nn00000002\n"}, "wnids.txt does not name 200 classes"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn99999999\n"}, "names no image and class"),
        ({"val/val_annotations.txt": b"val_0.JPEG\n"}, "names no image and class"),
        ({"val/images/val_7.JPEG": picture(3, side=63)}, "63 x 63 pixels, not 64 x 64"),
        ({"val/images/val_7.JPEG": picture(3)[:300]}, "cannot be decoded"),
        ({"val/val_annotations.txt": None}, "not the layout of Tiny ImageNet"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be_is_refused(tmp_path, change, said):
    changed = {name: content for name, content in (layout() | change).items() if content is not None}
    (tmp_path / FILE).write_bytes(packed(changed))
    with pytest.raises(Damaged, match=said):
        TINYIMAGENET.decode(tmp_path)
    assert not list(tmp_path.parent.rglob("evil.txt"))


def test_cifar10_is_the_fallback_for_a_bad_archive(publish, caplog, monkeypatch):
    publish({"../evil.txt": b"x"})
    load = sources._load_data_set
    # All of CIFAR-10 would only take time here.
    monkeypatch.setattr(
        sources, "_load_data_set", lambda recipe, content, earliest: load(recipe, content if recipe.fallback else "sample", earliest)
    )
    origin = sources.load_data_set("tinyimagenet", "full").origin
    assert "would leave the target folder" in caplog.text
    assert (origin.name, origin.source, origin.complete, origin.fallback_for) == ("cifar10", "bundled sample", False, "tinyimagenet")


def test_cifar10_is_the_fallback_if_no_source_has_it(caplog):
    data = sources.load_data_set("tinyimagenet", "full")
    assert (data.origin.name, data.origin.fallback_for) == ("cifar10", "tinyimagenet")
    assert data.classes[0] == "airplane"
    assert "WARNING: tinyimagenet: using cifar10 instead of the full data set (" in caplog.text
    assert "no package has it" in caplog.text


def test_its_sample_is_that_of_the_fallback():
    data = sources.load_data_set("tinyimagenet", "sample")
    assert (data.origin.name, data.origin.source, data.origin.fallback_for) == ("cifar10", "bundled sample", "tinyimagenet")
    assert torch.equal(data.train.inputs, sources.load_data_set("cifar10", "sample").train.inputs)
