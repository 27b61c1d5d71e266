"""The W&B client: which mode, with which settings, and for how long at most."""

import html
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb
from PIL import UnidentifiedImageError
from wandb.errors import AuthenticationError, Error
from wandb.sdk import wandb_setup
from wandb.sdk.lib import wbauth
from wandb.sdk.mailbox import HandleAbandonedError

from ddl.tracking.records import WandbRecord

MODES = ("auto", "online", "offline", "disabled")
PROJECT = "ddl"

INIT_S = 15.0
"""How long a server may take to accept a run."""

FINISH_S = 60.0
"""How long a server may take for what a run still has to send at its end."""

TROUBLE = (Error, HandleAbandonedError, OSError)
"""What the client raises where the server, the network or the disk fails it. Time-outs and lost connections are OSErrors."""


def mode_of(run: Mapping[str, Any], wanted: str | None = None) -> str:
    """online, offline or disabled: what is wanted, else what the run's settings say, where auto follows from the key.

    auto: what WANDB_MODE says; else online with a key (WANDB_API_KEY, or a `wandb login`), offline without one.
    Raises ValueError for an unknown mode, a malformed key, and for online without a key.
    """
    mode = wanted or _settings(run).get("mode", "auto")
    if mode not in MODES:
        raise ValueError(f"W&B: mode {mode!r} is unknown; it may be {', '.join(MODES)}.")
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE", "")
        mode = asked if asked in MODES[1:] else "online" if _has_key() else "offline"
    elif mode == "online" and not _has_key():
        raise ValueError("W&B: online needs a key and there is none. Set WANDB_API_KEY, run `wandb login`, or choose wandb.mode=offline.")
    return mode


def project_of(run: Mapping[str, Any]) -> str:
    return _settings(run).get("project", PROJECT)


def server() -> str:
    """The server's address, from WANDB_BASE_URL or W&B's own settings."""
    return wandb_setup.singleton().settings.base_url


class WandbClient:
    """W&B's background process, ended with this context. It leaves alone what the caller has under way with W&B."""

    def __init__(self) -> None:
        self._ours = wandb.run is None

    def __enter__(self) -> "WandbClient":
        self._quieten()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def restart(self) -> None:
        """With nothing left of a run that could not be finished: it would go on trying beside its successor."""
        self._end()
        self._quieten()

    def _quieten(self) -> None:
        if self._ours:
            wandb.setup(wandb.Settings(silent=True, quiet=True))

    def _end(self) -> None:
        if self._ours:
            try:
                wandb.teardown()
            except (SystemExit, *TROUBLE) as error:
                # Where its background process has crashed, the client would end this one too. What that process still
                # had to send has been reported by the run that could not finish.
                print(f"W&B: its background process ended badly ({error!r})", file=sys.stderr, flush=True)


def begin_wandb_run(record: WandbRecord, project: str, mode: Literal["online", "offline"], root: Path) -> Any:
    """The W&B run of this record, its local files under `root`. Raises TROUBLE where the server takes no run in time."""
    settings = wandb.Settings(
        root_dir=str(root),
        init_timeout=INIT_S,
        finish_timeout=FINISH_S,
        finish_timeout_raises=True,
        # Only what the record holds: not the command line, host, user, code, packages, output or load of this process,
        # which is not even the one that trained.
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_disable_viewer=True,
        x_save_requirements=False,
        save_code=False,
        disable_git=True,
        disable_job_creation=True,
        program="",
        host="",
        username="",
        email="",
        console="off",
        silent=True,
    )
    run = wandb.init(
        id=record.run_id,
        resume="allow" if mode == "online" else None,
        mode=mode,
        project=project,
        name=record.name,
        group=record.group,
        job_type=record.job_type,
        tags=record.tags,
        notes=record.notes,
        config=dict(record.config),
        reinit="create_new",  # several may be open, and the caller's own stays
        settings=settings,
    )
    # A resumed run comes with the configuration that the server had.
    run.config.update(dict(record.config), allow_val_change=True)
    return run


def log_row(run: Any, record: WandbRecord, step: int, last: bool) -> None:
    """Send the row of this step, with the figures and sample texts where it is the last one."""
    values: dict[str, Any] = dict(record.rows.get(step, {}))
    if last:
        values |= {f"samples/{name}": _page(text) for name, text in record.samples.items()}
        media = {f"figures/{name}": _media(path) for name, path in record.figures.items()}
        values |= {name: medium for name, medium in media.items() if medium is not None}
    run.log(values, step=step, commit=True)


def finish_wandb_run(run: Any, record: WandbRecord, **summary: Any) -> None:
    """End the run; it returns once all is sent. Raises TROUBLE after FINISH_S, and where the client fails."""
    run.summary.update(dict(record.summary) | summary)
    run.finish(exit_code=record.exit_code)


def _media(path: Path) -> Any:
    """None, and a line on standard error, for a file that is no image: it is not worth the rest of the trial."""
    if path.suffix.lower() == ".svg":
        return wandb.Html(path.read_text(encoding="utf-8", errors="replace"), inject=False)
    try:
        return wandb.Image(str(path))
    except UnidentifiedImageError:
        print(f"W&B: {path}: not an image, left out", file=sys.stderr, flush=True)
        return None


def _page(text: str) -> Any:
    return wandb.Html(f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>', inject=False)


def _has_key() -> bool:
    try:
        return wbauth.authenticate_session(host=server(), source="ddl", prompt=False, update_session=False) is not None
    except AuthenticationError as error:
        raise ValueError(f"W&B: the key for {server()} can't be used ({error}). Mend it, or choose wandb.mode=offline.") from error


def _settings(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run.get("launch", {}).get("wandb", {})
