"""Links and commands of the documentation, and the generated reference."""

import importlib.util
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from ddl.command_line import parse_command
from ddl.config import ConfigError
from ddl.prepared_runs import prepare_runs
from ddl.sweeps import prepare
from ddl.sweeps.capacity import Capacity, Node
from ddl.tasks.user_code import is_reference
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

COMMANDS = [(page, words) for page in PAGES for words in pages.commands(page) if words[0] in ("python", "ddl", "make")]
TARGETS = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

MACHINE = Capacity((Node(cpus=64, gpus=8),))
"""The machine that sweeps are prepared for, so that no result depends on the one that runs the tests."""

OWN_DATA = re.compile(r": reads \S+, but there is no such file or folder")
"""The problem with data of the reader's own, which a page names but does not print."""

Problems = Callable[[Path, Sequence[str]], list[str]]


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_links_resolve(page):
    broken = []
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in pages.anchors(linked)):
            broken.append(target)
    assert broken == []


@pytest.fixture
def launch_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Problems]:
    """A function that checks a page and the arguments of one of its commands.

    It parses the arguments, and prepares the sweep as the command does before anything starts, with the files that the page prints. Returns
    the problems. Placeholders, files that the page does not print, and runs of the reader's own are only parsed.
    """

    def check(page: Path, arguments: Sequence[str]) -> list[str]:
        given = parse_command([word for word in arguments if word != "..."])
        assert [word for word in given.overrides if "=" not in word] == []
        printed = pages.files(page)
        for name, content in printed.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
            if name.endswith(".py"):
                monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)  # of another page or test
        monkeypatch.chdir(tmp_path if printed else ROOT)
        sweep = given.sweep or ""
        file = sweep.partition(":")[0]
        if sweep.isupper() or not sweep or (file.endswith((".py", ".yaml")) and not Path(file).is_file()):
            return []
        scales = [given.scale] if given.scale or is_reference(sweep) else ["sample", "paper"]
        problems: dict[str, None] = {}
        for scale in scales:
            executor, out = given.executor or "ray", given.out or "runs"
            try:
                prepare_runs(Console(quiet=True), sweep, given.overrides, scale, executor, given.address, out)
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
        return [problem for problem in problems if not OWN_DATA.search(problem)]

    monkeypatch.setattr(prepare, "local_capacity", lambda: MACHINE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield check
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{pages.name(page)}: {' '.join(words)}"[:120] for page, words in COMMANDS])
def test_commands_are_valid(page: Path, words: list[str], launch_problems: Problems):
    """A page may show a command with mistakes if it also shows the problems."""
    match words:
        case ["make", *arguments]:
            targets = [
                word
                for before, word in zip(["", *arguments], arguments, strict=False)
                if before != "-C" and not re.match("-|[A-Z]+=", word)
            ]
            assert set(targets) <= TARGETS
        case ["ddl", *arguments] | ["python", "launch.py" | "cluster/sweep.py", *arguments]:
            problems = launch_problems(page, arguments)
            assert [problem for problem in problems if problem not in page.read_text(encoding="utf-8")] == []
        case ["python", "-m", module, *arguments]:
            assert importlib.util.find_spec(module)
            place = ROOT / module.replace(".", "/")
            program = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
            if program.is_file():
                assert unknown_options(program, arguments) == []
        case ["python", "-c", *_]:
            pass
        case ["python", script, *arguments] if not script.startswith("/opt/"):  # a path inside the cluster's image
            assert unknown_options(ROOT / script, arguments) == []


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_descriptions_of_commands_are_comments(page: Path):
    """The shell takes the words of any other description for arguments. A block that is not of commands is marked as `text`."""
    assert [line for line in pages.lines(page) if re.search(r"\S\s{2,}\S", line)] == []


def test_a_command_that_starts_nothing_is_found(launch_problems: Problems):
    words = ["--sweep", "augmentation", "resources.num_workers=[1,4]"]
    (problem,) = launch_problems(ROOT / "docs" / "workers.md", words)
    assert "task.batch_size: 128 is not divisible by 3 workers" in problem


def unknown_options(program: Path, arguments: list[str]) -> list[str]:
    """Options of the command line of a program that its source does not name."""
    source = program.read_text(encoding="utf-8")
    return [word for word in arguments if word.startswith("--") and f'"{word.partition("=")[0]}"' not in source]


def test_commands_are_found():
    assert any(words[:3] == ["python", "launch.py", "--sweep"] for _, words in COMMANDS)


def test_reference_is_up_to_date():
    """If this fails: python docs/reference/generate.py"""
    generate = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    for name, content in generate["pages"]().items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == content, name


def test_every_schema_field_is_documented():
    for name in ("launch.md", "sweep.md", "tasks.md"):
        rows = re.findall(r"^\| `.*\|  \|$", (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert rows == []
