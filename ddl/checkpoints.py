"""Checkpoints of a trial: safetensors and a JSON manifest in a folder that is complete or absent.

Nothing is unpickled, so a checkpoint from an untrusted source can be wrong but cannot run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from ddl import durable
from ddl.progress import State

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1
KEEP = 2
"""Number of checkpoints kept: the newest, and one to fall back on if the newest is damaged."""


def store(folder: Path, identity: str, step: int, state: State, keep_from: int | None = None) -> None:
    """Write the state after `step` steps into `folder`, then remove all but the newest `KEEP` checkpoints and those from step `keep_from`.

    `identity` is the trial's id. After a crash, or if the disk is full, the folder holds what it held before. Raises OSError if
    the checkpoint cannot be written, and TypeError if the state holds an object that a checkpoint cannot hold.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    tree = _split(state, "", tensors)
    content = save(_unshare_memory(tensors))
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"schema": SCHEMA_VERSION, "identity": identity, "step": step, "state": tree}
    manifest["sha256"] = _checksum(manifest, content)
    final = folder / f"step-{step:09d}"
    former = folder / f"{final.name}.former"
    partial = folder / f"{final.name}.partial"
    for leftover in folder.glob("*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        durable.write_file(partial / "state.safetensors", content)
        durable.write_file(partial / "manifest.json", json.dumps(manifest).encode())
        durable.sync(partial)
        if final.exists():
            shutil.rmtree(former, ignore_errors=True)
            os.rename(final, former)
        os.rename(partial, final)
        durable.sync(folder)
    except OSError:
        if former.exists() and not final.exists():
            with contextlib.suppress(OSError):  # `newest` also finds it under its former name
                os.rename(former, final)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(former, ignore_errors=True)
    for old in _newest_first(folder)[KEEP:]:
        if keep_from is None or _step(old) < keep_from:
            shutil.rmtree(old, ignore_errors=True)


def take_over(folder: Path, identity: str, other: Path, other_identity: str, step: int) -> bool:
    """Replace all checkpoints in `folder` by the newest good one of another trial up to `step`; False if that trial has none."""
    checkpoint = newest(other, other_identity, step)
    if checkpoint is None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    store(folder, identity, *checkpoint)
    return True


def newest(folder: Path, identity: str, up_to: int | None = None) -> tuple[int, State] | None:
    """(step, state) of the newest good checkpoint in `folder`, up to a step, with tensors on the CPU; None if there is none.

    A damaged checkpoint is renamed to `*.damaged` with a warning, and the next older one is used.
    """
    for candidate in _newest_first(folder):
        if up_to is not None and _step(candidate) > up_to:
            continue
        try:
            return _load(candidate, identity)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, safetensors.SafetensorError) as error:
            aside = candidate.with_name(f"{candidate.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(candidate, aside)
            warnings.warn(f"{candidate}: damaged checkpoint ({error}); renamed to {aside.name}", stacklevel=2)
    return None


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in `folder`, which may be damaged; 0 if there is none."""
    return max(map(_step, _newest_first(folder)), default=0)


def _load(path: Path, identity: str) -> tuple[int, State]:
    from safetensors.torch import load

    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    if manifest["schema"] != SCHEMA_VERSION:
        raise ValueError(f"schema {manifest['schema']}, this version of ddl reads {SCHEMA_VERSION}")
    if manifest["identity"] != identity:
        raise ValueError(f"belongs to {manifest['identity']}, not to {identity}")
    content = (path / "state.safetensors").read_bytes()
    if _checksum(manifest, content) != manifest["sha256"]:
        raise ValueError("the checksum of its content differs from its manifest's")
    return manifest["step"], _join(manifest["state"], load(content))


def _checksum(manifest: dict[str, Any], content: bytes) -> str:
    """The sha256 of the manifest (without its own checksum), which holds the state's numbers, and of `content`, the tensors."""
    named = json.dumps({key: value for key, value in manifest.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(named.encode() + content).hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    """Every checkpoint, newest first. If a step was written twice, the later one precedes the former, which a crash may leave."""
    if not folder.is_dir():
        return []
    found = [(path, match) for path in folder.iterdir() if (match := re.fullmatch(r"step-(\d+)(\.former)?", path.name, re.ASCII))]
    return [path for path, match in sorted(found, key=lambda item: (int(item[1][1]), not item[1][2]), reverse=True)]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1].removesuffix(".former"))


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, with its tensors and arrays moved into `tensors` under their path."""
    import numpy as np
    import torch

    match value:
        case torch.Tensor() if value.layout == torch.strided and value.dtype != torch.complex128:  # what safetensors can hold
            name = name if name not in tensors else f"{name} {len(tensors)}"
            tensors[name] = value.detach().cpu().contiguous()
            return {"tensor": name}
        case np.ndarray() if value.dtype.kind in "biufc":
            # NumPy cannot make a read-only array or one of another byte order a tensor.
            return {"array": _split(torch.from_numpy(value.astype(value.dtype.newbyteorder("="))), name, tensors)["tensor"]}
        case np.bool_() | np.integer() | np.floating():
            return value.item()
        case dict():
            if value and all(type(key) is int for key in value):  # as in an optimiser's state_dict
                return {"numbered": [[key, _split(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
            if not all(isinstance(key, str) for key in value):
                raise TypeError(
                    f"the state's {name or 'keys'}: a checkpoint can hold dictionaries whose keys are all texts or all whole numbers."
                )
            return {"items": {key: _split(item, f"{name}/{key}", tensors) for key, item in value.items()}}
        case list() | tuple():
            return {"list": [_split(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]}
        case None | bool() | int() | float() | str():
            return value
    kind = f"tensor of {value.dtype}, {value.layout}" if isinstance(value, torch.Tensor) else type(value).__name__
    raise TypeError(
        f"the state's {name}: a checkpoint cannot hold a {kind}. A state is made of dictionaries, lists, tensors, NumPy "
        "arrays, numbers, texts, booleans and None."
    )


def _unshare_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, copied if two share their memory, which safetensors refuses."""
    seen: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return unshared


def _join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "items" in tree:
        return {key: _join(item, tensors) for key, item in tree["items"].items()}
    if "numbered" in tree:
        return {key: _join(item, tensors) for key, item in tree["numbered"]}
    if "list" in tree:
        return [_join(item, tensors) for item in tree["list"]]
    if "array" in tree:
        return tensors[tree["array"]].numpy()
    return tensors[tree["tensor"]]
