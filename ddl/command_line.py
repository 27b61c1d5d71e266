"""Options of the command line: their parser, the combinations that are allowed, and the messages for mistakes.

Imports nothing that takes time, so that a mistyped option is answered at once.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from ddl.program import program

ACTIONS = ("--sweep", "--list", "--resume", "--confirm", "--reproduce", "--publish", "--export", "--prepare-data", "--report")
"""The actions of the command, one at a time. Only `--publish` may be combined with `--report`."""
USED_WITH = {
    "--scale": ("--sweep",),
    "--steps": ("--reproduce",),
    "--plan": ("--sweep", "--confirm"),
    "--executor": ("--sweep", "--resume", "--confirm"),
    "--address": ("--sweep", "--resume", "--confirm"),
    "--out": ("--sweep", "--confirm", "--report"),
    "--format": ("--report",),
    "--check": ("--sweep", "--resume", "--report"),
    "--again": ("--resume",),
    "--allow-changed-code": ("--resume", "--confirm", "--export"),
    "--trust": ("--resume", "--confirm", "--reproduce", "--publish", "--report", "--export"),
    "KEY=VALUE": ("--sweep", "--confirm"),
}
"""The actions that each other option belongs to. `--plan` can be added to `--sweep` and `--confirm`: it ignores `--check`, and only reads `--out`."""
VALUES = {"--scale": ("smoke", "sample", "paper"), "--executor": ("ray", "inline")}
"""The values of options that take one of a few."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parse = argparse.ArgumentParser(
        prog=program(),
        description="Train every configuration of a sweep in parallel, and write a report that compares them.",
        epilog="exit codes: 0 success; 1 a trial failed, something was not uploaded, the sweep had to stop, or --reproduce found a difference; "
        "2 bad input, or a sweep that cannot work; 4 see --check; 130 interrupted (can be resumed)",
        allow_abbrev=False,
    )
    _add_actions(parse)
    _add_options(parse)
    return parse


def _add_actions(parse: argparse.ArgumentParser) -> None:
    action = parse.add_mutually_exclusive_group()
    action.add_argument(
        "--sweep", metavar="NAME|FILE.yaml|FILE.py:FUNCTION", help="the sweep to run; several with commas, or all, run as one queue"
    )
    action.add_argument("--list", action="store_true", help="list the sweeps")
    action.add_argument("--resume", metavar="RUN|URL", help="finish an interrupted run")
    action.add_argument(
        "--confirm",
        metavar="RUN|URL",
        help="train the best two configurations of a run again on 10 fresh seeds, and score each trial once on test data",
    )
    action.add_argument(
        "--reproduce",
        metavar="RUN|URL/trials/ID",
        help="train a trial's first steps again from its record; exit 1 if they do not agree",
    )
    action.add_argument("--publish", metavar="RUN|URL", help="upload a run to W&B")
    parse.add_argument(
        "--report",
        metavar="RUN|URL",
        nargs="*",
        help="write the report of a run again, or one over several runs; with --publish RUN: that run's report as a W&B Report",
    )
    action.add_argument("--export", metavar=("RUN|URL", "TRIAL_ID"), nargs=2, help="export a trained model for use without ddl")
    action.add_argument(
        "--prepare-data",
        metavar="NAME|folder:PATH",
        nargs="+",
        help="download and verify whole data sets; check and decode your own images",
    )


def _add_options(parse: argparse.ArgumentParser) -> None:
    parse.add_argument(
        "--scale",
        metavar="{smoke,sample,paper}",
        help="seconds | minutes on 2 cores, bundled data | the study's own size (default: paper with a GPU, else sample)",
    )
    parse.add_argument("--steps", metavar="K", type=int, help="with --reproduce: only the first K steps (default: all recorded ones)")
    parse.add_argument("--plan", action="store_true", help="show the trials, their resources and the expected duration; train nothing")
    parse.add_argument(
        "--executor",
        metavar="{ray,inline}",
        help="inline: one process, trial after trial, for a debugger (default: ray; with --resume: that of the run)",
    )
    parse.add_argument("--address", metavar="auto|HOST:PORT", help="a running Ray cluster (default: a private local one)")
    parse.add_argument(
        "--out",
        metavar="DIR|URL|FILE",
        help="folder for runs, or a URL such as s3://bucket/runs (default: runs); with --format markdown: the file to write",
    )
    parse.add_argument(
        "--format", choices=("html", "markdown"), default="html", help="with --report: html, or the tables of results as Markdown (printed)"
    )
    parse.add_argument(
        "--again", metavar="TRIAL_ID", nargs="+", default=[], help="with --resume: train these trials again from their beginning"
    )
    parse.add_argument(
        "--trust",
        action="store_true",
        help="treat a run that someone else began as your own: import its plugin, follow its links, read the files and use the URL it names",
    )
    parse.add_argument(
        "--allow-changed-code",
        action="store_true",
        help="with --resume, --confirm, --export: continue although the source of the run's task has changed",
    )
    parse.add_argument(
        "--check", action="store_true", help='exit 4 if a published value is not reproduced: the verdict is "better" or "worse"'
    )
    parse.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="task.lr=0.01, task.lr=0.1,0.01 (an axis), configurations=NAME,NAME (only these), seeds=5, samples=20, resources.cpus=2, ...",
    )


def parse_command(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse and check `arguments`. Raises ValueError for an unknown option or value and for options that cannot be combined.

    argparse prints the other mistakes, and exits with 2.
    """
    given, unknown = parser().parse_known_intermixed_args(arguments)
    if unknown:
        raise ValueError(_unknown_option(unknown[0]))
    _check_combination(given, arguments)
    return given


def _check_combination(given: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Raise ValueError for combinations of options that argparse cannot refuse."""
    words = itertools.takewhile(lambda word: word != "--", arguments)
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    for option in options:
        value = getattr(given, option.removeprefix("--").replace("-", "_"))
        if options.count(option) > 1:
            several = " Name several sweeps with commas." if option == "--sweep" else ""
            raise ValueError(f"{option}: given more than once. Give it once.{several}")
        if "" in (value if isinstance(value, list) else [value]):
            raise ValueError(f"{option}: the value is empty. Name one, or remove {option}.")
        if value is not None and option in VALUES and value not in VALUES[option]:
            raise ValueError(_unknown_value(option, value))
    action = next((option for option in ACTIONS if option in options), None)
    if action is None:
        raise ValueError(_no_action(given.overrides))
    if "--report" in options and action not in ("--report", "--publish"):
        raise ValueError(f"--report cannot be combined with {action}. Use it alone, or with --publish RUN.")
    if given.report and action == "--publish":
        raise ValueError(f"--publish RUN --report is about that one run. Remove {' '.join(given.report)}, or publish each.")
    if given.report == [] and action == "--report":
        raise ValueError("--report: name one or several runs.")
    for option, actions in USED_WITH.items():
        shown = option if option in options else " ".join(given.overrides) if option == "KEY=VALUE" else ""
        if shown and action not in actions:
            raise ValueError(f"{shown} cannot be combined with {action}, only with {' or '.join(actions)}. Remove it.")
    if "--out" in options and action == "--report":
        if given.format == "markdown":
            if "://" in given.out or Path(given.out).is_dir():
                raise ValueError(f"--out {given.out}: with --format markdown this is the file to write. Name a file.")
        elif len(given.report) == 1:
            raise ValueError("--out: the report of a single run is written to the folder of the run. Remove --out.")
        elif "://" in given.out:
            raise ValueError(f"--out {given.out}: a report over several runs is written to a local folder. Name one.")


def _unknown_option(word: str) -> str:
    """The message for an option that does not exist."""
    from ddl import yamlfile
    from ddl.hints import did_you_mean

    option, _, value = word.partition("=")
    key = option.lstrip("-")
    settings = yamlfile.read_yaml(yamlfile.FOLDER / "launch.yaml", []).values
    if key.partition(".")[0] in (*settings, "task", "configurations", "samples", "metric"):
        return f"{option}: settings are written without dashes: {key}={value or 'VALUE'}."
    options = [name.removeprefix("--") for name in (*ACTIONS, *USED_WITH, "--help")]  # the dashes alone would make short names similar
    similar = did_you_mean(key, options).replace("mean ", "mean --")
    return f"{option}: unknown option." + (similar or f" See --help. A hyperparameter is written task.{key}={value or 'VALUE'}.")


def _unknown_value(option: str, value: str) -> str:
    """The message for a value that is not one of `VALUES`."""
    from ddl.hints import did_you_mean

    known = ", ".join(VALUES[option])
    return f"{option}: {value!r} is unknown.{did_you_mean(value, VALUES[option]) or f' Use {known}.'}"


def _no_action(words: Sequence[str]) -> str:
    """The message for a command without an action. `words` are its arguments without dashes."""
    from ddl import yamlfile
    from ddl.hints import did_you_mean

    sweeps = yamlfile.config_names("sweep")
    for word in words:
        bare = word.lstrip("-\N{EN DASH}\N{EM DASH}")  # some editors turn two dashes into a longer one
        option = f"--{bare.partition('=')[0]}"
        if option in (*ACTIONS, *USED_WITH):
            return f"{word}: write {option}."
        if word in (*sweeps, "all") or word.endswith((".yaml", ".yml")):
            return f"{word}: write --sweep {word}."
        if Path(word).is_dir():
            return f"{word}: write --resume {word} to finish this run, or --report {word} for its report."
        if "=" not in word and (near := did_you_mean(word, sweeps)):
            return f"{word}: unknown. Write --sweep and the name of a sweep.{near}"
    return f"nothing to do: name one of {', '.join(ACTIONS)}. See --help."
