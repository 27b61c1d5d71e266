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


@pytest.mark.parametrize(("first", "second"), [("yes", "true"), ("1", "1.0"), ("~", "null"), ("1000", "1_000")])
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
    monkeypatch.setattr(yaml, "compose", lambda *arguments, **named: pytest.fail("the nodes were built"))
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for name, last in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
    assert refusal(tmp_path, bomb) == "1: has an alias, an anchor or a tag. Write the values out."


@pytest.mark.parametrize("text", ["a: &x 1\n", "a: !!python/object/apply:os.system [id]\n", "a: !!int 3\n", "a: !mine 3\n"])
def test_anchors_and_tags(tmp_path, text):
    assert refusal(tmp_path, text).startswith("1: has an alias, an anchor or a tag.")


@pytest.mark.parametrize("text", ["<<: {a: 1}\n", "<<: 3\n", "b:\n  <<: [{a: 1}]\n"])
def test_merges(tmp_path, text):
    assert "merges are not supported" in refusal(tmp_path, text)


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
    ("text", "better"),
    [("1e-3", "1.0e-3"), ("1e3", "1.0e+3"), ("1.5E3", "1.5e+3"), ("-2e-4", "-2.0e-4"), (".5e1", ".5e+1")],
)
def test_a_number_that_yaml_takes_for_text(tmp_path, text, better):
    assert isinstance(yaml.safe_load(text), str)
    assert refusal(tmp_path, f"a:\n  lr: {text}\n") == f"2: a.lr: YAML reads {text} as text. Write {better}."
    assert isinstance(yaml.safe_load(better), float)


def test_such_a_number_in_a_list_or_as_a_key(tmp_path):
    assert refusal(tmp_path, "a: [1.0,\n    1e-3]\n") == "2: a.1: YAML reads 1e-3 as text. Write 1.0e-3."
    assert refusal(tmp_path, "a: {1e-3: 0.5}\n") == "1: a.1e-3: YAML reads 1e-3 as text. Write 1.0e-3."


def test_such_a_number_in_quotes_is_text(tmp_path):
    (tmp_path / "a.yaml").write_text("a: '1e-3'\n")
    problems: list[str] = []
    assert yamlfile.read_yaml(tmp_path / "a.yaml", problems).values == {"a": "1e-3"}
    assert problems == []


@pytest.mark.parametrize("text", ["2024-13-45", "1" * 5000, "2024-13-45: 1"], ids=["date", "number", "key"])
def test_what_only_looks_like_a_date_or_a_number(tmp_path, text):
    assert "looks like a number or a date, but is none" in refusal(tmp_path, f"a: {{b: {text}}}\n" if ":" not in text else text)


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
