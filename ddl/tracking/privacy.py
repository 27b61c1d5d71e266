"""Removes secrets and file paths from everything that is published."""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WITHHELD = "(withheld)"
PATH = "(path)"
SHORTEST_SECRET = 8
"""Shorter values of variables are not treated as secrets: they would remove ordinary words from texts."""

_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
_FIELD = re.compile(
    r"(?:^|[_.-])(?:(?:api|access|private|secret)_?key|secret|token|password|passwd|passphrase|credentials?)$", re.IGNORECASE
)
_ASSIGNED = re.compile(r"\b([\w.-]*(?:api_?key|access_?key|token|password|passwd|secret))(\s*[=:]\s*)[^\s,;'\"]+", re.IGNORECASE)
_SHAPED = re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abp]-|AKIA)[\w-]{16,}")

_REST = r"[^\s'\"<>|,;()\[\]]*"
_ABSOLUTE = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s'\"<>,;()]+)"
    # In quotes, as in Python's messages about files, a path may contain spaces.
    r"|(?P<quote>['\"])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'\"\n]*(?P=quote)"
    rf"|(?<![\w.~)\]<-])(?:~?/|[A-Za-z]:[\\/]|\\\\)(?=\S){_REST}",
    re.IGNORECASE,
)


class Redactor:
    """Replaces secrets and absolute paths in texts and nested values.

    Secrets are the values of environment variables with names such as API_KEY, texts in the format of well-known tokens, the
    text after `password=` and the like, and any text under such a key. The rest of a text is unchanged.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None):
        """`folder` is the run's; `environment` the variables that may hold secrets (default: this process's)."""
        variables = os.environ if environment is None else environment
        secrets = {value for name, value in variables.items() if _VARIABLE.search(name) and len(value) >= SHORTEST_SECRET}
        self._secrets = sorted(secrets, key=len, reverse=True)
        # Known folders are replaced first: the pattern for a path ends at a space.
        folders = (folder, Path.cwd(), Path.home(), Path(tempfile.gettempdir()))
        paths = {str(path) for known in folders for path in (known.absolute(), known.resolve())} - {os.sep}
        known = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
        self._known_paths = re.compile(rf"(?<![\w.])(?:{known})(?![\w-]){_REST}")

    def text(self, text: str) -> str:
        """`text` without secrets and absolute paths."""
        for secret in self._secrets:
            text = text.replace(secret, WITHHELD)
        text = _SHAPED.sub(WITHHELD, text)
        text = _ASSIGNED.sub(rf"\1\2{WITHHELD}", text)
        text = self._known_paths.sub(PATH, text)
        return _ABSOLUTE.sub(_redact_match, text)

    def value(self, value: Any) -> Any:
        """A JSON-serialisable `value` with every text in it redacted, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): WITHHELD if isinstance(item, str) and _FIELD.search(str(key)) else self.value(item)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def _redact_match(match: re.Match[str]) -> str:
    if match["quote"]:
        return f"{match['quote']}{PATH}{match['quote']}"
    if not match["url"]:
        return PATH
    address = urlsplit(match["url"])
    # Drop user, password and query: a query may contain a signature.
    return PATH if address.scheme == "file" else f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
