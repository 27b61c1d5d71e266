"""Weights as files: safetensors, or PyTorch's own format without any code in it."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddl.data.integrity import Damaged

ENDINGS = (".safetensors", ".pth", ".pt")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors in a file, on the CPU. Raises Damaged where it is none, is cut off, or holds anything but tensors:
    what runs code when it is read is never read."""
    if not path.is_file():
        raise Damaged(f"{path}: there is no such file.")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    # PyTorch says of a broken file whatever its reader happens to stumble over.
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise Damaged(f"{path}: no file of weights alone, or cut off ({said}). Fetch it again.") from error
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise Damaged(f"{path}: holds something else than tensors by name. Save a module's state_dict.")
    return found
