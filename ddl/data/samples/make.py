"""Makes the bundled samples of images from the whole official data: python -m ddl.data.samples.make

Of each class the first examples in the official order, enough for 5,000 + 1,000 CIFAR-10 images and 10,000 + 2,000 MNIST
digits, as lossless WebP sheets beside this file, and their sha256 in manifest.json. Deterministic in what the sheets hold;
how small they are packed depends on the WebP library.
"""

import json

from ddl.data import image_sheets, sources
from ddl.data.splits import Split

PER_CLASS = {"cifar10": {"train": 500, "val": 100}, "mnist": {"train": 1000, "val": 200}}
COLUMNS = 100
"""Examples in a row of a sheet. A WebP image may be at most 16,383 pixels wide and high."""


def main() -> None:
    manifest: dict[str, str] = {}
    for name, sizes in PER_CLASS.items():
        data = sources.load_data_set(name, "full")
        if not data.origin.complete:
            raise SystemExit(f"{name}: {data.origin.source} is not the whole data, so no sample is made from it.")
        for split, per_class in sizes.items():
            chosen = image_sheets.in_turn(getattr(data, split), len(data.classes), per_class)
            manifest |= write(f"{name}-{split}.webp", chosen)
    image_sheets.MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")


def write(file: str, split: Split) -> dict[str, str]:
    """Write the sheet; its entry in the manifest."""
    path = image_sheets.FOLDER / file
    image_sheets.draw_sheet(split.inputs, COLUMNS).save(path, lossless=True, method=4, quality=100)
    print(f"{path}: {len(split):,} examples, {path.stat().st_size:,} bytes")
    return {file: image_sheets.split_fingerprint(split)}


if __name__ == "__main__":
    main()
