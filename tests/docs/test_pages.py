"""Links and commands of the documentation, and the generated reference."""

import importlib.util
import re
import runpy
from pathlib import Path

import pytest

from ddl import config, yamlfile
from ddl.command_line import parser
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

COMMANDS = [(page, words) for page in PAGES for words in pages.commands(page) if words[0] in ("python", "ddl", "make")]
TARGETS = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_links_resolve(page):
    broken = []
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in pages.anchors(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{pages.name(page)}: {' '.join(words)}"[:120] for page, words in COMMANDS])
def test_commands_exist(page, words):
    match words:
        case ["make", *arguments]:
            targets = [
                word
                for before, word in zip(["", *arguments], arguments, strict=False)
                if before != "-C" and not re.match("-|[A-Z]+=", word)
            ]
            assert set(targets) <= TARGETS
        case ["ddl", *arguments] | ["python", "launch.py" | "cluster/sweep.py", *arguments]:
            problems = launch_problems(arguments)
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


def unknown_options(program: Path, arguments: list[str]) -> list[str]:
    """Options of the command line of a program that its source does not name."""
    source = program.read_text(encoding="utf-8")
    return [word for word in arguments if word.startswith("--") and f'"{word.partition("=")[0]}"' not in source]


def launch_problems(arguments: list[str]) -> list[str]:
    """Parse the arguments, and compose the sweep if all its names are sweeps of the repository. Returns the problems.

    A page may show a command with mistakes if it also shows the problems.
    """
    given = parser().parse_intermixed_args([word for word in arguments if word != "..."])
    assert [word for word in given.overrides if "=" not in word] == []
    problems: list[str] = []
    names = (given.sweep or "").split(",")
    if set(names) <= set(yamlfile.config_names("sweep")):
        for name in names:
            config.compose_sweep(name, given.overrides, given.scale or "sample", problems)
    return problems


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
