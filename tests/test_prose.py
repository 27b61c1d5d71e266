"""The language rules of CONTRIBUTING.md, as far as a machine can check them, file by file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .codebase import parsed, undocumented

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(
    [*(ROOT / "ddl").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "experiments").rglob("*.py"), ROOT / "launch.py"]
)
TEXT = sorted(
    [
        *CODE,
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "cluster").glob("*"),
        *(ROOT / "tune_configs").rglob("*.yaml"),
        *(ROOT / "experiments").rglob("*.yaml"),
        *(ROOT / "ddl/reports").rglob("*.j2"),
    ]
)

OPENINGS = re.compile(r"(Of|What|Where|Whether|Who|How|That)\b")
"""A docstring names its subject first: "Embedding width.", not "Of the vectors."."""

AVOIDED = {
    "fix, suggestion": r"mend(s|ed|ing)?",
    "preempted, preemption": r"told to leave",
    "labels": r"class numbers?",
    "token ids": r"word numbers?",
    "logits": r"class scores",
    "metadata": r"fact(s|)",
    "scoring classifier": r"judges?(?!_epochs|/|\", 0)|judged by",
    "sampled": r"drawn",
    "fallback data set": r"stand-?ins?|stands? in for|standing in for",
    "compared with": r"held against|hold against|hold them against",
    "allocation, fraction or shard": r"(a|an|the|its|their|this|each|equal) share|share of|shares of",
    "again": r"anew",
    "next to, with": r"beside|besides",
    "informed, given, passed": r"told|tells",
    "continues": r"goes on|go on|going on",
    "results": r"comes? of it|came of it|what came of|what comes of",
    "compute, estimate": r"reckon(s|ed|ing)?",
    "agent, vectorised agents (in rl/)": r"stacked members?",
    "timing probe or linear classifier": r"linear probes?",
    "plain words": r"none of (its|their|our|your) business|by three hands|of its own making|ahead of its time",
}
"""The word to use, and a pattern of those it replaces."""

EXEMPT = {"CHANGELOG.md", "docs/log.md"}
"""Pages that quote what was written before."""


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def openings(path: Path) -> Iterator[str]:
    """Docstrings, those under a field or a constant among them, that begin with a clause instead of their subject."""
    for node in ast.walk(parsed(path)):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else ():
            value = child.value if isinstance(child, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and OPENINGS.match(value.value.strip()):
                yield f"{child.lineno}: {value.value.strip()[:60]!r}"


def avoided(path: Path) -> Iterator[str]:
    """Words that the glossary replaces, with the line and the word to use."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for better, pattern in AVOIDED.items():
            if match := re.search(rf"\b({pattern})\b", line, re.IGNORECASE):
                yield f"{number}: {match[0]!r} -> {better}"


@pytest.mark.parametrize("path", CODE, ids=shown)
def test_every_public_definition_has_a_docstring(path):
    assert list(undocumented(path, CODE)) == []


@pytest.mark.parametrize("path", CODE, ids=shown)
def test_docstrings_open_with_their_subject(path):
    assert list(openings(path)) == []


@pytest.mark.parametrize("path", [path for path in TEXT if path.is_file() and shown(path) not in EXEMPT], ids=shown)
def test_the_glossary_is_kept(path):
    assert list(avoided(path)) == []
