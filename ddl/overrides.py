"""Applies the command line's Hydra overrides (KEY=VALUE) to a sweep."""

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import OverrideParseException

from ddl.hints import did_you_mean
from ddl.schema import DISTRIBUTIONS, label
from ddl.yamlfile import config_names


@dataclass
class SweepDraft:
    """The part of a sweep that overrides can change. Hyperparameters are named without `task.`.

    launch: the keys of launch.yaml. file: `samples` and `metric` of the sweep's file, and `measurements` of a function. space: the axes. configurations: the named
    configurations. forced: hyperparameters that have the same value in every trial.
    """

    launch: dict[str, Any]
    file: dict[str, Any]
    space: dict[str, Any]
    configurations: dict[str, Any]
    forced: dict[str, Any]


def apply_overrides(draft: SweepDraft, overrides: Sequence[str], hyperparameters: Sequence[str], problems: list[str]) -> set[str]:
    """Apply `overrides` in order and return their keys. Problems are appended to `problems`."""
    parsed = list(_parse(overrides, draft.configurations, problems))
    axes, metric = dict(draft.space), draft.file["metric"]["name"]
    for override in parsed:
        if override.key_or_group == "configurations" and not override.is_delete():
            draft.configurations = _select_configurations(override, draft.configurations, axes, problems)
        else:
            _apply(override, draft, hyperparameters, problems)
    keys = set(map(_key, parsed))
    if metric and draft.file["metric"]["name"] != metric and "metric.mode" not in keys:
        problems.append("command line: metric.name: another metric may have another direction. Add metric.mode=min or metric.mode=max.")
    if "until" in keys and draft.launch["until"] == "all" and isinstance(draft.launch["seeds"], Mapping):
        problems.append(
            "command line: until: all gives every configuration all seeds, and a range is a race. Set a number, as in seeds=10."
        )
    return keys


def selection(names: Iterable[str]) -> str:
    """The argument, quoted for a shell, that selects the configurations of these names."""
    argument = _selection(names)
    return f'"{argument}"' if "'" in argument and not re.search(r'["$`!\\]', argument) else shlex.quote(argument)


def _selection(names: Iterable[str]) -> str:
    quoted = [name if re.fullmatch(r"[\w ]+", name, re.ASCII) else repr(name) for name in names]
    return f"configurations={','.join(quoted)}"


def _parse(overrides: Sequence[str], configurations: Collection[str], problems: list[str]) -> Iterable[Override]:
    sweeps = config_names("sweep")
    words = list(overrides)
    while words:
        text = given = words.pop(0)
        if text in sweeps:
            problems.append(f"command line: {text!r}: is a sweep. Name several sweeps with commas, as in --sweep NAME,{text}.")
            continue
        if text.startswith("configurations="):
            while words and not re.match(r"[\w.~+]+=", words[0]):
                text += f" {words.pop(0)}"
            names = _split_names(text.partition("=")[2], configurations)
            if text != given:
                problems.append(f"command line: {text!r}: a name with spaces needs quotes. Write {selection(names)}.")
                continue
        while words and _continues(text, words[0]):
            given += f" {words[0]}"
            text += ("" if "=" in text + words[0] else "=") + words.pop(0)
        if text != given:
            problems.append(f"command line: {given!r}: an override has no spaces. Write {text}.")
            continue
        try:
            yield from OverridesParser.create().parse_overrides([text])
        except OverrideParseException as error:
            if text.startswith("configurations="):
                if set(names) <= set(configurations):
                    problems.append(f"command line: {text!r}: a name with such characters needs quotes. Write {selection(names)}.")
                else:  # the message names the unknown ones
                    yield from OverridesParser.create().parse_overrides([_selection(names)])
                continue
            problems.append(f"command line: {text!r}: not an override ({str(error).splitlines()[0]}). Write KEY=VALUE, as in task.lr=0.01.")


def _split_names(value: str, configurations: Collection[str]) -> list[str]:
    """The names in `value`, with commas between them; a configuration's name may have a comma itself."""
    return [value] if value in configurations else re.split(r"\s*,\s*", value)


def _continues(text: str, word: str) -> bool:
    """True if `word` is the rest of the override `text`, as after `task.lr`, `task.lr=` or `task.lr=0.1,`."""
    if "=" in word.lstrip("="):
        return False
    return text.endswith(("=", ",")) or ("=" not in text and re.fullmatch(r"[a-z_]\w*(\.\w+)*", text) is not None)


def _select_configurations(
    override: Override, configurations: Mapping[str, Any], space: Mapping[str, Any], problems: list[str]
) -> dict[str, Any]:
    """The configurations that an override names, one or several with commas; all of them if it names an unknown one.

    A user may take the value of an axis in `space` for a configuration, so the message looks for it there.
    """
    if override.is_sweep_override() and not isinstance(override.value(), ChoiceSweep):
        problems.append("command line: configurations: takes names with commas, as in configurations=NAME,NAME.")
        return dict(configurations)
    value = list(override.sweep_iterator()) if override.is_sweep_override() else override.value()
    if value == []:
        problems.append(f"command line: configurations: names none. Known configurations: {', '.join(configurations) or 'none'}.")
        return dict(configurations)
    names = [label(_unquoted(name)) for name in (value if isinstance(value, list) else [value])]
    unknown = [name for name in names if name not in configurations]
    points = {
        text: f"{key}={label(value)}"
        for key, values in space.items()
        if isinstance(values, list)
        for value in values
        for text in (label(value), f"{key}={label(value)}")
    }
    for name in unknown:
        if name in points:
            hint = f" It is a value of an axis: task.{points[name]}."
        elif configurations:
            hint = did_you_mean(name, configurations) or f" Known configurations: {', '.join(configurations)}."
        else:
            hint = " This sweep has none."
        problems.append(f"command line: configurations: {name!r} is unknown.{hint}")
    return dict(configurations) if unknown else {name: values for name, values in configurations.items() if name in names}


def _apply(override: Override, draft: SweepDraft, hyperparameters: Sequence[str], problems: list[str]) -> None:
    """Apply one override: an axis, a hyperparameter of every trial, or a key of launch.yaml or of the sweep's file."""
    key = _key(override)
    name = key.removeprefix("task.")
    sections = [*_dotted_keys(draft.launch), *_dotted_keys(draft.file), "seeds", "seeds.at_least", "seeds.at_most"]  # a number or a range
    known = ["configurations", *(f"task.{name}" for name in hyperparameters), *dict.fromkeys(sections)]
    if override.is_delete():
        problems.append(f"command line: ~{key}: keys cannot be removed. Write KEY=VALUE, as in task.lr=0.01.")
    elif key not in known:
        hint = " Seeds are counted from first_seed." if key == "task.seed" else did_you_mean(key, known)
        problems.append(f"command line: {key}: unknown key.{hint}")
    elif override.is_sweep_override():
        if not key.startswith("task.") or not isinstance(override.value(), ChoiceSweep):
            problems.append(
                f"command line: {key}: takes one value. Only a hyperparameter takes several, as in task.lr=0.1,0.01; they become an axis."
            )
        else:
            draft.forced.pop(name, None)
            draft.space[name] = [_unquoted(item) for item in override.sweep_iterator()]
    elif key.startswith("task.") and _is_distribution(override.value()):
        draft.forced.pop(name, None)
        draft.space[name] = override.value()
    elif key.startswith("task.") and name in draft.space and not any(name in values for values in draft.configurations.values()):
        draft.space[name] = [override.value()]
    elif key.startswith("task."):
        draft.space.pop(name, None)  # a configuration's value would replace the axis's
        draft.forced[name] = override.value()
    else:
        outer, _, inner = key.partition(".")
        section = draft.file if outer in draft.file else draft.launch
        earlier = section[outer] if isinstance(section[outer], dict) else {}
        section[outer] = earlier | {inner: override.value()} if inner else override.value()


def _key(override: Override) -> str:
    """The dotted key of an override. `metric` alone is the name of the metric."""
    return "metric.name" if override.key_or_group == "metric" else override.key_or_group


def _is_distribution(value: Any) -> bool:
    """True for an axis that is sampled, such as `{uniform: [0.1, 0.5]}`."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in DISTRIBUTIONS


def _dotted_keys(section: Mapping[str, Any]) -> list[str]:
    """The dotted keys of a section: `seeds`, `resources.cpus`, ..."""
    return [
        f"{name}.{inner}" if inner else name for name, value in section.items() for inner in (value if isinstance(value, dict) else [""])
    ]


def _unquoted(value: Any) -> Any:
    """`value` without the objects in which Hydra wraps quoted text of an axis."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {_unquoted(key): _unquoted(item) for key, item in value.items()}
    return [_unquoted(item) for item in value] if isinstance(value, list) else value
