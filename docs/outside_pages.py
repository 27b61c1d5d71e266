"""MkDocs hook: adds pages that are outside `docs/` to the site, and rewrites the links to them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "cluster/README.md": "starting-a-cluster.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"\]\((?P<target>[^):#\s]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the outside pages, with their links as seen from `docs/`."""
    for source, page in OUTSIDE.items():
        content = _relinked((ROOT / source).read_text(encoding="utf-8"), (ROOT / source).parent)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to outside pages at their copies in the site."""
    return _relinked(markdown, (ROOT / "docs" / page.file.src_uri).parent, depth=page.file.src_uri.count("/"))


def _relinked(markdown: str, folder: Path, depth: int = 0) -> str:
    def replaced(match: re.Match[str]) -> str:
        target = (folder / match["target"]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        source = target.relative_to(ROOT).as_posix()
        if source in OUTSIDE:
            return f"]({'../' * depth}{OUTSIDE[source]}{match['anchor'] or ''})"
        if folder != ROOT / "docs" and source.startswith("docs/") and depth == 0:
            return f"]({source.removeprefix('docs/')}{match['anchor'] or ''})"
        return match[0]

    return LINK.sub(replaced, markdown)
