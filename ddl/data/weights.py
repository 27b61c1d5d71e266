"""Reading weights: safetensors files, or PyTorch files that contain tensors only."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddl.data.integrity import Damaged


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors in a file, on the CPU.

    Raises Damaged if there is no such file, or it is cut off or contains anything but tensors. A file with code in it is
    refused without running the code.
    """
    if not path.is_file():
        raise Damaged(f"{path}: there is no such file.")
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    # For a broken file PyTorch raises any of these.
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise Damaged(f"{path}: not a file of weights only, or cut off ({reason}). Fetch it again.") from error
    if not isinstance(weights, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()):
        raise Damaged(f"{path}: not a dictionary of tensors by name. Save a module's state_dict.")
    return weights
