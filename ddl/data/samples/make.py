"""Script that makes the bundled image samples from the full official data: python -m ddl.data.samples.make

Takes the first examples of each class in the official order: 5,000 + 1,000 CIFAR-10 images and 10,000 + 2,000 MNIST digits.
Writes them as lossless WebP sheets to this folder, with their sha256 in manifest.json. The examples are deterministic; the
size of the files depends on the WebP library.
"""

import json

from ddl.data import image_sheets, sources

PER_CLASS = {"cifar10": {"train": 500, "val": 100}, "mnist": {"train": 1000, "val": 200}}
COLUMNS = 100
"""Examples in a row of a sheet. A WebP image may be at most 16,383 pixels wide and high."""


def main() -> None:
    """Make all sheets and the manifest."""
    manifest: dict[str, str] = {}
    for name, sizes in PER_CLASS.items():
        data = sources.load_data_set(name, "full")
        if not data.origin.complete:
            raise SystemExit(f"{name}: {data.origin.source} is not the full data set. A sample is made from the full data set only.")
        for split, per_class in sizes.items():
            examples = image_sheets.in_turn(getattr(data, split), len(data.classes), per_class)
            path = image_sheets.FOLDER / f"{name}-{split}.webp"
            image_sheets.draw_sheet(examples.inputs, COLUMNS).save(path, lossless=True, method=4, quality=100)
            print(f"{path}: {len(examples):,} examples, {path.stat().st_size:,} bytes")
            manifest[path.name] = image_sheets.split_fingerprint(examples)
    image_sheets.MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
