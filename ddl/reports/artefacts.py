"""What trials left as files: figures and texts, grouped so that configurations stand beside each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddl.ledger import TrialRow

_NUMBERED = re.compile(r"(.+?)[-_](\d+)")


@dataclass(frozen=True)
class Artefact:
    """What a trial left as a file, unread. `group` is its name without the number that it may end in, -1 for none."""

    path: Path
    name: str
    trial_id: str
    configuration: str
    seed: int
    group: str
    number: int


class Image(Artefact):
    """A figure."""


class Text(Artefact):
    """A text."""


def find_images(folder: Path, trials: Sequence[TrialRow]) -> tuple[Image, ...]:
    """Every PNG and SVG, by group; in a group by seed, then in the order of the plan, then by number."""
    return tuple(Image(*found) for found in _found(folder, trials, "figures", (".png", ".svg")))


def find_texts(folder: Path, trials: Sequence[TrialRow]) -> tuple[Text, ...]:
    """Every text, in the order of `find_images`."""
    return tuple(Text(*found) for found in _found(folder, trials, "samples", (".txt",)))


def _found(folder: Path, trials: Sequence[TrialRow], room: str, kinds: Sequence[str]) -> list[tuple[Path, str, str, str, int, str, int]]:
    found = []
    for trial in trials:
        place = folder / "trials" / trial.trial_id / room
        for path in place.iterdir() if place.is_dir() else ():
            if path.suffix in kinds and path.is_file():
                numbered = _NUMBERED.fullmatch(path.stem)
                group, number = (numbered[1], int(numbered[2])) if numbered else (path.stem, -1)
                where = group, trial.seed, trial.position, number, path.name
                found.append((where, (path, path.stem, trial.trial_id, trial.configuration, trial.seed, group, number)))
    return [item for _, item in sorted(found)]
