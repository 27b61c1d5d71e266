"""Marks the runs that this user begins, so that a resume can tell them from runs that come from elsewhere.

The mark is an HMAC of the parts of a run's record that make a resume import code, read files or write to a URL. Its key is a file in
the user's configuration folder that never leaves it.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddl import durable

MARK = "mark"
"""Name of the mark in a run's record."""

MARKED = ("created", "task_class", "files", "url")
"""Parts of the record that are marked. `files` are the files that its tasks read."""

MARKED_CODE = ("code_folder", "code")
"""Further parts that are marked if the run trains code of the user's: its folder, and its source files."""


def mark(record: Mapping[str, Any]) -> str:
    """The mark of a run that this user begins; "" if its key can be neither read nor written."""
    try:
        return _mark(_key(), record)
    except OSError:
        return ""


def is_own(record: Mapping[str, Any]) -> bool:
    """True if this user began the run with this record, and its marked parts are as they were then."""
    try:
        return hmac.compare_digest(_mark(_key_file().read_bytes(), record), str(record.get(MARK)))
    except (OSError, TypeError):  # no key yet; or a mark with other characters, which `hmac` refuses
        return False


def _mark(key: bytes, record: Mapping[str, Any]) -> str:
    marked = [*MARKED, *MARKED_CODE] if any(name in record for name in MARKED_CODE) else MARKED
    content = json.dumps([record.get(name) for name in marked], sort_keys=True)
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """The user's key, created if there is none."""
    path = _key_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".key.{secrets.token_hex(8)}")
        durable.write_private(draft, secrets.token_bytes(32))
        try:
            os.link(draft, path)  # of two processes that create it at the same time, the first one's key counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()


def _key_file() -> Path:
    """`ddl/key` in $XDG_CONFIG_HOME, else in ~/.config."""
    chosen = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (chosen if chosen.is_absolute() else Path.home() / ".config") / "ddl" / "key"
