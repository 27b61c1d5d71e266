"""Makes text safe to show: without secrets, without characters that a terminal obeys and, if it is published, without file paths."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

WITHHELD = "(withheld)"
PATH = "(path)"
SHORTEST_SECRET = 8
"""Shorter values of variables are not treated as secrets: they would remove ordinary words from texts."""
SHORTEST_LINE = 16
"""Characters from which on a line of a secret of several lines is treated as a secret itself."""

_WORDS = "(?:key|token|secret|passw(?:or)?d|passphrase|pat|credential)s?"
_VARIABLE = re.compile(rf"(?:^|_)[a-z0-9]*{_WORDS}(?:_|$)", re.IGNORECASE)
_PLACE = re.compile(r"(?:_|^)(?:path|file|dir|folder|sock)$", re.IGNORECASE)
_FIELD = re.compile(
    r"(?:^|[_.-])(?:(?:api|access|private|secret)[_-]?key|secret|token|password|passwd|passphrase|credentials?)$", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?P<key>(?:(?:api|access|private)[_-]?key|password|passwd|passphrase|secret|signature)['\"]?\s*[=:]\s*['\"]?)[^\s,;&'\"]+"
    # A word after `token:` may be an ordinary one, or the loss of a token.
    r"|(?P<token>(?:token|\b_?sig|\b_?auth)['\"]?\s*[=:]\s*['\"]?)(?![-+.\d]+(?:e[-+]?\d+)?\b)(?=[^\s,;&'\"]*\d)[^\s,;&'\"]{8,}"
    r"|(?P<header>\bauthorization['\"]?\s*[=:]\s*['\"]?(?:(?:basic|bearer|token)\s+)?|\bbearer\s+(?=\S*\d))[^\s,;&'\"]{8,}",
    re.IGNORECASE,
)
_SHAPED = re.compile(
    r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abp]-|wandb_v\d_)[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16,}"
    r"|\bAIza[\w-]{30,}"
    r"|\blocal-[0-9a-f]{40}\b"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/'\"<>@]{0,500}:[^\s/'\"<>]{0,500}@", re.IGNORECASE)

_REST = r"[^\s'\"<>|,;()\[\]]*"
_ABSOLUTE = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]{0,20}://[^\s'\"<>,;()]+)"
    # In quotes, as in Python's messages about files, a path may contain spaces.
    r"|(?P<quote>['\"])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'\"\n]*(?P=quote)"
    rf"|(?P<flag>(?<!\S)-[A-Za-z]+)~?/(?=\S){_REST}"  # of a compiler, as in -I/usr/include
    rf"|(?<![\w.~)\]<-])(?:~?/|[A-Za-z]:[\\/]|\\\\)(?=\S){_REST}",
    re.IGNORECASE,
)


class Redactor:
    """Replaces secrets in texts and nested values by `(withheld)`, and absolute paths by `(path)` in what is published.

    Secrets are the values of environment variables with names such as API_KEY, the user and password of a URL, texts in the format of
    well-known tokens and keys, the text after `password=` and the like, and any text under such a key. The rest of a text is unchanged.
    """

    def __init__(self, folder: Path | None = None, environment: Mapping[str, str] | None = None):
        """`folder` is the run's if the text is published; None keeps paths. `environment`: the variables that may hold secrets
        (default: this process's)."""
        variables = os.environ if environment is None else environment
        self._secrets = sorted({form for name, value in variables.items() for form in _secret_forms(name, value)}, key=len, reverse=True)
        self._known_paths = None if folder is None else _known_paths(folder)

    def text(self, text: str) -> str:
        """`text` without secrets and, if it is published, without absolute paths."""
        for secret in self._secrets:
            text = text.replace(secret, WITHHELD)
        text = _SHAPED.sub(WITHHELD, text)
        text = _ASSIGNED.sub(lambda match: f"{match['key'] or match['token'] or match['header']}{WITHHELD}", text)
        if self._known_paths is None:
            return _LOGIN.sub(rf"\1{WITHHELD}@", text)
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


def printable(text: str) -> str:
    """`text` with every character that a terminal would obey, such as an escape or a line break, as its escape sequence in Python."""
    return text if text.isprintable() else "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _secret_forms(name: str, value: str) -> set[str]:
    """The texts in which the value of the variable `name` may be written, if it is a secret: alone, in quotes, in a URL, line by line."""
    if len(value) < SHORTEST_SECRET or not _VARIABLE.search(name) or _PLACE.search(name):
        return set()
    lines = [line for line in value.splitlines() if len(line) >= SHORTEST_LINE]
    return {form for text in (value, *lines) for form in (text, repr(text)[1:-1], json.dumps(text)[1:-1], quote(text, safe=""))}


def _known_paths(folder: Path) -> re.Pattern[str]:
    # Known folders are replaced first: the pattern for a path ends at a space.
    folders = (folder, Path.cwd(), Path.home(), Path(tempfile.gettempdir()))
    paths = {str(path) for known in folders for path in (known.absolute(), known.resolve())} - {os.sep}
    known = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    return re.compile(rf"(?<![\w.])(?:{known})(?![\w-]){_REST}")


def _redact_match(match: re.Match[str]) -> str:
    if match["quote"]:
        return f"{match['quote']}{PATH}{match['quote']}"
    if not match["url"]:
        return f"{match['flag'] or ''}{PATH}"
    try:
        address = urlsplit(match["url"])
    except ValueError:  # a bracket, or a host that is none
        return PATH
    # Drop user, password and query: a query may contain a signature.
    return PATH if address.scheme == "file" else f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
