"""What must not leave the machine with a record: secrets, and where files lie."""

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
"""A shorter value of a variable is no secret worth the name, and would blank out ordinary words."""

_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
_FIELD = re.compile(
    r"(?:^|[_.-])(?:(?:api|access|private|secret)_?key|secret|token|password|passwd|passphrase|credentials?)$", re.IGNORECASE
)
_ASSIGNED = re.compile(r"\b([\w.-]*(?:api_?key|access_?key|token|password|passwd|secret))(\s*[=:]\s*)[^\s,;'\"]+", re.IGNORECASE)
_SHAPED = re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abp]-|AKIA)[\w-]{16,}")

_REST = r"[^\s'\"<>|,;()\[\]]*"
_ABSOLUTE = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s'\"<>,;()]+)"
    # In quotes a path may hold blanks, as in Python's own messages about files.
    r"|(?P<quote>['\"])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'\"\n]*(?P=quote)"
    rf"|(?<![\w.~)\]<-])(?:~?/|[A-Za-z]:[\\/]|\\\\)(?=\S){_REST}",
    re.IGNORECASE,
)


class Redactor:
    """Takes secrets and absolute paths out of texts and nested values.

    A secret is the value of an environment variable whose name says so, a text that looks like a well-known kind of
    token, what stands behind `password=` and the like, and any text under such a key. The rest of a text stays.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None):
        """`folder` is the run's; `environment` the variables that may hold secrets (default: this process's)."""
        variables = os.environ if environment is None else environment
        secrets = {value for name, value in variables.items() if _VARIABLE.search(name) and len(value) >= SHORTEST_SECRET}
        self._secrets = sorted(secrets, key=len, reverse=True)
        # These are taken out by name first: a blank in one would end the pattern for a path too early.
        folders = (folder, Path.cwd(), Path.home(), Path(tempfile.gettempdir()))
        places = {str(place) for known in folders for place in (known.absolute(), known.resolve())} - {os.sep}
        known = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
        self._places = re.compile(rf"(?<![\w.])(?:{known})(?![\w-]){_REST}")

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, WITHHELD)
        text = _SHAPED.sub(WITHHELD, text)
        text = _ASSIGNED.sub(rf"\1\2{WITHHELD}", text)
        text = self._places.sub(PATH, text)
        return _ABSOLUTE.sub(_without_place, text)

    def value(self, value: Any) -> Any:
        """`value`, a JSON-serialisable one, with every text in it cleaned, keys included."""
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


def _without_place(found: re.Match[str]) -> str:
    if found["quote"]:
        return f"{found['quote']}{PATH}{found['quote']}"
    if not found["url"]:
        return PATH
    address = urlsplit(found["url"])
    # Of an address: no name and password, no query, which may carry a signature.
    return PATH if address.scheme == "file" else f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
