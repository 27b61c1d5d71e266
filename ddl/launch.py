"""The command: `python launch.py --sweep augmentation`, or `ddl --sweep augmentation` where it is installed."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

FAILED, BAD_INPUT, NOT_REPRODUCED, INTERRUPTED = 1, 2, 4, 130
ACTIONS = ("sweep", "list", "resume", "reproduce", "publish", "export", "prepare-data")
"""What the command does, one at a time; `--report` is one too, alone."""


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(
        prog="launch.py",
        description="Train every configuration of a sweep in parallel, and report what came of it.",
        epilog="exit: 0 all trials ended, 1 some failed (or a store lacks some), 2 bad input (nothing was started), 4 see --check, 130 interrupted",
        allow_abbrev=False,
    )
    what = parse.add_mutually_exclusive_group()
    what.add_argument("--sweep", metavar="NAME|FILE.yaml", help="the sweep to run; all, or several with commas: as one queue")
    what.add_argument("--list", action="store_true", help="the sweeps there are")
    what.add_argument("--resume", metavar="RUN|URL", help="finish an interrupted run")
    what.add_argument(
        "--reproduce",
        metavar="RUN|URL/trials/ID",
        help="train a trial's first steps again from its record; exit 1 where they do not agree bit for bit",
    )
    what.add_argument("--publish", metavar="RUN|URL", help="replay a run into W&B")
    parse.add_argument(
        "--report",
        metavar="RUN|URL",
        nargs="*",
        help="write the report of a run again, or of several beside each other; with --publish RUN: that run's, as a W&B Report",
    )
    what.add_argument("--export", metavar=("RUN|URL", "TRIAL_ID"), nargs=2, help="write a trained trial's model, to be used without ddl")
    what.add_argument("--prepare-data", metavar="NAME", nargs="+", help="fetch and verify whole data sets")
    parse.add_argument(
        "--scale",
        choices=("smoke", "sample", "paper"),
        help="seconds | minutes on 2 cores, bundled data | the study's own size (default: paper with a GPU, else sample)",
    )
    parse.add_argument("--steps", metavar="K", type=int, help="with --reproduce: only the first K steps (default: all that are recorded)")
    parse.add_argument("--plan", action="store_true", help="show the trials, what they need and how long they take; train nothing")
    parse.add_argument("--executor", choices=("ray", "inline"), help="inline: one process, in order, for a debugger (default: ray)")
    parse.add_argument("--address", metavar="auto|HOST:PORT", help="a running Ray cluster (default: a private local one)")
    parse.add_argument("--out", metavar="DIR|URL", default="runs", help="where runs go, as s3://bucket/runs too (default: runs)")
    parse.add_argument("--check", action="store_true", help="exit 4 where a published value is not reproduced")
    parse.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="task.lr=0.01, task.lr=0.1,0.01 (an axis), configurations=NAME,NAME (these alone), seeds=5, resources.cpus=2, ...",
    )
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    given = parser().parse_intermixed_args(arguments)
    # Heavy imports come after the arguments are understood, so that --help and a mistyped option answer at once.
    from ddl.config import ConfigError
    from ddl.run import Interrupted

    try:
        _check(given)
        return _do(given, f"python launch.py {shlex.join(arguments)}")
    except ConfigError as error:
        print(*error.problems, "Nothing was started.", sep="\n", file=sys.stderr)
        return BAD_INPUT
    except ValueError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED


def _check(given: argparse.Namespace) -> None:
    """What argparse cannot say of options that belong together. Raises ValueError."""
    other = next((name for name in ACTIONS if getattr(given, name.replace("-", "_")) not in (None, False)), None)
    if other is None and given.report is None:
        raise ValueError(f"nothing to do: name one of {', '.join(f'--{name}' for name in ACTIONS)}, --report. See --help.")
    if given.report is not None and other not in (None, "publish"):
        raise ValueError(f"--report does not go with --{other}. It takes runs alone, or goes with --publish RUN.")
    if given.report and other == "publish":
        raise ValueError(f"--publish RUN --report is about that one run; remove {' '.join(given.report)}, or publish each.")
    if given.report == [] and other is None:
        raise ValueError("--report: name a run, or several.")
    if given.steps is not None and other != "reproduce":
        raise ValueError("--steps belongs to --reproduce.")


def _do(given: argparse.Namespace, command: str) -> int:
    from ddl import run

    if given.list:
        return _list()
    if given.prepare_data:
        return _prepare(given.prepare_data)
    if given.publish:
        published = run.fetch_run(given.publish)
        for folder in run.Run(published).folders or [published]:
            _publish(folder, given.report is not None)
        return 0
    if given.reproduce:
        from ddl.reproduce import reproduce

        place, _, trial_id = given.reproduce.rstrip("/").rpartition("/trials/")
        path = run.fetch_run(place) / "trials" / trial_id if place else Path(given.reproduce)
        return 0 if reproduce(path, given.steps) else FAILED
    if given.export:
        from ddl.export import export

        place, trial_id = given.export
        print(export(run.fetch_trial(place, trial_id), trial_id))
        return 0
    if given.report:
        runs = [run.fetch_run(one) for one in given.report]
        path = (runs[0] if len(runs) == 1 else Path(given.out)) / "report.html"
        folders = [folder for one in runs for folder in run.Run(one).folders or [one]]
        run.write_report(folders, path)
        return _end(path, run.not_reproduced(folders) if given.check else [], failed=False)
    if given.resume:
        done = run.resume(given.resume, given.executor, given.address)
    elif given.plan:
        run.show_the_plan(given.sweep, given.overrides, given.scale, given.executor or "ray", given.address)
        return 0
    else:
        done = run.run_sweep(given.sweep, given.overrides, given.scale, given.executor or "ray", given.address, given.out, command)
    missed = run.not_reproduced(done.folders) if given.check else []
    return _end(done.report, missed, failed=bool(done.failed or done.only_here))


def _end(report: Path, missed: Sequence[str], failed: bool) -> int:
    for line in missed:
        print(line)
    print(f"report: {report}")
    return NOT_REPRODUCED if missed else FAILED if failed else 0


def _publish(folder: Path, with_report: bool) -> None:
    from ddl.tracking.publish import publish

    if not with_report:
        print(publish(folder))
        return
    from ddl.reports import model, wandb_report
    from ddl.tracking.connection import WandbClient
    from ddl.tracking.privacy import Redactor

    report = model.build_report([folder])
    published = publish(folder, "online")  # without a key this ends before anything is sent
    print(published)
    if not published.entity:
        raise ValueError(f"{folder}: no trial has begun, so there is nothing to report on. Publish it when one has.")
    place = wandb_report.WandbGroup(published.entity, published.project, published.group)
    with WandbClient():
        print(
            f"report: {wandb_report.save_wandb_report(wandb_report.build_wandb_report(report, place, Redactor(folder).text), folder / 'wandb' / 'report.json')}"
        )


def _list() -> int:
    from ddl import config, yamlfile

    for name in config.config_names("sweep"):
        problems: list[str] = []
        values = yamlfile.read_yaml(config.FOLDER / "sweep" / f"{name}.yaml", problems).values
        print(f"{name:24} {values.get('title', problems)}")
    return 0


def _prepare(names: Sequence[str]) -> int:
    from ddl.data import sources

    for name in names:
        origin = sources.prepare_data(name, "full")
        print(f"{name}: {origin.source}{'' if origin.complete else ', not the whole data set'}")
    return 0
