"""The YAML files of tune_configs, and a reader of YAML of bounded size, without YAML's surprises, and with the line of every key."""

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
_NUMBER_AS_TEXT = re.compile(r"[-+]?(\d+|\d*\.\d+)[eE][-+]?\d+")


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

    Refused: duplicate keys (PyYAML silently keeps the last), aliases (a few lines can expand to gigabytes), tags, nesting
    beyond `MAX_DEPTH`, and numbers such as 1e-3, which YAML 1.1 reads as text.
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
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problems.append(f"{path}:{line}: not YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}.")
        return empty
    if not isinstance(node, yaml.MappingNode) or not node.value:
        problems.append(f"{path}:1: must be a mapping: lines of `key: value`.")
        return empty
    lines: dict[str, int] = {}
    before = len(problems)
    _check_node(path, node, "", 1, lines, problems)
    if len(problems) > before:
        return empty
    return YamlFile(path, yaml.safe_load(text), lines)


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


def _check_node(path: Path, node: yaml.Node, key: str, depth: int, lines: dict[str, int], problems: list[str]) -> None:
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
            elif key_node.tag.endswith(":merge"):
                problems.append(f"{path}:{key_line}: <<: merges are not supported. Write the values out.")
            elif name in lines:
                problems.append(f"{path}:{key_line}: {name}: duplicate key, first in line {lines[name]}. Remove one.")
            else:
                lines[name] = key_line
                value = _check_scalar(path, key_node, name, problems)
                if value in keys:  # to YAML, `yes` and `true` are one key, and so are 1 and 1.0
                    problems.append(f"{path}:{key_line}: {name}: the same key as in line {keys[value]} to YAML. Put it in quotes.")
                keys[value] = key_line
                _check_node(path, value_node, name, depth + 1, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check_node(path, item, f"{key}.{index}", depth + 1, lines, problems)
    elif isinstance(node, yaml.ScalarNode):
        _check_scalar(path, node, key, problems)


def _check_scalar(path: Path, node: yaml.ScalarNode, key: str, problems: list[str]) -> Any:
    """The value of a scalar; its text if it has none."""
    line = node.start_mark.line + 1
    if node.style is None and node.tag.endswith(":str") and _NUMBER_AS_TEXT.fullmatch(node.value):
        mantissa, exponent = re.split("[eE]", node.value)
        sign = "" if exponent[0] in "+-" else "+"
        better = f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"
        problems.append(f"{path}:{line}: {key}: YAML reads {node.value} as text. Write {better}.")
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError:  # to YAML, 2024-13-45 is an invalid date, and a thousand digits are a number
        problems.append(f"{path}:{line}: {key}: {node.value[:40]} looks like a number or a date, but is none. Put text in quotes.")
        return node.value
