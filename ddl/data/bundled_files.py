"""Bundled texts and vectors: packed files that come with the package."""

import lzma
import shutil
from pathlib import Path

FOLDER = Path(__file__).parent / "samples"


def unpack_bundled(file: str, into: Path) -> None:
    """Write the bundled `file` into the folder `into`, unpacked if it is bundled as `file`.xz.

    Raises ValueError if it is missing or cannot be unpacked.
    """
    packed = FOLDER / f"{file}.xz"
    try:
        if packed.exists():
            (into / file).write_bytes(lzma.decompress(packed.read_bytes()))
        else:
            shutil.copyfile(FOLDER / file, into / file)
    except (FileNotFoundError, lzma.LZMAError) as error:
        raise ValueError(f"{FOLDER / file}: cannot be unpacked ({error}). Restore it from the repository.") from error
