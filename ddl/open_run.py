"""A run that is about to be trained, with its folder and its ledger."""

from dataclasses import dataclass
from pathlib import Path

from ddl.ledger import Ledger
from ddl.sweeps.prepare import PreparedRun


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A run with its folder and its open ledger. `url` is its copy in an object store, or empty."""

    prepared: PreparedRun
    folder: Path
    ledger: Ledger
    url: str
