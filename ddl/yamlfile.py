"""The YAML files of tune_configs, and a reader of YAML 1.2 of bounded size, with the line of every key."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent
FOLDER = _HERE / "tune_configs" if (_HERE / "tune_configs").is_dir() else _HERE.parent / "tune_configs"
"""`tune_configs/`: inside the package if it is installed, next to it in a checkout."""

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
_OPENS = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken)
_CLOSES = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
MAX_DIGITS = 300
"""Longest whole number. A longer one does not fit a float."""

_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
)
"""Tag, pattern and first characters of the scalars that are not text: the core schema of YAML 1.2, section 10.3.2."""

_SYNTAX = (
    ("found character '\\t'", "a tab. Use spaces."),
    ("mapping values are not allowed here", "indented deeper than its section. Indent the lines of a section alike."),
    ("sequence entries are not allowed here", "a list item in the line of its key. Begin the list in the next line, or write [a, b]."),
    ("could not find expected ':'", "a key without a colon. Write `key: value`."),
    ("expected <block end>, but found '<block", "indented differently from the section of line {}. Indent the lines of a section alike."),
    ("expected <block end>, but found '<scalar>'", "text after a closing quote. Put the whole value in one pair of quotes."),
    ("expected <block end>", "a list item and a `key: value` in the section of line {}. Use one of them."),
    ("expected ','", "no comma or closing bracket after a value. The bracket is opened in line {}."),
    ("expected the node content", "no value before this bracket or comma."),
    ("found unexpected end of stream", "the end of the file in a quote. The quote is opened in line {}."),
    ("found unknown escape character", "a backslash in double quotes. Use single quotes."),
    ("but found another document", "a second document. Remove the line `---`."),
    ("that cannot start any token", "a value that begins with @, ` or %. Put it in quotes."),
)
"""Parts of PyYAML's messages, and what they mean; {} is the line in which the unfinished part begins."""


def config_names(kind: str, folder: Path = FOLDER) -> list[str]:
    """Names of the YAML files of a kind, `sweep` or `task`."""
    return sorted(path.stem for path in (folder / kind).glob("*.yaml"))


@dataclass(frozen=True)
class YamlFile:
    """The content of a YAML file. `lines` maps a key's dotted path to its line, counted from 1."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]

    def where(self, key: str) -> str:
        """`file:line` of a dotted key, or of the nearest key above it that is in the file."""
        while key not in self.lines and "." in key:
            key = key.rpartition(".")[0]
        return f"{self.path}:{self.lines.get(key, 1)}"


def read_yaml(path: Path, problems: list[str]) -> YamlFile:
    """Read a file whose top level is a mapping. Each problem with it becomes a line in `problems`; then the result is empty.

    Refused: duplicate keys (PyYAML silently keeps the last), aliases (a few lines can expand to gigabytes), tags, and nesting beyond
    `MAX_DEPTH`.
    """
    empty = YamlFile(path, {}, {})
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror}).")
        return empty
    if len(content) > MAX_BYTES:
        problems.append(f"{path}: {len(content)} bytes; a configuration may have at most {MAX_BYTES}.")
        return empty
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8.")
        return empty
    try:
        if refused := _refused(text):
            problems.append(f"{path}:{refused}")
            return empty
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        problems.append(f"{path}:{_not_yaml(error, text)}")
        return empty
    if not isinstance(node, yaml.MappingNode) or not node.value:
        problems.append(f"{path}:1: must be a mapping: lines of `key: value`.")
        return empty
    lines: dict[str, int] = {}
    before = len(problems)
    _check_node(path, loader, node, "", 1, lines, problems)
    if len(problems) > before:
        return empty
    return YamlFile(path, loader.construct_document(node), lines)


def _refused(text: str) -> str:
    """`line: reason` of the first token that is not allowed, or an empty text.

    The depth is counted on tokens, because PyYAML takes minutes to compose a hundred thousand nested brackets.
    """
    depth = 0
    for token in yaml.scan(text):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
            return f"{line}: has an alias, an anchor or a tag. Write the values out."
        if isinstance(token, _OPENS):
            depth += 1
        elif isinstance(token, _CLOSES):
            depth -= 1
        if depth > MAX_DEPTH:
            return f"{line}: nested deeper than {MAX_DEPTH} levels."
    return ""


class _Loader(yaml.SafeLoader):
    """Reads scalars by the core schema of YAML 1.2. PyYAML's own schema is 1.1, to which 1e-3 is text and `no` is false."""

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """The value of an integer: 010 is ten, and 0o10 eight. Raises ValueError beyond `MAX_DIGITS`."""
        if len(node.value) > MAX_DIGITS:
            raise ValueError(f"a number of {len(node.value)} digits; at most {MAX_DIGITS} are read. Put text in quotes.")
        return int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def _not_yaml(error: yaml.YAMLError, text: str) -> str:
    """`line: reason` of a syntax error."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"{text.count(chr(10), 0, error.position) + 1}: not YAML: the character #x{error.character:04x}. Remove it."
    assert isinstance(error, yaml.MarkedYAMLError)
    mark, problem = error.problem_mark, str(error.problem)
    begins = error.context_mark.line + 1 if error.context_mark else 1
    line = mark.line + 1 if mark else begins
    meaning = next((meaning.format(begins) for part, meaning in _SYNTAX if part in problem), f"{problem}.")
    if problem.startswith("mapping values") and mark and ": " in text.splitlines()[mark.line][: mark.column]:
        meaning = "a second colon in one line. Put text with a colon in quotes."
    elif problem.startswith("could not find"):  # the mark is in the next line
        line = begins
    return f"{line}: not YAML: {meaning}"


def _check_node(path: Path, loader: _Loader, node: yaml.Node, key: str, depth: int, lines: dict[str, int], problems: list[str]) -> None:
    """Check a node and those below it, and add the lines of their keys to `lines`."""
    line = node.start_mark.line + 1
    if depth > MAX_DEPTH:
        problems.append(f"{path}:{line}: {key}: nested deeper than {MAX_DEPTH} levels.")
    elif isinstance(node, yaml.MappingNode):
        keys: dict[Any, int] = {}
        for key_node, value_node in node.value:
            name = f"{key}.{key_node.value}" if key else str(key_node.value)
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(f"{path}:{key_line}: a key must be plain text.")
            elif name in lines:
                problems.append(f"{path}:{key_line}: {name}: duplicate key, first in line {lines[name]}. Remove one.")
            else:
                lines[name] = key_line
                value = _check_scalar(path, loader, key_node, name, problems)
                if value in keys:  # 1 and 1.0 are one key, and so are `~` and `null`
                    problems.append(f"{path}:{key_line}: {name}: the same key as in line {keys[value]} to YAML. Put it in quotes.")
                keys[value] = key_line
                _check_node(path, loader, value_node, name, depth + 1, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check_node(path, loader, item, f"{key}.{index}", depth + 1, lines, problems)
    elif isinstance(node, yaml.ScalarNode):
        _check_scalar(path, loader, node, key, problems)


def _check_scalar(path: Path, loader: _Loader, node: yaml.ScalarNode, key: str, problems: list[str]) -> Any:
    """The value of a scalar; its text if it has none."""
    try:
        return loader.construct_object(node)
    except ValueError as error:
        problems.append(f"{path}:{node.start_mark.line + 1}: {key[:80]}: {error}")
        return node.value
