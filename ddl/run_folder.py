"""Paths inside a run's folder. The folder may come from someone else, so no path of it may lead to a file elsewhere."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

LEDGER = "ledger.sqlite"
TRIALS = "trials"
WANDB_DRAFT = Path("wandb", ".draft")
"""Folder in a run's folder in which W&B's client writes, with links to its logs. It is deleted before it is used again."""
_TRIAL_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def folders_with_ledger(top: Path) -> list[Path]:
    """`top` if it has a ledger, else the folders in it that have one, as a run of several sweeps does."""
    return [top] if (top / LEDGER).is_file() else sorted(path.parent for path in top.glob(f"*/{LEDGER}"))


def check_trial_id(trial_id: str) -> None:
    """Raise ValueError if this cannot be the id of a trial: an id is the name of a folder."""
    if not _TRIAL_ID.fullmatch(trial_id):
        raise ValueError(f"{trial_id[:100]!r} is not a trial id, which has only letters, digits, - and _")


def check_links(folder: Path) -> None:
    """Raise ValueError if something in a run's `folder` is a symbolic link to a place outside it, or neither a file nor a folder.

    Commands read, write and delete files in a run's folder, and would follow such a link. A folder that does not exist is accepted.
    """
    top = folder.resolve()
    for entry in _entries(top):
        path = Path(entry.path)
        if not entry.is_symlink():
            if not (entry.is_file() or entry.is_dir()):
                raise ValueError(f"{path}: neither a file nor a folder. Remove it: a run has only files and folders.")
            continue
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # a loop of links
            target = Path(os.readlink(path))
        if not target.is_relative_to(top) and not _is_shared_trial(path, target):
            raise ValueError(
                f"{path}: a symbolic link to {target}, outside the run's folder. Remove it or copy the files, or add --trust if the link is yours."
            )


def trial_files(folder: Path, trial_id: str, subfolder: str) -> dict[str, Path]:
    """Files in a subfolder of a trial and below it, by their relative path. Symbolic links are left out: they may lead anywhere.

    A trial of a run of several sweeps may be a link to the same trial of another sweep.
    """
    check_trial_id(trial_id)
    if not (folder / TRIALS / trial_id / subfolder).is_dir():  # most trials of a large sweep
        return {}
    place = folder.resolve() / TRIALS / trial_id
    trial = place.resolve()
    if trial != place and not _is_shared_trial(place, trial):
        return {}
    root = trial / subfolder
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file() and path.resolve() == path}


def is_inside(name: str) -> bool:
    """True if a relative path, with slashes, cannot lead out of the folder that it is relative to."""
    return not any(part in ("", ".", "..") for part in name.split("/"))


def _is_shared_trial(link: Path, target: Path) -> bool:
    """True if `link` is a trial's folder, and `target` is the folder of the same trial in another run of the same folder."""
    run, other = link.parent.parent, target.parent.parent
    return (
        (link.parent.name, target.parent.name, target.name) == (TRIALS, TRIALS, link.name)
        and other.parent == run.parent
        and (other / LEDGER).is_file()
    )


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Everything below a folder, links not followed."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False) and not Path(entry.path).match(str(WANDB_DRAFT)):
                yield from _entries(Path(entry.path))
