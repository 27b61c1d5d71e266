"""The files that trials wrote, figures and texts, grouped so that configurations are next to each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddl.ledger_tables import TrialRow
from ddl.run_folder import trial_files

_NUMBERED = re.compile(r"(.+?)[-_](\d+)")


@dataclass(frozen=True)
class Artefact:
    """A file that a trial wrote, unread. `group` is its name without the `number` at its end, which is -1 if there is none."""

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
    """All PNG and SVG files by group, then by seed, order of the plan and number."""
    return tuple(Image(*fields) for fields in _find(folder, trials, "figures", (".png", ".svg")))


def find_texts(folder: Path, trials: Sequence[TrialRow]) -> tuple[Text, ...]:
    """All texts, in the order of `find_images`."""
    return tuple(Text(*fields) for fields in _find(folder, trials, "samples", (".txt",)))


def _find(
    folder: Path, trials: Sequence[TrialRow], subfolder: str, suffixes: Sequence[str]
) -> list[tuple[Path, str, str, str, int, str, int]]:
    found = []
    for trial in trials:
        for name, path in trial_files(folder, trial.trial_id, subfolder).items():
            if path.suffix in suffixes and "/" not in name:
                numbered = _NUMBERED.fullmatch(path.stem)
                group, number = (numbered[1], int(numbered[2])) if numbered else (path.stem, -1)
                order = group, trial.seed, trial.position, number, path.name
                found.append((order, (path, path.stem, trial.trial_id, trial.configuration, trial.seed, group, number)))
    return [item for _, item in sorted(found)]
