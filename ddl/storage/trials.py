"""A trial's checkpoints, here and at a URL."""

import os
import re
import shutil
import socket
import threading
from pathlib import Path
from typing import Self

from ddl import checkpoints
from ddl.progress import State
from ddl.storage.remote_folder import RemoteFolder, Unreachable

FINAL_S = 60.0
"""How long a trial that has ended waits for its last copy."""

FILES = ("state.safetensors", "manifest.json")
SHOWN = ("figures", "samples")
"""Of a trial: what reports show of it."""

_WHOLE = re.compile(r"checkpoints/(step-\d+)/manifest\.json")


class TrialStore:
    """A trial's checkpoints: in its folder, and at a URL where there is one.

    A context manager. A thread of its own copies while the trial trains; `behind` says what the URL lacks, and why.
    """

    def __init__(self, local: Path, identity: str, url: str):
        """`local` and `url` are the trial's own folders; `identity` is its id. An empty URL: there is none."""
        self._local, self._identity = local, identity
        self._place = RemoteFolder(url) if url else None
        self._wanted, self._ended = threading.Event(), threading.Event()
        self._copied, self._error = "", ""
        self._thread = threading.Thread(target=self._follow, name="storage", daemon=True)

    def newest(self) -> tuple[int, State] | None:
        """The newest good checkpoint of both (`checkpoints.newest`); the local one where the store is away."""
        here = self._local / "checkpoints"
        best = checkpoints.newest(here, self._identity)
        try:
            for name in self._there():
                step = int(name.removeprefix("step-"))
                if best is not None and step <= best[0]:
                    break
                self._pull(name)
                found = checkpoints.newest(here, self._identity)
                if found is not None and found[0] == step:
                    self._copied = name
                    return found
        except Unreachable as error:
            self._say(str(error))
        return best

    def store(self, step: int, state: State) -> None:
        """`checkpoints.store`; the copy follows in the background, of the newest alone where it cannot keep up."""
        checkpoints.store(self._local / "checkpoints", self._identity, step, state)
        self._wanted.set()

    def finish(self) -> None:
        """Copy what is left, for at most `FINAL_S`."""
        if self._place is None:
            return
        self._ended.set()
        self._wanted.set()
        self._thread.join(FINAL_S)
        if self._thread.is_alive():
            self._error = self._error or f"not copied within {FINAL_S:g} s"

    @property
    def behind(self) -> str:
        """Empty where nothing is lacking."""
        return f"only in {socket.gethostname()}:{self._local} ({self._error})" if self._error else ""

    def __enter__(self) -> Self:
        if self._place is not None:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._wanted.set()

    def _follow(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            last = self._ended.is_set()
            try:
                self._push(last)
                self._error = ""
            except Unreachable as error:
                self._say(str(error))
            if last:
                return

    def _there(self) -> list[str]:
        """The whole checkpoints at the URL, newest first."""
        files = self._place.names() if self._place is not None else []
        return sorted((match[1] for name in files if (match := _WHOLE.fullmatch(name))), reverse=True)

    def _push(self, last: bool) -> None:
        """Copy the newest local checkpoint, its manifest last: without one it is none. Then remove older ones."""
        assert self._place is not None
        name = max((path.name for path in (self._local / "checkpoints").glob("step-?????????")), default="")
        source, target = self._local / "checkpoints" / name, f"checkpoints/{name}"
        if name and name != self._copied:
            self._place.remove(f"{target}/manifest.json")  # of another attempt at the same step
            try:
                for file in FILES:
                    self._place.put(source / file, f"{target}/{file}")
            except Unreachable:
                if source.exists():
                    raise
                return  # it was overtaken meanwhile, and the next look takes the newest
            self._copied = name
            whole = self._there()[: checkpoints.KEEP]
            for old in {file.split("/")[1] for file in self._place.names() if file.startswith("checkpoints/")}.difference(whole):
                self._place.remove(f"checkpoints/{old}")
        for kind in SHOWN if last else ():
            for path in sorted((self._local / kind).glob("*")):
                self._place.put(path, f"{kind}/{path.name}")

    def _pull(self, name: str) -> None:
        assert self._place is not None
        draft = self._local / "checkpoints" / f"{name}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for file in FILES:
            self._place.get(f"checkpoints/{name}/{file}", draft / file)
        os.rename(draft, draft.with_suffix(""))

    def _say(self, error: str) -> None:
        self._error = error
        print(f"storage: {error}. Training goes on.", flush=True)
