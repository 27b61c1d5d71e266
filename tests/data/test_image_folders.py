"""A folder of the user's own images: its layout, its split, how images are decoded, and the cache."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddl import launch
from ddl.data import image_folders
from ddl.data.image_folders import load_image_folder
from ddl.data.image_listing import list_images
from ddl.data.integrity import Damaged
from ddl.data.shapes import DEFAULT_SIZE
from ddl.data.splits import held_out

SIZE = 8


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a user: in the folder that has the data set, in a process that has loaded nothing."""
    monkeypatch.chdir(tmp_path)
    image_folders._load.cache_clear()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded from here on."""
    names = []
    original = image_folders._decode
    monkeypatch.setattr(image_folders, "_decode", lambda root, file, into: names.append(file.name) or original(root, file, into))
    return names


def image(path: str, colour: object = (200, 100, 0), size: tuple[int, int] = (12, 10), mode: str = "RGB", **options: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def photos(classes: Sequence[str] = ("cat", "dog"), count: int = 5, root: str = "photos", ending: str = "png") -> None:
    for label, name in enumerate(classes):
        for number in range(count):
            image(f"{root}/{name}/{number}.{ending}", (100 * label, 10 * number, 50))


def names(part: Sequence[object]) -> list[str]:
    return [file.name for file in part]


def test_each_trial_and_each_order_of_files_has_the_same_stratified_split():
    photos(("cat", "dog", "fish"), 10)
    folder = list_images("photos")
    assert folder.classes == ("cat", "dog", "fish")
    assert not folder.separate
    assert [sum(file.label == label for file in folder.train) for label in range(3)] == [8, 8, 8]
    assert [sum(file.label == label for file in folder.val) for label in range(3)] == [2, 2, 2]
    assert len({*names(folder.train), *names(folder.val)}) == 30
    assert [file.label for file in folder.train[:6]] == [0, 1, 2, 0, 1, 2]
    assert list_images("photos") == folder


def test_a_new_image_moves_few_others_to_the_other_split():
    files = [f"cat/{number}.png" for number in range(100)]
    before = held_out(files, [0] * 100)
    after = held_out([*files, "cat/new.png"], [0] * 101)
    assert sum(before) == sum(after) == 20
    assert sum(a != b for a, b in zip(before, after[:100], strict=True)) <= 1


@pytest.mark.parametrize(("images", "validate"), [(2, 1), (4, 1), (7, 1), (8, 2), (100, 20)])
def test_at_least_one_image_of_each_class_is_held_out(images, validate):
    assert sum(held_out([f"cat/{number}.png" for number in range(images)], [0] * images)) == validate


def test_the_users_own_splits_are_kept():
    photos(root="photos/train", count=3)
    photos(root="photos/val", count=2)
    image("photos/test/cat/1.png")
    folder = list_images("photos")
    assert folder.separate
    assert names(folder.train) == [f"train/{name}/{number}.png" for number in range(3) for name in ("cat", "dog")]
    assert names(folder.val) == [f"val/{name}/{number}.png" for number in range(2) for name in ("cat", "dog")]
    assert folder.ignored == ("test/",)


def test_a_class_may_be_named_like_a_split():
    photos(("car", "train"))
    assert list_images("photos").classes == ("car", "train")


def test_all_endings_are_read_and_clutter_is_not(tmp_path):
    for number, ending in enumerate(("png", "PNG", "jpg", "JPG", "jpeg", "Jpeg", "webp", "WebP")):
        for name in ("cat", "dog"):
            image(f"photos/{name}/{number}.{ending}")
    for clutter in ("photos/.DS_Store", "photos/cat/.DS_Store", "photos/cat/._0.png", "photos/dog/Thumbs.db", "photos/desktop.ini"):
        Path(clutter).write_bytes(b"clutter")
    image("photos/.ipynb_checkpoints/0.png")
    image("photos/__MACOSX/0.png")
    image("photos/dog/old.bmp")
    folder = list_images("photos")
    assert folder.classes == ("cat", "dog")
    assert len(folder.train) + len(folder.val) == 16
    assert folder.ignored == ("dog/old.bmp",)
    assert load_image_folder("photos", SIZE).origin.source == "image folder with 2 classes: cat, dog; not read: dog/old.bmp"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "photos: there is no such folder in {cwd}."),
        (lambda: Path("photos").write_bytes(b"zip"), "photos: is a file. Unpack it, and name the folder."),
        (lambda: Path("photos").mkdir(), "photos: has no class folders. Put the images of each class into a folder of its own"),
        (lambda: image("photos/1.png"), "photos: has no class folders, but 1 images. Put"),
        (lambda: photos(("cat",)), "photos: has only one class, cat."),
        (lambda: photos() or image("photos/fish/1.png"), "photos: the class fish has only one image. Add more: one is used"),
        (lambda: photos() or Path("photos/fish").mkdir(), "photos: the class folder fish/ has no PNG, JPEG or WebP images."),
        (lambda: photos() or image("photos/fish/1.bmp"), "the class folder fish/ has no PNG, JPEG or WebP images, but fish/1.bmp"),
        (
            lambda: photos(root="photos/training") or photos(root="photos/test"),
            "the class folder test/ has no .*, but test/cat/, test/dog/",
        ),
        (lambda: photos(root="photos/train") or photos(root="photos/test"), r"has train/ with class folders, but no val/ with them\."),
        (lambda: photos(root="photos/val"), "has val/ with class folders, but no train/"),
        (
            lambda: photos(root="photos/train") or photos(("cat", "dog", "fish"), root="photos/val"),
            r"photos: val/ has the class fish, which train/ lacks\.",
        ),
        (
            lambda: photos(("cat", "dog", "fish"), root="photos/train") or photos(root="photos/val"),
            r"photos: train/ has the class fish, which val/ lacks\.",
        ),
    ],
)
def test_a_folder_with_another_layout_is_refused(make: Callable[[], object], said: str, tmp_path: Path) -> None:
    make()
    with pytest.raises(ValueError, match=said.format(cwd=tmp_path)):
        load_image_folder("photos", SIZE)


def test_the_shorter_side_is_resized_and_the_longer_one_cropped_at_both_ends():
    photos()
    wide = Image.new("RGB", (40, 16), "red")
    wide.paste("blue", (10, 0, 30, 16))
    wide.save("photos/cat/0.png")
    wide.transpose(Image.Transpose.ROTATE_90).save("photos/cat/1.png")
    folder, data = list_images("photos"), load_image_folder("photos", SIZE)
    inputs = dict(zip(names([*folder.train, *folder.val]), [*data.train.inputs, *data.val.inputs], strict=True))
    for number in (0, 1):
        assert inputs[f"cat/{number}.png"].shape == (3, SIZE, SIZE)
        assert inputs[f"cat/{number}.png"].flatten(1).unique(dim=1).T.tolist() == [[0, 0, 255]]
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.targets.tolist() == [file.label for file in folder.train]
    assert inputs["dog/3.png"][:, 0, 0].tolist() == [100, 30, 50]


def test_a_photograph_is_turned_as_its_camera_noted_and_transparency_becomes_white():
    photos()
    picture = Image.new("RGB", (16, 16), "black")
    picture.paste("white", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is on the right
    picture.save("photos/cat/turned.png", exif=exif)
    image("photos/cat/clear.webp", (255, 0, 0, 0), mode="RGBA", lossless=True)
    folder, data = list_images("photos"), load_image_folder("photos", SIZE)
    inputs = dict(zip(names([*folder.train, *folder.val]), [*data.train.inputs, *data.val.inputs], strict=True))
    turned = inputs["cat/turned.png"].float()
    assert turned[:, :, SIZE // 2 :].mean() > 240 > 15 > turned[:, :, : SIZE // 2].mean()
    assert (inputs["cat/clear.webp"] == 255).all()


def test_a_large_jpeg_is_decoded_like_the_same_image_in_full():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (3, 3, 3), dtype=np.uint8)).resize((400, 300), Image.Resampling.BICUBIC)
    photos()
    smooth.save("photos/cat/large.jpg", quality=95)
    smooth.save("photos/cat/large.png")
    folder, data = list_images("photos"), load_image_folder("photos", 16)
    inputs = dict(zip(names([*folder.train, *folder.val]), [*data.train.inputs, *data.val.inputs], strict=True))
    assert (inputs["cat/large.jpg"].float() - inputs["cat/large.png"].float()).abs().mean() < 3


def test_images_are_grey_only_if_all_files_are(decoded):
    for name in ("cat", "dog"):
        for number in range(5):
            image(f"photos/{name}/{number}.jpg", 50 * number, mode="L")
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save("photos/cat/deep.png")
    folder, data = list_images("photos"), load_image_folder("photos", SIZE)
    inputs = dict(zip(names([*folder.train, *folder.val]), [*data.train.inputs, *data.val.inputs], strict=True))
    assert data.train.inputs.shape[1] == len(data.mean) == len(data.std) == 1
    assert inputs["cat/deep.png"].unique().tolist() == [40_000 // 256]
    image("photos/cat/colour.png")
    assert load_image_folder("photos", SIZE).train.inputs.shape[1] == 3


def test_mean_and_deviation_are_those_of_the_training_images():
    photos(root="photos/train", count=6)
    photos(root="photos/val", count=3)
    data = load_image_folder("photos", SIZE)
    pixels = data.train.inputs.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.std[:2] == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist()[:2])
    assert data.std[2] == pytest.approx(1 / 255)  # equal pixels
    assert not torch.allclose(data.val.inputs.double().mean((0, 2, 3)) / 255, torch.tensor(data.mean, dtype=torch.float64), atol=1e-3)


def test_all_broken_images_are_named():
    photos(count=8)
    whole = Path("photos/cat/0.png").read_bytes()
    image("photos/dog/whole.jpg", size=(200, 200))
    image("photos/dog/whole.webp", size=(200, 200))
    Path("photos/cat/1.png").write_bytes(whole[: len(whole) // 2])
    Path("photos/cat/2.png").write_bytes(b"")
    Path("photos/cat/3.png").write_text("<!doctype html>")
    Path("photos/cat/4.png").unlink()
    Path("photos/cat/4.png").symlink_to("nowhere.png")
    for ending in ("jpg", "webp"):
        content = Path(f"photos/dog/whole.{ending}").read_bytes()
        Path(f"photos/dog/cut.{ending}").write_bytes(content[: len(content) // 3])
    image("photos/dog/gif.png", format="GIF")
    Path("photos/dog/5.png").write_bytes(whole.replace(b"IDAT", b"IDAX"))
    with pytest.raises(Damaged) as error:
        load_image_folder("photos", SIZE)
    said = str(error.value)
    broken = ["cat/1.png", "cat/2.png", "cat/3.png", "cat/4.png", "dog/cut.jpg", "dog/cut.webp", "dog/gif.png", "dog/5.png"]
    assert "8 of 21 images cannot be decoded. Replace or remove" in said
    assert all(f"{name} (" in said for name in broken)
    assert "cat/3.png (not a PNG, JPEG or WebP image)" in said
    for name in broken:
        Path("photos", name).unlink()
    assert len(load_image_folder("photos", SIZE).train)


def test_an_absurdly_large_image_is_a_broken_one(monkeypatch):
    photos()
    image("photos/cat/huge.png", size=(400, 400))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(Damaged, match=r"1 of 11 images .* cat/huge.png \(Image size \(160000 pixels\) exceeds limit"):
        load_image_folder("photos", SIZE)


def test_a_second_process_decodes_nothing(decoded):
    photos()
    first = load_image_folder("photos", SIZE)
    assert len(decoded) == 10
    image_folders._load.cache_clear()
    second = load_image_folder(str(Path("photos").absolute()), SIZE)
    assert len(decoded) == 10
    assert second.origin == first.origin
    assert torch.equal(second.train.inputs, first.train.inputs)
    assert (second.mean, second.std, second.classes) == (first.mean, first.std, first.classes)


def test_a_changed_folder_and_another_size_are_decoded_again(decoded):
    photos()
    first = load_image_folder("photos", SIZE)
    assert load_image_folder("photos", 2 * SIZE).train.inputs.shape[-1] == 2 * SIZE
    assert len(decoded) == 20
    image("photos/cat/0.png", "black", compress_level=0)
    before, black = Path("photos/cat/0.png").stat(), load_image_folder("photos", SIZE).origin.sha256
    image("photos/cat/0.png", "white", compress_level=0)
    assert Path("photos/cat/0.png").stat().st_size == before.st_size
    os.utime("photos/cat/0.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert len({first.origin.sha256, black, load_image_folder("photos", SIZE).origin.sha256}) == 3
    assert len(decoded) == 40
    os.rename("photos/cat/1.png", "photos/cat/9.png")
    load_image_folder("photos", SIZE)
    assert len(decoded) == 50


def test_equal_images_in_another_folder_have_an_equal_sha256():
    photos()
    photos(root="again")
    assert load_image_folder("photos", SIZE).origin.sha256 == load_image_folder("again", SIZE).origin.sha256


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[:-1] + bytes([content[-1] ^ 1])])
def test_a_damaged_cache_is_decoded_again(decoded, damage, tmp_path):
    photos()
    sha256 = load_image_folder("photos", SIZE).origin.sha256
    (file,) = (tmp_path / "cache" / "folder").glob("*/images.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    image_folders._load.cache_clear()
    assert load_image_folder("photos", SIZE).origin.sha256 == sha256
    assert len(decoded) == 20


def test_more_images_than_fit_into_memory_are_refused():
    photos()
    with pytest.raises(ValueError, match=r"10 images of 9000000 x 9000000 pixels take .* TB, and .* free"):
        load_image_folder("photos", 9_000_000)


def test_prepare_data_prints_the_data_set_and_fills_the_cache(decoded, capsys):
    photos(("cat", "dog"), 10)
    image("photos/dog/long.jpg", size=(30, 200))
    Path("photos/notes.txt").write_text("none")
    assert launch.main(["--prepare-data", "folder:photos"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "photos: 2 classes, 17 training and 4 validation images, a fifth of each class is used for validation",
        "  cat  8 train, 2 val",
        "  dog  9 train, 2 val",
        "  not read: notes.txt",
        "  colour images, 12 to 30 pixels wide and 10 to 200 high",
    ]
    assert "of another size" in lines[-1]
    assert len(decoded) == 21
    image_folders._load.cache_clear()
    assert launch.main(["--prepare-data", "folder:photos"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    load_image_folder("photos", DEFAULT_SIZE)
    assert len(decoded) == 21


def test_prepare_data_names_broken_images_after_the_counts(capsys):
    photos()
    Path("photos/cat/2.png").write_bytes(b"")
    assert launch.main(["--prepare-data", "folder:photos"]) == launch.BAD_INPUT
    output = capsys.readouterr()
    assert "  cat  4 train, 1 val" in output.out
    assert "cat/2.png (" in output.err
    assert launch.main(["--prepare-data", "folder:missing"]) == launch.BAD_INPUT
    assert "missing: there is no such folder in" in capsys.readouterr().err
