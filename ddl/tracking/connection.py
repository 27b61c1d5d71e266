"""W&B client: its mode, its settings and its time limits."""

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb
from PIL import Image
from pydantic import ValidationError
from wandb.errors import AuthenticationError, Error
from wandb.sdk import wandb_setup
from wandb.sdk.lib import wbauth
from wandb.sdk.mailbox import HandleAbandonedError

from ddl.standard_streams import complain
from ddl.tracking.records import WandbRecord

MODES = ("auto", "online", "offline", "disabled")
PROJECT = "ddl"

INIT_S = 15.0  # seconds that a server may take to accept a run
FINISH_S = 60.0  # seconds that sending the rest of a run may take at its end
WANDB_ERRORS = (Error, HandleAbandonedError, OSError)
"""Errors that the client raises if the server, the network or the disk fails. Time-outs and lost connections are OSErrors."""


def resolve_mode(run: Mapping[str, Any], mode: str | None = None) -> str:
    """online, offline or disabled, from `mode` or else the settings in the run's record.

    auto is WANDB_MODE if it is set, else online with a key (WANDB_API_KEY or `wandb login`), else offline.
    Raises ValueError for an unknown mode, for a malformed key, and for online without a key.
    """
    mode = mode or _settings(run).get("mode", "auto")
    if mode not in MODES:
        raise ValueError(f"W&B: mode {mode!r} is unknown. Choose one of {', '.join(MODES)}.")
    if mode == "auto":
        environment = os.environ.get("WANDB_MODE", "")
        mode = environment if environment in MODES[1:] else "online" if _has_key() else "offline"
    elif mode == "online" and not _has_key():
        raise ValueError("W&B: online needs a key and there is none. Set WANDB_API_KEY, run `wandb login`, or choose wandb.mode=offline.")
    return mode


def project_name(run: Mapping[str, Any]) -> str:
    """The W&B project in a run's settings."""
    return _settings(run).get("project", PROJECT)


def server() -> str:
    """The server's address, from WANDB_BASE_URL or W&B's own settings."""
    return wandb_setup.singleton().settings.base_url


class WandbClient:
    """Context manager that ends W&B's background process on exit, unless the caller has a W&B run open.

    Raises ValueError on entry if W&B cannot use a setting in the environment or in its settings file.
    """

    def __init__(self) -> None:
        self._owned = wandb.run is None

    def __enter__(self) -> "WandbClient":
        self._setup()
        return self

    def __exit__(self, *exception: object) -> None:
        self._teardown()

    def restart(self) -> None:
        """Start a new background process: the old one would keep sending a run that could not be finished."""
        self._teardown()
        self._setup()

    def _setup(self) -> None:
        if self._owned:
            try:
                wandb.setup(wandb.Settings(silent=True, quiet=True))
            except ValidationError as error:
                raise ValueError(_describe_settings(error)) from error

    def _teardown(self) -> None:
        if self._owned:
            try:
                wandb.teardown()
            except (SystemExit, *WANDB_ERRORS) as error:
                # If the background process has crashed, the client raises SystemExit. Data that was not sent has been
                # reported by then, by the run that could not finish.
                complain(f"W&B: its background process crashed ({error!r})")


def begin_wandb_run(record: WandbRecord, project: str, mode: Literal["online", "offline"], root: Path) -> Any:
    """Begin the W&B run of a record, with its local files under `root`. Raises WANDB_ERRORS if the server does not accept it in INIT_S."""
    settings = wandb.Settings(
        root_dir=str(root),
        init_timeout=INIT_S,
        finish_timeout=FINISH_S,
        finish_timeout_raises=True,
        # Send only the record: not the command line, host, user, code, packages, output or load of this process, which is
        # not the one that trained.
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
        reinit="create_new",  # several runs may be open, among them the caller's
        settings=settings,
    )
    # A resumed run has the server's configuration.
    run.config.update(dict(record.config), allow_val_change=True)
    return run


def log_row(run: Any, record: WandbRecord, step: int, last: bool) -> None:
    """Send the row of a step; with the last row, also the figures and sample texts."""
    values: dict[str, Any] = dict(record.rows.get(step, {}))
    if last:
        values |= {f"samples/{name}": _html_page(text) for name, text in record.samples.items()}
        media = {f"figures/{name}": _load_figure(path) for name, path in record.figures.items()}
        values |= {name: figure for name, figure in media.items() if figure is not None}
    run.log(values, step=step, commit=True)


def finish_wandb_run(run: Any, record: WandbRecord, **summary: Any) -> None:
    """Finish the run and wait until everything is sent. Raises WANDB_ERRORS after FINISH_S, and if the client fails."""
    run.summary.update(dict(record.summary) | summary)
    run.finish(exit_code=record.exit_code)


def _load_figure(path: Path) -> Any:
    """W&B's object for an image file. For any other file it warns and returns None: the trial's other data must be published."""
    if path.suffix.lower() == ".svg":
        return wandb.Html(path.read_text(encoding="utf-8", errors="replace"), inject=False, data_is_not_path=True)
    try:
        with Image.open(path) as image:
            image.load()  # W&B's client would leave the file open
        return wandb.Image(str(path))
    except (OSError, Image.DecompressionBombError) as error:  # no image, half of one, or a huge one
        complain(f"W&B: {path}: skipped ({str(error) or type(error).__name__})")
        return None


def _html_page(text: str) -> Any:
    return wandb.Html(f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>', inject=False, data_is_not_path=True)


def _has_key() -> bool:
    try:
        return wbauth.authenticate_session(host=server(), source="ddl", prompt=False, update_session=False) is not None
    except AuthenticationError as error:
        raise ValueError(f"W&B: the key for {server()} cannot be used ({error}). Correct it, or choose wandb.mode=offline.") from error


def _describe_settings(error: ValidationError) -> str:
    """The settings that W&B refuses, by their environment variables; without their values, because one may be a key."""
    problems = (f"WANDB_{str(each['loc'][0]).upper()} ({each['msg']})" for each in error.errors())
    return f"W&B: cannot use {', '.join(problems)}. Correct or unset it, in the environment or in W&B's settings file."


def _settings(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run.get("launch", {}).get("wandb", {})
