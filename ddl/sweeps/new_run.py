"""The beginning of a new run: its folder, its ledger, and the command that resumes it."""

import contextlib
import itertools
import os
import shlex
import time
from pathlib import Path

from ddl import ownership, provenance
from ddl.config import ConfigError
from ddl.ledger import Ledger
from ddl.program import program
from ddl.redaction import Redactor
from ddl.sweeps.prepare import PreparedRun, files_read, ledger_row


def begin_run(run: PreparedRun, folder: Path, command: str, place: str, url: str) -> Ledger:
    """Create the ledger of a new run in the existing `folder`.

    `command` starts the same run again, `place` is the folder or URL to resume, `url` is the run's copy in an object store or empty.
    Secrets in the texts that the report shows are withheld; hyperparameters are recorded as they are, because a resume needs them.
    """
    redact = Redactor().value
    about = {
        **run.about,
        "overrides": redact(run.about["overrides"]),
        **redact(provenance.code()),
        "files": files_read(run.timed),
        "command": redact(command),
        "resume": resume_command(place),
        "url": url,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": provenance.versions(),
        "host": provenance.host(),
    }
    return Ledger.create(folder, about | {ownership.MARK: ownership.mark(about)}, [ledger_row(trial) for trial in run.trials])


def new_folder(out: Path, name: str) -> Path:
    """Create an empty folder for a run: `out`/`name`/date and time. Raises ConfigError if it cannot be created."""
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    try:
        (out / name).mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count(1):
            folder = out / name / (stamp if attempt == 1 else f"{stamp}-{attempt}")
            with contextlib.suppress(FileExistsError):  # of another run that began in this second
                folder.mkdir()
                break
    except OSError as error:
        shown = f"{os.fspath(out):.100}"
        raise ConfigError(
            [f"--out {shown}: no folder can be created there ({error.strerror}). Name a folder that you can write, as in --out ~/runs."]
        ) from error
    return folder


def resume_command(folder: Path | str) -> str:
    """The command that resumes the run in `folder`, a path or URL."""
    return f"{program()} --resume {shlex.quote(os.fspath(folder))}"
