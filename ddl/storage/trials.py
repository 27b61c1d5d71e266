"""A trial's checkpoints, in its local folder and at a URL."""

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

FINAL_UPLOAD_S = 60.0  # seconds that an ended trial waits for its last upload
FILES = ("state.safetensors", "manifest.json")
REPORT_FOLDERS = ("figures", "samples")  # folders of a trial that reports show
_MANIFEST = re.compile(r"checkpoints/(step-\d+)/manifest\.json")


class TrialStore:
    """Stores a trial's checkpoints in its folder and, if there is a URL, uploads them in the background while the trial trains.

    A context manager. `not_uploaded` names the files that the URL lacks.
    """

    def __init__(self, local: Path, identity: str, url: str):
        """`local` and `url` are the trial's own folders, `identity` is its id. An empty `url` uploads nothing."""
        self._local, self._identity = local, identity
        self._remote = RemoteFolder(url) if url else None
        self._changed, self._ended = threading.Event(), threading.Event()
        self._uploaded, self._error = "", ""
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)

    def newest(self) -> tuple[int, State] | None:
        """The newest valid checkpoint, local or remote (`checkpoints.newest`); the newest local one if the store is unreachable."""
        folder = self._local / "checkpoints"
        local = checkpoints.newest(folder, self._identity)
        try:
            for name in self._remote_checkpoints():
                step = _step(name)
                if local is not None and step <= local[0]:
                    break
                self._download(name)
                downloaded = checkpoints.newest(folder, self._identity)
                if downloaded is not None and downloaded[0] == step:
                    self._uploaded = name
                    return downloaded
        except Unreachable as error:
            self._report(error)
        return local

    def store(self, step: int, state: State, keep_from: int | None = None) -> None:
        """Write a checkpoint (`checkpoints.store`) and upload it in the background. A slow upload skips to the newest checkpoint."""
        checkpoints.store(self._local / "checkpoints", self._identity, step, state, keep_from)
        self._changed.set()

    def finish(self) -> None:
        """Upload the rest; waits at most FINAL_UPLOAD_S."""
        if self._remote is None:
            return
        self._ended.set()
        self._changed.set()
        self._thread.join(FINAL_UPLOAD_S)
        if self._thread.is_alive():
            self._error = self._error or f"not uploaded within {FINAL_UPLOAD_S:g} s"

    @property
    def not_uploaded(self) -> str:
        """The machine and folder with files that the URL lacks, and the error; "" if everything was uploaded."""
        return f"only in {socket.gethostname()}:{self._local} ({self._error})" if self._error else ""

    def __enter__(self) -> Self:
        if self._remote is not None:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            last = self._ended.is_set()
            try:
                self._upload(last)
                self._error = ""
            except Unreachable as error:
                self._report(error)
            if last:
                return

    def _remote_checkpoints(self) -> list[str]:
        """Names of the complete checkpoints at the URL, newest first."""
        files = self._remote.names() if self._remote is not None else []
        return sorted((match[1] for name in files if (match := _MANIFEST.fullmatch(name))), key=_step, reverse=True)

    def _upload(self, last: bool) -> None:
        """Upload the newest local checkpoint, its manifest last: without a manifest it is incomplete. Then remove older ones."""
        assert self._remote is not None
        names = [path.name for path in (self._local / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
        name = max(names, key=_step, default="")
        source, target = self._local / "checkpoints" / name, f"checkpoints/{name}"
        if name and name != self._uploaded:
            self._remote.remove(f"{target}/manifest.json")  # of another attempt at the same step
            try:
                for file in FILES:
                    self._remote.upload(source / file, f"{target}/{file}")
            except Unreachable:
                if source.exists():
                    raise
                return  # deleted meanwhile; the next upload takes the newest checkpoint
            self._uploaded = name
            complete = self._remote_checkpoints()[: checkpoints.KEEP]
            for old in {file.split("/")[1] for file in self._remote.names() if file.startswith("checkpoints/")}.difference(complete):
                self._remote.remove(f"checkpoints/{old}")
        for kind in REPORT_FOLDERS if last else ():
            for path in sorted((self._local / kind).glob("*")):
                self._remote.upload(path, f"{kind}/{path.name}")

    def _download(self, name: str) -> None:
        assert self._remote is not None
        draft = self._local / "checkpoints" / f"{name}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for file in FILES:
            self._remote.download(f"checkpoints/{name}/{file}", draft / file)
        os.rename(draft, draft.with_suffix(""))

    def _report(self, error: Unreachable) -> None:
        self._error = str(error)
        print(f"storage: {error}. Training continues.", flush=True)


def _step(name: str) -> int:
    """The step of a checkpoint's folder, `step-000000100`."""
    return int(name.removeprefix("step-"))
