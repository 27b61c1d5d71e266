"""Figures about the package's source: `python -m tests.codebase [FOLDER]` prints lines of code, missing docstrings and duplicate names."""

import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENTRY_POINTS = {"main"}
"""Names that every command has."""

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}


def lines_of_code(path: Path) -> int:
    """Lines of a file with code on them: no comments, blank lines or docstrings."""
    source = path.read_text(encoding="utf-8")
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def duplicate_names(folder: Path) -> dict[str, list[str]]:
    """Public classes and functions that are defined in more than one module below `folder`, with the modules."""
    homes = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") and node.name not in ENTRY_POINTS:
                homes[node.name].append(path.relative_to(folder.parent).as_posix())
    return {name: places for name, places in homes.items() if len(places) > 1}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def inherited_documentation(files: tuple[Path, ...]) -> dict[str, set[str]]:
    """For each class of `files`, by name: the methods that its base classes document."""
    documented: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in files:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                documented[node.name] = {m.name for m in node.body if isinstance(m, ast.FunctionDef) and ast.get_docstring(m)}
                bases[node.name] = [name for base in node.bases if (name := ast.unparse(base).removeprefix("ddl.")).isidentifier()]

    def all_of(name: str) -> set[str]:
        return documented.get(name, set()).union(*(all_of(base) for base in bases.get(name, ())))

    return {name: set().union(*(all_of(base) for base in bases[name])) for name in documented}


OUTSIDE = {"forward", "train"}
"""Methods of `nn.Module`, whose shapes are in the class's docstring."""


def undocumented(path: Path, files: Iterable[Path]) -> Iterator[str]:
    """Public modules, classes, functions and methods of `path` without a docstring, unless a base class in `files` documents the method."""
    tree = parsed(path)
    if tree.body and not ast.get_docstring(tree):
        yield "1: the module"
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{node.lineno}: {node.name}"
        if isinstance(node, ast.ClassDef):
            known = inherited_documentation(tuple(files))[node.name] | OUTSIDE
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and method.name not in known:
                    if any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in method.decorator_list):
                        continue
                    if not ast.get_docstring(method):
                        yield f"{method.lineno}: {node.name}.{method.name}"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "ddl"
    files = list(folder.rglob("*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    missing = sum(len(list(undocumented(path, files))) for path in files)
    names = duplicate_names(folder)
    print(f"lines of code: {sum(map(lines_of_code, files)):,} in {len(files)} files ({lines:,} lines in all)")
    print(f"public definitions without a docstring: {missing}")
    print(f"public names defined in several modules: {len(names)} {', '.join(names)}")


if __name__ == "__main__":
    main()
