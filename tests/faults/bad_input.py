"""Campaign: bad input ends with exit code 2, every mistake with its place, nothing written, and no traceback.

`bad_inputs.txt` has the table: a kind and an input in each line. The fuzz makes inputs of parts of valid ones.
"""

import contextlib
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ddl import config, yamlfile
from ddl.launch import BAD_INPUT
from ddl.launch import main as command
from ddl.sweeps import space

from .figures import write_figures

SEED = 21
TABLE = Path(__file__).with_name("bad_inputs.txt")
SWEEP = (
    "task: classification\ntitle: A small sweep\nmetric: {name: val/accuracy, mode: max}\n"
    "scale: {smoke: {task.content: sample, task.epochs: 1}}\nspace: {task.lr: [0.1, 0.2]}\n"
)
ARGUMENTS = ("--scale", "smoke", "--executor", "inline", "wandb.mode=disabled")
PARTS = (
    "task", "task.lr", "task.epochs", "task.widths", "lr", "seeds", "resources", "cpus", "space", "configurations", "set", "scale", "smoke",
    "metric", "name", "mode", "max", "title", "plugins", "samples", "reference", "uniform", "[0.1, 0.2]", "{uniform: [0, 1]}", "[", "]", "{", "}", ":", ": ",
    "=", ",", "'", '"', "\n", "\n  ", "- ", "#", "&a", "*a", "!!python/object:os.system", "|", ">", "%", "@", "~", "null", "true", ".nan", "-.inf", "1e400", "0x",
    "0o9", "-1", "0", "1e-3", "9" * 40, "../x", "/etc/passwd", "\t", "\x1b[31m", "\u202e", "é", "日本", "\x85", "a" * 400, "${oc.env:HOME}", "$(id)", "`id`",
    "configurations=", "task.lr=0.1", "~task.lr", "+task.x=1", "++task.lr=2", "task.lr=choice(1,2)", "task.lr=range(1,9)", "task.lr=glob(*)", "seeds=2",
)  # fmt: skip
"""Parts of which the fuzz makes inputs."""


def read_table() -> list[tuple[str, str]]:
    """Kind (`yaml`, `override` or `command`) and input."""
    return [(kind, json.loads(text)) for kind, _, text in (line.partition(" ") for line in TABLE.read_text(encoding="utf-8").splitlines())]


def refuse(table: Sequence[tuple[str, str]], folder: Path) -> int:
    """Give each input to the command, in the empty current `folder`. Returns their number; raises AssertionError if one is not refused well."""
    for kind, text in table:
        (folder / "bad.yaml").write_text(SWEEP + text if kind == "yaml" else SWEEP, encoding="utf-8", errors="surrogateescape")
        arguments = json.loads(text) if kind == "command" else ["--sweep", "bad.yaml", *ARGUMENTS, *([text] if kind == "override" else [])]
        code, said = run_command(arguments)
        assert code == BAD_INPUT, (kind, text, code, said)
        assert "Traceback" not in said, (kind, text, said)
        assert all(character.isprintable() or character == "\n" for character in said), (kind, text, said)
        place = {"yaml": "bad.yaml:", "override": "", "command": ""}[kind]
        assert place in said, (kind, text, said)
        assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml"], (kind, text)
    return len(table)


def run_command(arguments: Sequence[str]) -> tuple[int | str | None, str]:
    """Exit code, and everything that is printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code: int | str | None = command(arguments)
        except SystemExit as ended:  # of argparse
            code = ended.code
    return code, printed.getvalue()


def fuzz(number: int, seed: int, folder: Path, seconds: float = float("inf")) -> Counter[str]:
    """Compose `number` sweeps of random YAML and overrides, or as many as `seconds` allow. Raises whatever ddl raises."""
    chance, outcomes, path = random.Random(seed), Counter[str](), folder / "fuzz.yaml"
    end = time.monotonic() + seconds
    for _ in range(number):
        if time.monotonic() > end:
            break
        kind = chance.choice(["yaml", "yaml", "override"])
        text = "".join(chance.choice(PARTS) for _ in range(chance.choice([1, 2, 3, 5, 9])))
        content, overrides = SWEEP, [text]
        if kind == "yaml":
            at = chance.randrange(len(SWEEP))
            content, overrides = chance.choice([SWEEP + text, SWEEP[:at] + text + SWEEP[at:], SWEEP[:at] + text, text]), []
        path.write_text(content, encoding="utf-8")
        problems: list[str] = []
        try:
            sweep = config.compose_sweep(str(path), overrides, "smoke", problems)
            if sweep is not None:
                space.expand_trials(sweep, problems)
        except Exception as error:
            raise AssertionError(f"{kind} {content!r} {overrides!r}") from error
        assert sweep is not None or problems, (content, overrides)
        places = (str(path), str(yamlfile.FOLDER), config.COMMAND_LINE, "resources", "--sweep")
        assert all(line.startswith(places) for line in problems), (content, overrides, problems)
        assert sorted(each.name for each in folder.iterdir()) == ["fuzz.yaml"], (content, overrides)
        outcomes[f"{kind}: {'refused' if problems else 'valid'}"] += 1
    return outcomes


def main(number: int = 20_000, seconds: float = 1500) -> None:
    with tempfile.TemporaryDirectory(prefix="ddl-faults-") as scratch, contextlib.chdir(scratch):
        table = refuse(read_table(), Path(scratch))
        Path(scratch, "bad.yaml").unlink()
        outcomes = fuzz(number, SEED, Path(scratch), seconds)
    rows = [("bad inputs in the table, all refused", table), ("seed of the fuzz", SEED), ("random inputs", sum(outcomes.values()))]
    write_figures("bad_input", "Bad input", [*rows, *sorted(outcomes.items()), ("tracebacks", 0), ("files written", 0)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
