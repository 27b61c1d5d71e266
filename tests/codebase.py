"""Figures about the package's source: `python -m tests.codebase [FOLDER]` prints lines of code, missing docstrings and duplicate names."""

import ast
import io
import sys
import tokenize
from collections import defaultdict
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
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def duplicate_names(folder: Path) -> dict[str, list[str]]:
    """Public classes and functions that are defined in more than one module below `folder`, with the modules."""
    homes = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") and node.name not in ENTRY_POINTS:
                homes[node.name].append(path.relative_to(folder.parent).as_posix())
    return {name: places for name, places in homes.items() if len(places) > 1}


def undocumented(folder: Path) -> int:
    """Public modules, classes, functions and methods below `folder` without a docstring of their own."""
    missing = 0
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        missing += bool(tree.body) and not ast.get_docstring(tree)
        for node in ast.walk(tree):
            for child in getattr(node, "body", ()) if isinstance(node, ast.Module | ast.ClassDef) else ():
                if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                    missing += not ast.get_docstring(child)
    return missing


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "ddl"
    files = list(folder.rglob("*.py"))
    print(
        f"lines of code: {sum(map(lines_of_code, files)):,} in {len(files)} files ({sum(len(p.read_text().splitlines()) for p in files):,} lines in all)"
    )
    print(f"public definitions without a docstring of their own, overrides included: {undocumented(folder)}")
    print(f"public names defined in several modules: {len(duplicate_names(folder))} {', '.join(duplicate_names(folder))}")


if __name__ == "__main__":
    main()
