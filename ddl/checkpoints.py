"""Checkpoints of a trial: safetensors and a JSON manifest in a folder that is whole or absent.

No pickle is read, so a checkpoint from elsewhere can be wrong but cannot run code.
"""

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from ddl.progress import State

SCHEMA_VERSION = 1
KEEP = 2
"""Newest checkpoints kept: the newest, and the one to fall back on where the newest is damaged."""


def store(folder: Path, identity: str, step: int, state: State) -> None:
    """Write the state after `step` steps into `folder`, then drop all but the newest `KEEP`.

    `identity` names what it belongs to (the trial's id). After a crash or on a full disk the folder holds what it held
    before. Raises OSError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    tree = _split(state, "", tensors)
    content = save(tensors)
    manifest = {
        "schema": SCHEMA_VERSION,
        "identity": identity,
        "step": step,
        "sha256": hashlib.sha256(content).hexdigest(),
        "state": tree,
    }
    final = folder / f"step-{step:09d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write(partial / "state.safetensors", content)
        _write(partial / "manifest.json", json.dumps(manifest).encode())
        _sync_folder(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        _sync_folder(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in _newest_first(folder)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path, identity: str) -> tuple[int, State] | None:
    """(step, state) of the newest whole checkpoint in `folder`, its tensors on the CPU; None where there is none.

    A damaged one is named in a warning, set aside as `*.damaged`, and the next older one is taken.
    """
    for candidate in _newest_first(folder):
        try:
            return _load(candidate, identity)
        except (ValueError, KeyError, OSError, safetensors.SafetensorError) as error:
            aside = candidate.with_name(f"{candidate.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(candidate, aside)
            warnings.warn(f"{candidate}: not a good checkpoint ({error}); set aside as {aside.name}", stacklevel=2)
    return None


def _load(path: Path, identity: str) -> tuple[int, State]:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    if manifest["schema"] != SCHEMA_VERSION:
        raise ValueError(f"schema {manifest['schema']}, this version of ddl reads {SCHEMA_VERSION}")
    if manifest["identity"] != identity:
        raise ValueError(f"belongs to {manifest['identity']}, not to {identity}")
    content = (path / "state.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise ValueError("state.safetensors has another checksum than its manifest says")
    return manifest["step"], _join(manifest["state"], load(content))


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name[5:].isdigit()), reverse=True)


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved into `tensors` and named there by their path."""
    match value:
        case Tensor():
            tensors[name] = value.detach().cpu().contiguous()
            return {"tensor": name}
        case dict():
            assert all(isinstance(key, str) for key in value), f"{name}: keys of a state are strings"
            return {"items": {key: _split(item, f"{name}/{key}", tensors) for key, item in value.items()}}
        case list() | tuple():
            return {"list": [_split(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]}
        case None | bool() | int() | float() | str():
            return value
    raise AssertionError(f"{name}: a state holds no {type(value).__name__}")


def _join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "items" in tree:
        return {key: _join(item, tensors) for key, item in tree["items"].items()}
    if "list" in tree:
        return [_join(item, tensors) for item in tree["list"]]
    return tensors[tree["tensor"]]


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
