import math
from pathlib import Path

import pytest
import yaml

from ddl import yamlfile


def refusal(tmp_path: Path, content: str | bytes) -> str:
    """The one thing wrong with the file, from its line number on."""
    path = tmp_path / "a.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems: list[str] = []
    read = yamlfile.read_yaml(path, problems)
    assert read.values == {}, "something refused was read all the same"
    assert len(problems) == 1, problems
    return problems[0].removeprefix(f"{path}").removeprefix(":")


def test_values_and_the_line_of_every_key(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n# a comment\nb:\n  c: [1, {d: 2}]\n  task.lr: 1.0e-3\n")
    problems: list[str] = []
    read = yamlfile.read_yaml(path, problems)
    assert problems == []
    assert read.values == {"a": 1, "b": {"c": [1, {"d": 2}], "task.lr": 0.001}}
    assert read.where("b.task.lr") == f"{path}:5"
    assert read.where("b.c.1.d") == f"{path}:4"


def test_a_key_that_is_not_in_the_file_is_where_the_nearest_above_it_is(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb:\n  c: 1\n")
    read = yamlfile.read_yaml(path, [])
    assert read.where("b.missing.deeper") == f"{path}:2"
    assert read.where("missing") == f"{path}:1"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert yamlfile.read_yaml(path, []).values == {"a": 1}


def test_entries_of_a_list_may_have_the_same_keys(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [{b: 1}, {b: 2}]\n")
    problems: list[str] = []
    assert yamlfile.read_yaml(path, problems).values == {"a": [{"b": 1}, {"b": 2}]}
    assert problems == []


def test_a_key_given_twice(tmp_path):
    assert refusal(tmp_path, "a: 1\nb: 2\na: 3\n") == "3: a: duplicate key, first in line 1. Remove one."


def test_a_key_given_twice_deep_inside(tmp_path):
    assert refusal(tmp_path, "a:\n  - {b: 1, c: 2,\n     b: 3}\n") == "3: a.0.b: duplicate key, first in line 2. Remove one."


@pytest.mark.parametrize(("first", "second"), [("True", "true"), ("1", "1.0"), ("~", "null"), ("10", "010")])
def test_keys_that_are_the_same_only_to_yaml(tmp_path, first, second):
    assert refusal(tmp_path, f"a:\n  {first}: 1\n  {second}: 3\n") == (
        f"3: a.{second}: the same key as in line 2 to YAML. Put it in quotes."
    )


def test_every_duplicate_is_told_at_once(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    problems: list[str] = []
    yamlfile.read_yaml(path, problems)
    assert len(problems) == 2


def test_an_alias_bomb_is_refused_before_it_goes_off(tmp_path, monkeypatch):
    monkeypatch.setattr(yaml.SafeLoader, "get_single_node", lambda self: pytest.fail("the nodes were built"))
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for name, last in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
    assert refusal(tmp_path, bomb) == "1: has an alias, an anchor or a tag. Write the values out."


@pytest.mark.parametrize("text", ["a: &x 1\n", "a: !!python/object/apply:os.system [id]\n", "a: !!int 3\n", "a: !mine 3\n"])
def test_anchors_and_tags(tmp_path, text):
    assert refusal(tmp_path, text).startswith("1: has an alias, an anchor or a tag.")


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{a: " * 50_000, "- " * 100_000, "? " * 100_000], ids=["[", "{", "-", "?"])
def test_deep_nesting_is_refused_without_reading_to_the_bottom(tmp_path, text, monkeypatch):
    read = 0
    scan = yaml.scan

    def counted(text):
        nonlocal read
        for token in scan(text):
            read += 1
            yield token

    monkeypatch.setattr(yaml, "scan", counted)
    assert refusal(tmp_path, text).endswith("nested deeper than 8 levels.")
    assert read < 100


def test_as_deep_as_it_may_be_and_one_deeper(tmp_path):
    (tmp_path / "good.yaml").write_text("a: [[[[[[1]]]]]]\n")
    problems: list[str] = []
    assert yamlfile.read_yaml(tmp_path / "good.yaml", problems).values == {"a": [[[[[[1]]]]]]}
    assert problems == []
    assert refusal(tmp_path, "a: [[[[[[[1]]]]]]]\n").endswith("nested deeper than 8 levels.")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E3", 1e3), (".5e1", 5.0), ("-2e-4", -2e-4), ("1.", 1.0), ("010", 10), ("-0", 0), ("0o10", 8), ("0x1F", 31),
        ("1.0e-3", 1e-3), ("-.inf", -math.inf), (".INF", math.inf), ("true", True), ("True", True), ("TRUE", True), ("False", False),
        ("null", None), ("~", None), ("", None),
        *[(text, text) for text in ("yes", "no", "on", "Off", "y", "1:30", "2024-01-01", "2024-13-45", "1_000", "0b1", "tRue", "=", "<<", "1e")],
        ("'1e-4'", "1e-4"), ('"true"', "true"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_yaml_1_2_says(tmp_path, text, value):
    (tmp_path / "a.yaml").write_text(f"a: {text}\n")
    problems: list[str] = []
    read = yamlfile.read_yaml(tmp_path / "a.yaml", problems).values["a"]
    assert problems == []
    assert (type(read), read) == (type(value), value)


def test_a_merge_key_is_a_key_like_any_other(tmp_path):
    (tmp_path / "a.yaml").write_text("<<: {b: 1}\n=: 2\n")
    assert yamlfile.read_yaml(tmp_path / "a.yaml", []).values == {"<<": {"b": 1}, "=": 2}


@pytest.mark.parametrize("text", ["1" * 301, "1" * 5000, "0x" + "f" * 5000])
def test_a_number_of_too_many_digits(tmp_path, text):
    said = refusal(tmp_path, f"a: {{b: {text}}}\n")
    assert said == f"1: a.b: a number of {len(text)} digits; at most 300 are read. Put text in quotes."


@pytest.mark.parametrize("content", ["", "# nothing\n", "{}", "- a\n", "a\n", "null\n"])
def test_what_is_no_mapping(tmp_path, content):
    assert refusal(tmp_path, content) == "1: must be a mapping: lines of `key: value`."


@pytest.mark.parametrize(
    "content", ["a: [1\n", "a: b: c\n", "a:\n\t- 1\n", "a: 1\n---\nb: 2\n", "a: 'open\n", "a: \x00\n", "a: \x1b[31m\n"]
)
def test_what_is_no_yaml_is_named_with_a_line_and_on_one_line(tmp_path, content):
    said = refusal(tmp_path, content)
    assert ": not YAML: " in said
    assert said.partition(":")[0].isdigit()
    assert "\n" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: c: d\n", "2: not YAML: a second colon in one line. Put text with a colon in quotes."),
        ("a: 1\n  b: 2\n", "2: not YAML: indented deeper than its section. Indent the lines of a section alike."),
        ("a:\n  b: 1\n   c: 2\n", "3: not YAML: indented deeper than its section. Indent the lines of a section alike."),
        (
            "x: 0\na:\n    b: 1\n  c: 2\n",
            "4: not YAML: indented differently from the section of line 1. Indent the lines of a section alike.",
        ),
        ("a:\n\tb: 1\n", "2: not YAML: a tab. Use spaces."),
        ("a: 1\nb\nc: 2\n", "2: not YAML: a key without a colon. Write `key: value`."),
        ("%a{", "1: not YAML: expected alphabetic or numeric character, but found '{'."),
        ("a: [1, 2\nb: 3\n", "2: not YAML: no comma or closing bracket after a value. The bracket is opened in line 1."),
        ("b: 1\na: 'open\n", "3: not YAML: the end of the file in a quote. The quote is opened in line 2."),
        ("a: 1\n- 2\n", "2: not YAML: a list item and a `key: value` in the section of line 1. Use one of them."),
        ("a: - 1\n", "1: not YAML: a list item in the line of its key. Begin the list in the next line, or write [a, b]."),
        ("a: @x\n", "1: not YAML: a value that begins with @, ` or %. Put it in quotes."),
        ("a: 1\nb: \x00\n", "2: not YAML: the character #x0000. Remove it."),
    ],
)
def test_a_syntax_error_says_what_to_write(tmp_path, content, said):
    assert refusal(tmp_path, content) == said


def test_a_mapping_as_a_key(tmp_path):
    assert refusal(tmp_path, "? {a: 1}\n: 2\n") == "1: a key must be plain text."


def test_other_encodings(tmp_path):
    assert refusal(tmp_path, "a: café\n".encode("latin-1")) == " not UTF-8 (byte 6). Save it as UTF-8."
    assert "not UTF-8" in refusal(tmp_path, "a: 1\n".encode("utf-16"))


def test_a_file_too_large_to_be_a_configuration(tmp_path):
    said = refusal(tmp_path, "a: 1\n" + "#" * yamlfile.MAX_BYTES)
    assert said == f" {yamlfile.MAX_BYTES + 5} bytes; a configuration may have at most {yamlfile.MAX_BYTES}."


def test_a_file_that_cannot_be_read(tmp_path):
    problems: list[str] = []
    assert yamlfile.read_yaml(tmp_path / "none.yaml", problems).values == {}
    assert yamlfile.read_yaml(tmp_path, problems).values == {}
    assert problems == [
        f"{tmp_path}/none.yaml: cannot be read (No such file or directory).",
        f"{tmp_path}: cannot be read (Is a directory).",
    ]
