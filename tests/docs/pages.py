"""The documentation's pages, their links, headings, commands and example files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "cluster" / "README.md"])
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def name(path: Path) -> str:
    """The path relative to the repository's root."""
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The page without fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))


def links(path: Path) -> list[str]:
    """Relative targets of links and images."""
    return [target for target in LINK.findall(prose(path)) if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-") for heading in headings}


def lines(path: Path) -> Iterator[str]:
    """Lines of the fenced blocks without a language, or with `sh`, `bash` or `console`, without comments. A continued line is one line."""
    for fence in FENCE.finditer(path.read_text(encoding="utf-8")):
        if fence["info"].split(" ")[0] in ("", "sh", "bash", "console"):
            for line in re.sub(r"\s*\\\n\s*", " ", fence["body"]).splitlines():
                yield re.split(r"(?:^|\s)#", line.strip().removeprefix("$ "))[0].rstrip()


def commands(path: Path) -> Iterator[list[str]]:
    """Words of every shell command in `lines`."""
    for line in lines(path):
        yield from _split(line)


def _split(line: str) -> Iterator[list[str]]:
    """Words of the commands in a line, and of those in a quoted argument, such as that of `ray exec`."""
    try:
        words = shlex.split(line)
    except ValueError:  # an unbalanced quote: not a shell command, or one that spans lines
        return
    command: list[str] = []
    for word in [*words, "&&"]:
        if " && " in word:
            yield from _split(word)
        if word != "&&":
            command.append(word)
            continue
        while command and re.fullmatch(r"[A-Z_]+=\S*", command[0]):
            command = command[1:]
        if command:
            command[0] = command[0].removeprefix(".venv/bin/")
            yield command
        command = []


def files(path: Path) -> dict[str, str]:
    """Content of the fenced blocks with a title, by that title."""
    found = {}
    for fence in FENCE.finditer(path.read_text(encoding="utf-8")):
        if title := re.search(r'title="([^"]+)"', fence["info"]):
            found[title[1]] = fence["body"]
    return found
