"""Checkpoints of a trial: safetensors and a JSON manifest in a folder that is whole or absent.

No pickle is read, so a checkpoint from elsewhere can be wrong but cannot run code.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from ddl import durable
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
    content = save(_apart(tensors))
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
            with contextlib.suppress(OSError):  # `newest` finds it under this name too
                os.rename(former, final)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(former, ignore_errors=True)
    for old in _newest_first(folder)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)


def take_over(folder: Path, identity: str, other: Path, other_identity: str) -> bool:
    """Put the newest whole checkpoint of another trial in the place of all that are in `folder`; False where it has none."""
    found = newest(other, other_identity)
    if found is None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    store(folder, identity, *found)
    return True


def newest(folder: Path, identity: str) -> tuple[int, State] | None:
    """(step, state) of the newest whole checkpoint in `folder`, its tensors on the CPU; None where there is none.

    A damaged one is named in a warning, set aside as `*.damaged`, and the next older one is taken.
    """
    for candidate in _newest_first(folder):
        try:
            return _load(candidate, identity)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, safetensors.SafetensorError) as error:
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
    if _checksum(manifest, content) != manifest["sha256"]:
        raise ValueError("its content has another checksum than its manifest says")
    return manifest["step"], _join(manifest["state"], load(content))


def _checksum(manifest: dict[str, Any], content: bytes) -> str:
    """Of everything but itself: the state's numbers stand in the manifest, its tensors in `content`."""
    named = json.dumps({key: value for key, value in manifest.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(named.encode() + content).hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    """Every checkpoint; of a step written twice the later one first, and the former where a crash left it."""
    if not folder.is_dir():
        return []
    found = [(path, match) for path in folder.iterdir() if (match := re.fullmatch(r"step-(\d+)(\.former)?", path.name, re.ASCII))]
    return [path for path, match in sorted(found, key=lambda item: (int(item[1][1]), not item[1][2]), reverse=True)]


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved into `tensors` and named there by their path."""
    match value:
        case Tensor():
            name = name if name not in tensors else f"{name} {len(tensors)}"
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


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, copied where two share their memory, which safetensors refuses."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


def _join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "items" in tree:
        return {key: _join(item, tensors) for key, item in tree["items"].items()}
    if "list" in tree:
        return [_join(item, tensors) for item in tree["list"]]
    return tensors[tree["tensor"]]
