"""The command line: `python launch.py --sweep augmentation`, or `ddl --sweep augmentation` if the package is installed."""

import argparse
import errno
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ddl.command_line import parse_command
from ddl.program import program
from ddl.redaction import Redactor, printable
from ddl.standard_streams import CannotPrint, complain, flush_or_discard, open_closed_streams, say

FAILED, BAD_INPUT, NOT_REPRODUCED, INTERRUPTED = 1, 2, 4, 130

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the system about a file that this user may not read or write. They are mistakes in the command, not in ddl."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: this process's arguments) and return its exit code."""
    open_closed_streams()
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except CannotPrint as error:
        complain(error)
        return FAILED
    finally:
        flush_or_discard(sys.stderr)  # an error when Python ends would change the exit code


def _run(arguments: Sequence[str]) -> int:
    try:
        given = parse_command(arguments)
        if given.list:
            return _list_sweeps()
    except ValueError as error:
        _print_problem(error)
        return BAD_INPUT
    # Heavy imports come as late as possible, so that --help, --list and a mistyped option answer at once.
    from ddl.config import ConfigError
    from ddl.durable import CannotWrite
    from ddl.run_training import Interrupted, SweepStopped
    from ddl.sweeps.executor_died import ExecutorDied

    try:
        return _run_action(given, f"{program()} {shlex.join(arguments)}")
    except ConfigError as error:
        _print_problem(error, error.outcome)
        return BAD_INPUT
    except ValueError as error:
        _print_problem(error)
        return BAD_INPUT
    except SweepStopped as stopped:
        complain(stopped)
        return FAILED
    except CannotWrite as error:
        complain(f"{error}. {error.needed}, then run the command again.")
        return FAILED
    except ExecutorDied as error:  # during a plan
        complain(f"{error}. Run the command again.")
        return FAILED
    except OSError as error:
        if error.errno not in FORBIDDEN or error.filename is None:
            raise
        _print_problem(f"{error.filename}: {error.strerror}. Change its permissions, or work with a copy.")
        return BAD_INPUT
    except Interrupted as interrupted:
        complain(interrupted)
        return INTERRUPTED
    except KeyboardInterrupt:  # before a run begins, or in a command that trains nothing
        complain("interrupted")
        return INTERRUPTED


def _print_problem(*texts: object) -> None:
    """Print to standard error, without the secrets and the control characters of what the user gave."""
    for line in "\n".join(map(str, texts)).split("\n"):
        complain(printable(Redactor().text(line)))


def _run_action(given: argparse.Namespace, command: str) -> int:
    from ddl import run
    from ddl.fetched_runs import fetch_run, fetch_trial
    from ddl.ledger_reader import LedgerReader
    from ddl.run_report import rewrite_report
    from ddl.run_results import Run

    out = given.out or "runs"
    if given.prepare_data:
        return _prepare_data(given.prepare_data)
    if given.publish:
        published = fetch_run(given.publish, given.trust)
        for folder in Run(published).folders:
            _publish(folder, given.report is not None)
        return 0
    if given.reproduce:
        place, _, trial_id = given.reproduce.rstrip("/").rpartition("/trials/")
        if not place:
            hint = "name a trial as RUN/trials/TRIAL_ID, with a run folder and an id from its results.csv"
            raise ValueError(f"--reproduce {given.reproduce}: {hint}.")
        reader = LedgerReader(fetch_run(place, given.trust))
        reader.trial(trial_id)  # names an unknown trial before torch is imported
        from ddl.reproduce import reproduce  # imports torch

        return 0 if reproduce(reader, trial_id, given.steps, given.trust) else FAILED
    if given.export:
        place, trial_id = given.export
        reader = LedgerReader(fetch_trial(place, trial_id, given.trust))
        reader.trial(trial_id)  # names an unknown trial before torch is imported
        from ddl.export import export  # imports torch

        say(export(reader, trial_id, given.trust, given.allow_changed_code))
        return 0
    if given.report:
        runs = [fetch_run(place, given.trust) for place in given.report]
        folders = [folder for each in runs for folder in Run(each).folders]
        if given.format == "markdown":
            return _markdown(folders, given.out, given.check)
        path = (runs[0] if len(runs) == 1 else Path(out)) / "report.html"
        say(*rewrite_report(folders, path, with_results=len(runs) == 1))
        return _end(path, folders if given.check else [], failed=False)
    if given.resume:
        done = run.resume(given.resume, given.executor, given.address, given.trust, given.allow_changed_code, again=given.again)
    elif given.confirm:
        from ddl import confirmation

        options = (given.confirm, given.overrides, given.executor or "ray", given.address, out, given.trust, given.allow_changed_code)
        if given.plan:
            confirmation.show_confirmation_plan(*options)
            return 0
        done = confirmation.run_confirmation(*options, command=command)
    elif given.plan:
        run.show_the_plan(given.sweep, given.overrides, given.scale, given.executor or "ray", given.address, out)
        return 0
    else:
        done = run.run_sweep(given.sweep, given.overrides, given.scale, given.executor or "ray", given.address, out, command)
    return _end(done.report, done.folders if given.check else [], failed=bool(done.failed or done.not_uploaded))


def _end(report: Path, checked: Sequence[Path], failed: bool) -> int:
    """Print the published values that the runs in `checked` missed and the report's path, and return the exit code."""

    from ddl.run_report import not_reproduced

    try:
        missed = not_reproduced(checked) if checked else []
        for line in missed:
            say(line)
    finally:
        say(f"report: {report}")
    return NOT_REPRODUCED if missed else FAILED if failed else 0


def _markdown(folders: Sequence[Path], out: str | None, check: bool) -> int:
    """Write the results as Markdown to the file `out`, or print them, and return the exit code. A check prints to standard error."""
    from ddl.run_report import markdown_report, not_reproduced

    text = markdown_report(folders)
    if out is None:
        say(text, end="")
    else:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text, encoding="utf-8")
    missed = not_reproduced(folders) if check else []
    for line in missed:
        complain(line)
    return NOT_REPRODUCED if missed else 0


def _publish(folder: Path, with_report: bool) -> None:
    from ddl.tracking.publish import publish

    if not with_report:
        say(publish(folder))
        return
    from ddl.reports import model, wandb_report
    from ddl.tracking.connection import WandbClient

    report = model.build_report([folder])
    published = publish(folder, "online")  # fails before anything is sent if there is no key
    say(published)
    if not published.entity:
        raise ValueError(f"{folder}: no trial has started, so there is nothing to report. Publish it later.")
    group = wandb_report.WandbGroup(published.entity, published.project, published.group)
    with WandbClient():
        wandb = wandb_report.build_wandb_report(report, group, Redactor(folder).text)
        say(f"report: {wandb_report.save_wandb_report(wandb, folder / 'wandb' / 'report.json')}")


def _list_sweeps() -> int:
    from ddl import yamlfile

    for name in yamlfile.config_names("sweep"):
        problems: list[str] = []
        values = yamlfile.read_yaml(yamlfile.FOLDER / "sweep" / f"{name}.yaml", problems).values
        say(f"{name:24} {values.get('title', problems)}")
    return 0


def _prepare_data(names: Sequence[str]) -> int:
    from ddl.data.names import check_name

    for name in names:
        if not name.startswith("folder:"):
            check_name(name)
    from ddl.data import sources  # imports torch

    for name in names:
        if name.startswith("folder:"):
            _prepare_folder(name.removeprefix("folder:"))
            continue
        origin = sources.prepare_data(name, "full")
        say(f"{name}: {origin.source}{'' if origin.complete else ', not the whole data set'}")
    return 0


def _prepare_folder(path: str) -> None:
    """Decode the user's own images in the folder `path`, and print what they are."""
    from ddl.data.image_folders import describe_image_folder

    for line in describe_image_folder(path):
        say(line)


if __name__ == "__main__":
    sys.exit(main())
