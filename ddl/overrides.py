"""What the command line changes of a sweep: Hydra's overrides, KEY=VALUE."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import OverrideParseException

from ddl.hints import did_you_mean
from ddl.schema import label


def parse_overrides(overrides: Sequence[str], problems: list[str]) -> list[Override]:
    parsed = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except OverrideParseException as error:
            problems.append(f"command line: {text!r}: not an override ({str(error).splitlines()[0]}). Write KEY=VALUE, as in task.lr=0.01.")
    return parsed


def select_configurations(
    override: Override, configurations: Mapping[str, Any], space: Mapping[str, Any], problems: list[str]
) -> dict[str, Any]:
    """Those of the sweep's configurations that an override names: one, or several with commas; all where it names another.

    `space` are its axes, whose values someone may have taken for configurations.
    """
    value = list(override.sweep_iterator()) if override.is_sweep_override() else override.value()
    names = [label(_plain(name)) for name in (value if isinstance(value, list) else [value])]
    unknown = [name for name in names if name not in configurations]
    for name in unknown:
        there_are = f" There are: {', '.join(configurations)}." if configurations else " This sweep has none."
        axes = [key for key, values in space.items() if isinstance(values, list) and name in map(label, values)]
        hint = f" It is a value of an axis: task.{axes[0]}={name}." if axes else did_you_mean(name, configurations) or there_are
        problems.append(f"command line: configurations: {name!r} is unknown.{hint}")
    return dict(configurations) if unknown else {name: values for name, values in configurations.items() if name in names}


def apply_override(
    override: Override,
    hyperparameters: Sequence[str],
    launch: dict[str, Any],
    space: dict[str, Any],
    forced: dict[str, Any],
    problems: list[str],
) -> None:
    """Put one override where it belongs: an axis, a hyperparameter of every trial, or a launch setting."""
    key = override.key_or_group
    known = ["configurations", *(f"task.{name}" for name in hyperparameters)]
    known += [
        f"{name}.{inner}" if isinstance(value, dict) else name
        for name, value in launch.items()
        for inner in (value if isinstance(value, dict) else [""])
    ]
    if override.is_delete():
        problems.append(f"command line: ~{key}: nothing can be removed. Write KEY=VALUE, as in task.lr=0.01.")
    elif key not in known:
        hint = " Seeds are counted from first_seed." if key == "task.seed" else did_you_mean(key, known)
        problems.append(f"command line: {key}: unknown key.{hint}")
    elif override.is_sweep_override():
        if not key.startswith("task.") or not isinstance(override.value(), ChoiceSweep):
            problems.append(
                f"command line: {key}: takes one value. Several, as in task.lr=0.1,0.01, make an axis of a hyperparameter only."
            )
        else:
            name = key.removeprefix("task.")
            forced.pop(name, None)
            space[name] = [_plain(item) for item in override.sweep_iterator()]
    elif key.startswith("task."):
        name = key.removeprefix("task.")
        if name in space:
            space[name] = [override.value()]
        else:
            forced[name] = override.value()
    else:
        outer, _, inner = key.partition(".")
        launch[outer] = launch[outer] | {inner: override.value()} if inner else override.value()


def _plain(value: Any) -> Any:
    """Without Hydra's wrapping of quoted text, which it leaves on an axis's values."""
    if isinstance(value, QuotedString):
        return value.text
    return [_plain(item) for item in value] if isinstance(value, list) else value
