"""What the user asks for, and what is said where it cannot be: each mistake with its file and line, all of them at once."""

import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from ddl import config, schema, yamlfile
from ddl.sweeps import space
from ddl.tasks.classification import Classification

from .conftest import SWEEP

SWEEPS = sorted((yamlfile.FOLDER / "sweep").glob("*.yaml"))


def problems_of(name: str) -> list[str]:
    problems: list[str] = []
    assert config.compose_sweep(name, [], "smoke", problems) is None
    return problems


# Sweeps by name and by file


@pytest.mark.parametrize("scale", config.SCALES)
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_composes_at_every_scale(path, scale):
    problems: list[str] = []
    sweep = config.compose_sweep(path.stem, [], scale, problems)
    trials = space.expand_trials(sweep, problems)
    assert problems == []
    assert len(trials) >= 2
    assert sweep.file.scale.keys() == set(config.SCALES)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_reference_values_name_configurations_that_there_are(path):
    sweep = config.compose_sweep(path.stem, [], "paper", [])
    configurations = {trial.configuration for trial in space.expand_trials(sweep, [])}
    if sweep.file.reference is not None:
        assert sweep.file.reference.values.keys() <= configurations
        assert re.fullmatch(r"((best|last) )?\w+/\w+", sweep.file.reference.metric)
    assert re.fullmatch(r"\w+/\w+", sweep.file.metric.name)


def test_a_sweep_in_the_users_own_file(ask):
    asked = ask()
    assert asked.problems == []
    assert asked.sweep.name == "small"
    assert [trial.configuration for trial in asked.trials] == ["default"] * 3
    assert asked.trials[0].task.epochs == 1


def test_an_unknown_sweep_with_the_nearest_and_all_there_are():
    assert problems_of("augmentaton") == [
        "--sweep 'augmentaton': unknown sweep. Did you mean augmentation?"
        f" Known sweeps: {', '.join(path.stem for path in SWEEPS)}. Or name a YAML file."
    ]


@pytest.mark.parametrize(
    "name",
    ["../x", "../sweep/augmentation", "/etc/passwd", "a\0b", "x" * 300, "", ".", "augmentation\n", "*"],
    ids=["up", "up and back", "absolute", "NUL", "long", "empty", "dot", "newline", "star"],
)
def test_a_path_is_not_a_sweeps_name(name):
    (problem,) = problems_of(name)
    assert ": unknown sweep." in problem
    assert len(problem.partition(":")[0]) < 120


@pytest.mark.parametrize("name", ["none.yaml", "a\0.yaml", "x" * 300 + ".yaml", "../none.yml", "/", ".yaml"])
def test_a_sweep_file_that_is_not_there(name):
    (problem,) = problems_of(name + ("" if name.endswith("ml") else "none.yaml"))
    assert problem.endswith(": there is no such file.")


@pytest.mark.parametrize("name", ["two words.yaml", "-x.yaml", "a.b.yaml", "ä.yaml", "x" * 65 + ".yaml"])
def test_a_sweep_file_whose_name_would_make_a_bad_folder(ask, name):
    assert ask(name=name).problems[0].endswith("a sweep's file name has letters, digits, _ and - only, at most 64.")


def test_a_broken_file_is_told_once(ask):
    assert ask("title: again\n").problems == ["small.yaml:6: title: duplicate key, first in line 2. Remove one."]
    assert ask(base="{}").problems == ["small.yaml:1: must be a mapping: lines of `key: value`."]


# Keys


def test_an_unknown_key_of_a_sweep(ask):
    assert ask("sapce: {}\n").problems == ["small.yaml:6: sapce: unknown key. Did you mean space?"]
    assert ask("seed: 3\n").problems == ["small.yaml:6: seed: unknown key. Did you mean seeds?"]
    assert ask("1: 3\n").problems == ["small.yaml:6: 1: unknown key."]
    assert ask("true: 3\n").problems == ["small.yaml:1: True: unknown key."]


@pytest.mark.parametrize("section", ["space: {task.lrr: [0.1]}", "set: {task.lrr: 0.1}", "configurations: {a: {task.lrr: 0.1}}"])
def test_an_unknown_hyperparameter_in_a_section(ask, section):
    assert ask(f"{section}\n").problems == ["small.yaml:6: task.lrr: unknown key. Did you mean task.lr?"]


def test_an_unknown_hyperparameter_is_found_at_a_scale_that_is_not_asked_for(ask):
    assert ask("  paper: {task.epoch: 3}\n", scale="smoke").problems == ["small.yaml:6: task.epoch: unknown key. Did you mean task.epochs?"]


def test_a_hyperparameter_without_its_task(ask):
    assert ask("set: {lr: 0.1}\n").problems == ["small.yaml:6: lr: unknown key. Did you mean task.lr?"]


def test_the_seed_is_no_hyperparameter_to_set(ask):
    (problem,) = ask("set: {task.seed: 3}\n").problems
    assert problem.startswith("small.yaml:6: task.seed: unknown key.")


def test_unknown_keys_inside_the_nested_settings(ask):
    assert ask("resources: {cpu: 1}\n").problems == ["small.yaml:6: resources.cpu: unknown key. Did you mean resources.cpus?"]
    assert ask("reference: {source: a, metric: b, values: {}, tolerance: 0.1, sauce: 1}\n").problems == [
        "small.yaml:6: reference.sauce: unknown key. Did you mean reference.source?"
    ]


def test_an_unknown_scale_in_the_file(ask):
    (problem,) = ask("  big: {task.epochs: 3}\n").problems
    assert problem == "small.yaml:6: scale.big: should be 'smoke', 'sample' or 'paper', not 'big'."


def test_what_a_sweep_must_have(ask):
    assert ask(base="task: classification\n").problems == [f"small.yaml:1: {key}: missing. Give it a value." for key in ("title", "metric")]


def test_an_unknown_task(ask):
    (problem,) = ask(base=SWEEP.replace("classification", "clasification")).problems
    assert problem.startswith("small.yaml:1: task: 'clasification' is unknown. Did you mean classification? Known tasks: ")
    assert all(path.stem in problem for path in (yamlfile.FOLDER / "task").glob("*.yaml"))


@pytest.mark.parametrize("name", ["../task/classification", "'a\\0b'", "x" * 300, "''", "'*'"])
def test_a_path_is_not_a_tasks_name(ask, name):
    (problem,) = ask(base=SWEEP.replace("classification", name)).problems
    assert problem.startswith("small.yaml:1: task: ")
    assert " is unknown." in problem


# Values


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", "true", "should be a valid integer, not True."),
        ("epochs", "1.0", "should be a valid integer, not 1.0."),
        ("epochs", "'3'", "should be a valid integer, not '3'."),
        ("epochs", "0", "should be greater than or equal to 1, not 0."),
        ("epochs", "-1", "should be greater than or equal to 1, not -1."),
        ("epochs", ".nan", "should be a valid integer, not nan."),
        ("epochs", "[3]", "should be a valid integer, not [3]."),
        ("epochs", "", "should be a valid integer, not None."),
        ("train_limit", "-1", "should be greater than or equal to 0, not -1."),
        ("lr", ".nan", "should be a finite number, not nan."),
        ("lr", ".inf", "should be a finite number, not inf."),
        ("lr", "-0.1", "should be greater than 0, not -0.1."),
        ("lr", "0", "should be greater than 0, not 0."),
        ("lr", "true", "should be a valid number, not True."),
        ("lr", "'1e-3'", "should be a valid number, not '1e-3'."),
        ("dropout", "1.0", "should be less than 1, not 1.0."),
        ("dropout", "-0.1", "should be greater than or equal to 0, not -0.1."),
        ("augmentation", "lihgt", "should be 'none', 'light' or 'aggressive', not 'lihgt'."),
        ("augmentation", "null", "should be 'none', 'light' or 'aggressive', not None."),
        ("data_set", "cifar11", "should be 'cifar10', 'mnist' or 'folder', not 'cifar11'."),
        ("data_set", "../mnist", "should be 'cifar10', 'mnist' or 'folder', not '../mnist'."),
        (
            "precision",
            "fp8",
            "precision: 'fp8' is unknown. Use auto, or fp32, tf32, bf16, fp16, then channels_last, and compiled or cuda_graphs.",
        ),
        ("widths", "8", "should be a valid list, not 8."),
    ],
)
def test_a_value_that_its_hyperparameter_may_not_have(ask, name, value, said):
    assert ask(f"set:\n  task.{name}: {value}\n", base=SWEEP.replace(", task.epochs: 1", "")).problems == [
        f"small.yaml:7: task.{name}: {said}"
    ]


def test_a_wrong_element_of_a_list_is_named_and_has_its_line(ask):
    asked = ask("set:\n  task.widths: [8, true, 8, -8]\n")
    assert asked.problems == [
        "small.yaml:7: task.widths.1: should be a valid integer, not True.",
        "small.yaml:7: task.widths.3: should be greater than or equal to 1, not -8.",
    ]


def test_a_long_value_is_not_told_at_length(ask):
    (problem,) = ask(f"set: {{task.lr: {'x' * 5000}}}\n").problems
    assert len(problem) < 200


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seeds: 0", "seeds: should be greater than or equal to 1, not 0."),
        ("seeds: true", "seeds: should be a valid integer, not True."),
        ("seeds: '3'", "seeds: should be a valid integer, not '3'."),
        ("seeds:", "seeds: should be a valid integer, not None."),
        ("first_seed: -1", "first_seed: should be greater than or equal to 0, not -1."),
        (f"first_seed: {10**30}", f"first_seed: should be less than or equal to {2**53}, not {10**30}."),
        ("retries: 0.5", "retries: should be a valid integer, not 0.5."),
        ("checkpoint_every_s: 0", "checkpoint_every_s: should be greater than 0, not 0."),
        ("checkpoint_every_s: .inf", "checkpoint_every_s: should be a finite number, not inf."),
        ("resources: {cpus: 0}", "resources.cpus: should be greater than or equal to 1, or should be 'auto', not 0."),
        ("resources: {gpus: -1}", "resources.gpus: should be greater than or equal to 0, or should be 'auto', not -1."),
        ("resources: {cpus: all}", "resources.cpus: should be a valid integer, or should be 'auto', not 'all'."),
        ("resources: 3", "resources: should be a dictionary or an instance of Resources, not 3."),
        (
            "wandb: {project: a/b:c}",
            "wandb.project: W&B refuses the characters / : in the name of a project. Use others.",
        ),
        ("wandb: {mode: on}", "wandb.mode: should be 'auto', 'online', 'offline' or 'disabled', not 'on'."),
        ("samples: -1", "samples: should be greater than or equal to 0, not -1."),
        ("plugins: mine", "plugins: should be a valid list, not 'mine'."),
        ("space: [task.lr]", "space: should be a valid dictionary, not ['task.lr']."),
    ],
)
def test_a_setting_that_cannot_be(ask, line, said):
    assert ask(f"{line}\n").problems == [f"small.yaml:6: {said}"]


def test_the_last_seed_must_be_possible_too(ask):
    asked = ask(f"first_seed: {2**53}\nseeds: 2\n")
    assert asked.problems == [f"small.yaml:6: task.seed: should be less than or equal to {2**53}, not {2**53 + 1}."]


@pytest.mark.parametrize("value", [".nan", ".inf", "'0.8'", "true"])
def test_a_reference_value_must_be_a_number(ask, value):
    asked = ask(f"reference:\n  source: a\n  metric: val/accuracy\n  tolerance: 0.1\n  values:\n    default: {value}\n")
    assert len(asked.problems) == 1
    assert asked.problems[0].startswith("small.yaml:11: reference.values.default: should be a ")


def test_a_number_names_a_configuration_as_tables_show_it(ask):
    asked = ask(
        "space: {task.lr: [0.1, 1.0e-3]}\nreference: {source: a, metric: val/loss, tolerance: 0.1, values: {0.10: 1.0, 1.0e-3: 2.0}}\n"
    )
    assert asked.problems == []
    assert asked.sweep.file.reference.values == {"0.1": 1.0, "0.001": 2.0}
    assert {trial.configuration for trial in asked.trials} == {"lr=0.1", "lr=0.001"}
    asked = ask("configurations: {0.10: {task.lr: 0.1}, 1: {task.lr: 0.2}}\n")
    assert asked.problems == []
    assert {trial.configuration for trial in asked.trials} == {"0.1", "1"}


def test_configurations_named_by_long_numbers_are_kept_apart(ask):
    asked = ask("configurations: {0.1234567: {task.lr: 0.1}, 0.1234568: {task.lr: 0.2}}\n", ["configurations=0.1234568", "seeds=1"])
    assert asked.problems == []
    assert [(trial.configuration, trial.task.lr) for trial in asked.trials] == [("0.1234568", 0.2)]


def test_configurations_with_one_name_are_refused(ask):
    assert ask("configurations:\n  true: {task.lr: 0.1}\n  'True': {task.lr: 0.2}\n").problems == [
        "small.yaml:6: configurations: True and 'True' have the same name, True. Rename one."
    ]
    (problem,) = ask("reference: {source: a, metric: b, tolerance: 0.1, values: {true: 0.1, 'True': 0.2}}\n").problems
    assert problem == "small.yaml:6: reference.values: True and 'True' have the same name, True. Rename one."


def test_every_mistake_is_told_at_once_with_its_file_and_line(ask):
    asked = ask(
        "  paper: {task.epochz: 3}\n"
        "set:\n"
        "  task.lr: -0.1\n"
        "  task.bogus: 1\n"
        "space:\n"
        "  task.augmentation: [none, lite]\n"
        "  task.dropout: []\n"
        "seeds: 0\n"
        "colour: red\n",
        overrides=["task.batch_size=0", "task.dens=3", "seeds", "retries=-1"],
    )
    assert sorted(asked.problems) == sorted(
        [
            "small.yaml:14: colour: unknown key.",
            "small.yaml:6: task.epochz: unknown key. Did you mean task.epochs?",
            "small.yaml:9: task.bogus: unknown key. Did you mean task.epochs?",
            "command line: task.dens: unknown key. Did you mean task.dense?",
            "command line: 'seeds': not an override (Error parsing override 'seeds'). Write KEY=VALUE, as in task.lr=0.01.",
            "small.yaml:13: seeds: should be greater than or equal to 1, not 0.",
            "command line: retries: should be greater than or equal to 0, not -1.",
            "small.yaml:12: task.dropout: an axis without values. Give it some, or remove it.",
            "small.yaml:8: task.lr: should be greater than 0, not -0.1.",
            "command line: task.batch_size: should be greater than or equal to 1, not 0.",
            "small.yaml:11: task.augmentation: should be 'none', 'light' or 'aggressive', not 'lite'.",
        ]
    )


def test_problems_come_in_the_same_order_each_time(ask):
    text = "set: {task.a: 1, task.b: 1, task.c: 1, task.d: 1}\n"
    assert [line.split(": ")[1] for line in ask(text).problems] == ["task.a", "task.b", "task.c", "task.d"]


def test_a_value_has_the_line_of_its_scale(ask):
    text = "  sample:\n    task.lr: -0.1\n  paper:\n    task.lr: -0.2\n"
    problems = [
        "small.yaml:7: task.lr: should be greater than 0, not -0.1.",
        "small.yaml:9: task.lr: should be greater than 0, not -0.2.",
    ]
    for scale in config.SCALES:  # values of the other scales are checked too
        assert sorted(ask(text, scale=scale).problems) == problems


def test_a_value_has_the_line_of_its_own_configuration(ask):
    asked = ask("configurations:\n  a: {task.lr: -0.1}\n  b: {task.lr: 0.1}\n  c: {task.lr: 0}\n")
    assert asked.problems == [
        "small.yaml:7: task.lr: should be greater than 0, not -0.1.",
        "small.yaml:9: task.lr: should be greater than 0, not 0.",
    ]


def test_the_error_carries_every_problem():
    error = config.ConfigError(["a: b.", "c: d."])
    assert error.problems == ["a: b.", "c: d."]
    assert str(error) == "a: b.\nc: d."
    assert isinstance(error, ValueError)


# Layers


def test_what_is_more_particular_wins(ask):
    text = "set: {task.epochs: 7, task.lr: 0.5, task.dense: 7}\n"
    assert ask(text).trials[0].task.epochs == 1, "the scale's, not the sweep's"
    assert ask(text).trials[0].task.lr == 0.5, "the sweep's, not the task's"
    assert ask(text, ["task.dense=9"]).trials[0].task.dense == 9, "the command line's"
    assert ask(text + "space: {task.epochs: [8]}\n").trials[0].task.epochs == 8, "the axis's, not the scale's"
    assert ask("space: {task.lr: [0.5]}\nconfigurations: {a: {task.lr: 0.7}}\n").trials[0].task.lr == 0.7, "the configuration's"


def test_a_sweep_file_changes_part_of_a_nested_setting(ask):
    launch = ask("resources: {cpus: 3}\nwandb: {project: mine}\nseeds: 2\n").sweep.launch
    assert (launch.resources.cpus, launch.resources.gpus) == (3, "auto")
    assert (launch.wandb.mode, launch.wandb.project) == ("auto", "mine")
    assert launch.seeds == 2


# Overrides


def test_an_override_with_several_values_makes_an_axis(ask):
    asked = ask(overrides=["task.lr=0.1,0.01", "task.augmentation='none',\"light\"", "seeds=1"])
    assert asked.problems == []
    assert [trial.configuration for trial in asked.trials] == [
        "lr=0.1, augmentation=none",
        "lr=0.1, augmentation=light",
        "lr=0.01, augmentation=none",
        "lr=0.01, augmentation=light",
    ]
    assert asked.trials[2].swept == {"task.lr": 0.01, "task.augmentation": "none"}


def test_an_override_replaces_or_narrows_an_axis(ask):
    text = "seeds: 1\nspace: {task.lr: [0.1, 0.2, 0.3]}\n"
    assert [trial.task.lr for trial in ask(text, ["task.lr=0.5,0.6"]).trials] == [0.5, 0.6]
    narrowed = ask(text, ["task.lr=0.2"]).trials
    assert [(trial.task.lr, trial.configuration) for trial in narrowed] == [(0.2, "lr=0.2")]


def test_the_last_override_has_the_last_word(ask):
    assert ask(overrides=["task.lr=0.1", "task.lr=0.2"]).trials[0].task.lr == 0.2
    asked = ask(overrides=["task.lr=0.1", "task.lr=0.2,0.3", "seeds=1"])
    assert asked.problems == []
    assert [trial.task.lr for trial in asked.trials] == [0.2, 0.3]


def test_a_setting_that_an_override_replaces_is_checked_too(ask):
    asked = ask("retries: -1\nwandb: {mode: x}\n", overrides=["retries=2", "wandb.mode=disabled"])
    assert sorted(asked.problems) == [
        "small.yaml:6: retries: should be greater than or equal to 0, not -1.",
        "small.yaml:7: wandb.mode: should be 'auto', 'online', 'offline' or 'disabled', not 'x'.",
    ]


def test_overrides_of_settings(ask):
    launch = ask("seeds: 2\n", ["seeds=5", "first_seed=7", "resources.cpus=2", "resources.gpus=0.5", "wandb.mode=disabled"]).sweep.launch
    assert (launch.seeds, launch.first_seed, launch.resources.cpus, launch.resources.gpus) == (5, 7, 2, 0.5)
    assert launch.wandb.mode == "disabled"


@pytest.mark.parametrize("key", ["metric", "metric.name"])
def test_overrides_of_the_sweeps_own_keys(ask, key):
    text = "seeds: 1\nsamples: 2\nspace: {task.lr: {uniform: [0.1, 0.2]}}\n"
    asked = ask(text, ["samples=4", f"{key}=val/loss", "metric.mode=min"])
    assert asked.problems == []
    assert len(asked.trials) == 4
    assert asked.sweep.file.metric == schema.Metric("val/loss", "min")
    assert ask(text, ["metric.mode=min"]).sweep.file.metric == schema.Metric("val/accuracy", "min")
    assert ask(text, [f"{key}=val/accuracy"]).problems == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("metric=val/loss", "metric.name: another metric may have another direction. Add metric.mode=min or metric.mode=max."),
        ("samples=-1", "samples: should be greater than or equal to 0, not -1."),
        ("samples=1,2", "samples: takes one value. Only a hyperparameter takes several, as in task.lr=0.1,0.01; they become an axis."),
        ("metric.mode=least", "metric.mode: should be 'max' or 'min', not 'least'."),
        ("metric.nam=a", "metric.nam: unknown key. Did you mean metric.name?"),
        ("sample=3", "sample: unknown key. Did you mean samples?"),
    ],
)
def test_a_wrong_override_of_the_sweeps_own_keys(ask, override, said):
    assert ask(overrides=[override]).problems == [f"command line: {said}"]


def test_a_sampled_axis_needs_samples_from_the_command_line_too(ask):
    (problem,) = ask("samples: 2\nspace: {task.lr: {uniform: [0.1, 0.2]}}\n", ["samples=0"]).problems
    assert problem == "command line: samples: missing. An axis is a distribution: set how many values to sample."


def test_lists_and_numbers_in_overrides(ask):
    task = ask(overrides=["task.widths=[8,16]", "task.lr=1e-3", "task.momentum=0"]).trials[0].task
    assert (task.widths, task.lr, task.momentum) == ([8, 16], 0.001, 0.0)


NAMED = "configurations:\n  plain: {}\n  with dropout: {task.dropout: 0.3}\n  1 / 2: {task.dropout: 0.5}\n  0.1: {task.dropout: 0.1}\n"


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ("plain", ["plain"]),
        ("0.1,plain", ["plain", "0.1"]),
        ("[0.1,plain]", ["plain", "0.1"]),
        ("with dropout", ["with dropout"]),
        ("'1 / 2',with dropout", ["with dropout", "1 / 2"]),
    ],
)
def test_some_of_the_configurations_by_name_in_the_sweeps_order(ask, chosen, left):
    asked = ask(NAMED, overrides=[f"configurations={chosen}", "seeds=1"])
    assert asked.problems == []
    assert [trial.configuration for trial in asked.trials] == left


@pytest.mark.parametrize(
    ("more", "override", "said"),
    [
        (NAMED, "configurations=plian", "configurations: 'plian' is unknown. Did you mean plain?"),
        (NAMED, "configurations=plain,xyz", "configurations: 'xyz' is unknown. Known configurations: plain, with dropout, 1 / 2, 0.1."),
        ("", "configurations=plain", "configurations: 'plain' is unknown. This sweep has none."),
        ("", "configurations=日本", "configurations: '日本' is unknown. This sweep has none."),
        (
            "space: {task.lr: [0.1, 0.01]}\n",
            "configurations=0.1",
            "configurations: '0.1' is unknown. It is a value of an axis: task.lr=0.1.",
        ),
        (
            "space: {task.lr: [0.1, 0.01]}\n",
            "configurations=lr=0.01",
            "configurations: 'lr=0.01' is unknown. It is a value of an axis: task.lr=0.01.",
        ),
        (NAMED, "configurations=[]", "configurations: names none. Known configurations: plain, with dropout, 1 / 2, 0.1."),
        (NAMED, "configurations=range(0,2)", "configurations: takes names with commas, as in configurations=NAME,NAME."),
        (NAMED, "configuration=plain", "configuration: unknown key. Did you mean configurations?"),
    ],
)
def test_a_configuration_that_is_not_there_is_named(ask, more, override, said):
    assert ask(more, overrides=[override]).problems == [f"command line: {said}"]


SPACED = "configurations: {batch norm: {}, a + b: {task.dropout: 0.1}, 'Q-learning, softmax': {task.dropout: 0.2}, T = 2: {task.dropout: 0.3}}\nseeds: 1\n"


@pytest.mark.parametrize(
    "words",
    [
        "configurations=batch norm",
        "configurations=a + b",
        "configurations=Q-learning, softmax",
        "configurations=a + b,batch norm",
        "configurations=T = 2",
    ],
)
def test_names_without_quotes_are_answered_with_quotes(ask, words):
    (problem,) = ask(SPACED, words.split()).problems
    assert problem.startswith(f"command line: {words!r}: a name with spaces needs quotes. Write ")
    fixed = ask(SPACED, shlex.split(problem.partition("Write ")[2].removesuffix(".")))
    assert fixed.problems == []
    chosen = words.partition("=")[2]
    assert {trial.configuration for trial in fixed.trials} == ({chosen} if "Q-" in chosen else set(chosen.split(",")))


def test_a_name_that_the_grammar_cannot_read_is_answered_with_quotes(ask):
    (problem,) = ask("configurations: {VGG (M1): {}}\n", ["configurations=VGG (M1)"]).problems
    assert problem == (
        "command line: 'configurations=VGG (M1)': a name with such characters needs quotes. Write \"configurations='VGG (M1)'\"."
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task.lrr=1", "task.lrr: unknown key. Did you mean task.lr?"),
        ("lr=1", "lr: unknown key. Did you mean task.lr?"),
        ("cpus=1", "cpus: unknown key. Did you mean resources.cpus?"),
        ("task.seed=3", "task.seed: unknown key. Seeds are counted from first_seed."),
        ("title=x", "title: unknown key. Did you mean until?"),
        ("~task.lr", "~task.lr: keys cannot be removed. Write KEY=VALUE, as in task.lr=0.01."),
        ("task.lr=nan", "task.lr: should be a finite number, not nan."),
        ("task.lr=-inf", "task.lr: should be a finite number, not -inf."),
        ("task.lr=", "task.lr: should be a valid number, not ''."),
        ("task.lr=null", "task.lr: should be a valid number, not None."),
        ("task.epochs=true", "task.epochs: should be a valid integer, not True."),
        ("task.epochs='3'", "task.epochs: should be a valid integer, not '3'."),
        ("task.lr=0.1,-1", "task.lr: should be greater than 0, not -1."),
        ("seeds=0", "seeds: should be greater than or equal to 1, not 0."),
        ("resources.cpus=0", "resources.cpus: should be greater than or equal to 1, or should be 'auto', not 0."),
    ],
)
def test_a_wrong_override_is_found_on_the_command_line(ask, override, said):
    assert ask(overrides=[override]).problems == [f"command line: {said}"]


@pytest.mark.parametrize("override", ["task.lr", "task.lr=[1", "=", "task.lr=(1", "task lr=1", ""])
def test_what_is_no_override(ask, override):
    (problem,) = ask(overrides=[override]).problems
    assert problem.startswith("command line: ")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task.lr", "0.1"], "'task.lr 0.1': an override has no spaces. Write task.lr=0.1."),
        (["seeds", "5", "task.lr", "0.1"], "'seeds 5': an override has no spaces. Write seeds=5."),
        (["task.lr", "=", "0.1"], "'task.lr = 0.1': an override has no spaces. Write task.lr=0.1."),
        (["task.lr=", "0.1", "seeds=2"], "'task.lr= 0.1': an override has no spaces. Write task.lr=0.1."),
        (["task.lr=0.1,", "0.2"], "'task.lr=0.1, 0.2': an override has no spaces. Write task.lr=0.1,0.2."),
        (["metric", "val/loss", "metric.mode=min"], "'metric val/loss': an override has no spaces. Write metric=val/loss."),
        (["cartpole"], "'cartpole': is a sweep. Name several sweeps with commas, as in --sweep NAME,cartpole."),
    ],
)
def test_words_that_belong_together_are_joined_in_the_fix(ask, overrides, said):
    assert ask(overrides=overrides).problems[0] == f"command line: {said}"


@pytest.mark.parametrize("override", ["seeds=1,2", "task.lr=range(1,3)", "task.lr=interval(0,1)", "task.augmentation=glob(*)"])
def test_an_override_that_makes_no_axis(ask, override):
    (problem,) = ask(overrides=[override]).problems
    assert "takes one value. Only a hyperparameter takes several, as in task.lr=0.1,0.01; they become an axis." in problem


# Tasks of the user's own


TASK_MODULE = """
from ddl.tasks.task import STRICT, Count, Task
from pydantic.dataclasses import dataclass
from abc import abstractmethod

@dataclass(frozen=True, config=STRICT)
class Counting(Task):
    to: Count
    word: str
    loud: bool
    def run(self, device, resume=None):
        yield

@dataclass(frozen=True, config=STRICT)
class Unfinished(Task):
    to: Count
    @abstractmethod
    def more(self): ...

class NoTask: pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch, request):
    """A function that makes a task `counting` beside the sweep file, of a module `MODULE`, which it returns, named by its class."""
    module = f"own_{re.sub(r'[^a-z0-9]', '_', request.node.name)}"

    def own(cls: str = "MODULE.Counting", hyperparameters: str = "to: 3\nword: go\nloud: true\n", code: str = TASK_MODULE) -> str:
        (tmp_path / "modules").mkdir(exist_ok=True)
        (tmp_path / "modules" / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / "modules"))
        (tmp_path / "task").mkdir(exist_ok=True)
        (tmp_path / "task" / "counting.yaml").write_text(f"class: {cls.replace('MODULE', module)}\n{hyperparameters}")
        return module

    return own


OWN = "task: counting\ntitle: Counting\nmetric: {name: val/x, mode: max}\nscale: {smoke: {}}\n"


def test_a_plugins_task_beside_the_sweeps_file(ask, own):
    asked = ask(f"plugins: [{own()}]\nspace: {{task.to: [1, 2]}}\nseeds: 1\n", base=OWN)
    assert asked.problems == []
    assert [(trial.task.to, trial.task.word) for trial in asked.trials] == [(1, "go"), (2, "go")]


@pytest.mark.parametrize("pair", ["1, '1'", "true, 'True'", "null, 'None'", "0.1, '0.1'"])
def test_values_with_one_name_are_refused(ask, own, pair):
    module = own(code=TASK_MODULE.replace("word: str", "word: str | int | float | bool | None"))
    (problem,) = ask(f"plugins: [{module}]\nspace: {{task.word: [go, {pair}]}}\n", base=OWN).problems
    first, second = yaml.safe_load(f"[{pair}]")
    assert problem == (f"small.yaml:6: task.word: {first!r} and {second!r} give two configurations the name 'word={second}'. Change one.")


def test_a_plugins_task_in_a_folder_beside_the_sweeps_folder(own, tmp_path):
    module = own()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(f"{OWN}plugins: [{module}]\n")
    problems: list[str] = []
    sweep = config.compose_sweep(str(tmp_path / "sweep" / "mine.yaml"), [], "smoke", problems)
    assert problems == []
    assert sweep.task_class.__name__ == "Counting"


def test_a_module_is_found_next_to_the_sweeps_file(ask, own, tmp_path, monkeypatch):
    module = own()
    (tmp_path / "modules" / f"{module}.py").rename(tmp_path / f"{module}.py")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "modules")])
    asked = ask(f"plugins: [{module}]\nseeds: 1\n", base=OWN)
    assert asked.problems == []
    assert [trial.task.word for trial in asked.trials] == ["go"]


def test_a_task_without_a_yaml_is_named_by_its_file(ask, own, tmp_path):
    module = own(
        code=TASK_MODULE.replace("to: int", "to: int = 3")
        .replace("word: str", "word: str = 'go'")
        .replace("loud: bool", "loud: bool = True")
    )
    reference = f"modules/{module}.py:Counting"
    asked = ask("space: {task.to: [1, 2]}\nseeds: 1\n", base=OWN.replace("counting\n", f"{reference}\n", 1))
    assert asked.problems == []
    assert [(trial.task.to, trial.task.word) for trial in asked.trials] == [(1, "go"), (2, "go")]
    assert ask("", base=OWN.replace("counting\n", "no.py:Counting\n", 1)).problems == [
        "small.yaml:1: task: no.py:Counting: there is no file no.py."
    ]


def test_a_tasks_yaml_extends_another(ask, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "wide.yaml").write_text("extends: classification\nwidths: [64, 64]\n")
    (tmp_path / "task" / "classification.yaml").write_text("extends: classification\nlr: 0.5\ndense: none\n")
    asked = ask("seeds: 1\n", base=SWEEP.replace("classification", "wide"))
    assert asked.problems == ["task/classification.yaml:3: task.dense: should be a valid integer, not 'none'."]
    (tmp_path / "task" / "classification.yaml").write_text("extends: classification\nlr: 0.5\n")
    (trial,) = ask("seeds: 1\n", base=SWEEP.replace("classification", "wide")).trials
    assert (trial.task.widths, trial.task.lr, trial.task.batch_size) == ([64, 64], 0.5, 128)


@pytest.mark.parametrize(
    ("extended", "reason"),
    [("clasification", "'clasification' is unknown. Did you mean classification?"), ("wide", "'wide' extends itself.")],
)
def test_a_task_that_cannot_be_extended_is_named(ask, tmp_path, extended, reason):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "wide.yaml").write_text(f"extends: {extended}\n")
    (problem,) = ask("", base=SWEEP.replace("classification", "wide")).problems
    assert problem.startswith(f"task/wide.yaml:1: extends: {reason}")


def test_a_class_in_a_module_that_is_not_listed(ask, own):
    module = own()
    assert ask(base=OWN).problems == [
        f"task/counting.yaml:1: class: must name a Task in ddl.tasks, or in a module that the sweep lists under `plugins`, not {module}."
    ]


@pytest.mark.parametrize("cls", ["os.system", "subprocess.Popen", "ddl.config.ConfigError", "ddl.tasksx.A", "Classification", "''", "3"])
def test_a_class_from_anywhere_else(ask, own, cls):
    own(cls)
    (problem,) = ask(base=OWN).problems
    assert problem.startswith("task/counting.yaml:1: class: must name a Task in ddl.tasks")


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        ("ddl.tasks.task.Task", "ddl.tasks.task.Task is neither a Task that can be run nor a function of yours."),
        ("ddl.tasks.fit_task.Fitting", "ddl.tasks.fit_task.Fitting is neither a Task that can be run nor a function of yours."),
        (
            "ddl.tasks.generation.SIZE",
            "ddl.tasks.generation.SIZE is neither a Task that can be run nor a function of yours.",
        ),
        (
            "ddl.tasks.nothing.X",
            "there is no module ddl.tasks.nothing in the current folder, next to the sweep's file, or among the installed packages.",
        ),
        ("ddl.tasks.task.Tusk", "ddl.tasks.task has no Tusk. Did you mean Task?"),
        (
            "ddl.tasks.user_code.import_module",
            "ddl.tasks.user_code.import_module is neither a Task that can be run nor a function of yours.",
        ),
    ],
)
def test_what_is_no_task(ask, own, cls, said):
    own(cls)
    assert ask(base=OWN).problems == [f"task/counting.yaml:1: class: {said}"]


@pytest.mark.parametrize("name", ["NoTask", "Unfinished", "Count"])
def test_a_plugins_class_that_is_no_task(ask, own, name):
    module = own(f"MODULE.{name}")
    assert ask(f"plugins: [{module}]\n", base=OWN).problems == [
        f"task/counting.yaml:1: class: {module}.{name} is neither a Task that can be run nor a function of yours."
    ]


@pytest.mark.parametrize("code", ["1 / 0", "def", "raise SystemError('no')"])
def test_a_plugin_that_fails_at_import(ask, own, code):
    module = own(code=code)
    (problem,) = ask(f"plugins: [{module}]\n", base=OWN).problems
    assert problem.startswith(f"task/counting.yaml:1: class: the module {module} cannot be imported (")


@pytest.mark.parametrize("plugin", ["''", ".x", "..", "'a b'"])
def test_a_plugin_that_is_no_module(ask, own, plugin):
    own(f"{yaml.safe_load(plugin)}.Counting")
    (problem,) = ask(f"plugins: [{plugin}]\n", base=OWN).problems
    assert problem.startswith("task/counting.yaml:1: class: ")


def test_mistakes_in_a_tasks_own_file(ask, own):
    module = own(hyperparameters="wrod: go\n4: x\nword: 3\nloud: 1\n")
    assert ask(f"plugins: [{module}]\n", base=OWN).problems == [
        "task/counting.yaml:2: wrod: unknown key. Did you mean word?",
        "task/counting.yaml:3: 4: unknown key.",
        "task/counting.yaml:1: task.to: missing. Give it a value.",
        "task/counting.yaml:4: task.word: should be a valid string, not 3.",
        "task/counting.yaml:5: task.loud: should be a valid boolean, not 1.",
    ]


def test_a_tasks_file_that_is_empty(ask, own, tmp_path):
    module = own()
    (tmp_path / "task" / "counting.yaml").write_text("")
    assert ask(f"plugins: [{module}]\n", base=OWN).problems == ["task/counting.yaml:1: must be a mapping: lines of `key: value`."]


def test_the_users_own_task_file_comes_before_ours(ask, tmp_path):
    (tmp_path / "task").mkdir()
    ours = (yamlfile.FOLDER / "task" / "classification.yaml").read_text()
    (tmp_path / "task" / "classification.yaml").write_text(ours.replace("batch_size: 128", "batch_size: 77"))
    assert "batch_size: 128" in ours
    assert ask().trials[0].task.batch_size == 77


@pytest.mark.parametrize("path", sorted((yamlfile.FOLDER / "task").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_tasks_file_gives_each_hyperparameter_and_no_other(path):
    values = yaml.safe_load(path.read_text())
    module, _, name = values.pop("class").rpartition(".")
    cls = getattr(__import__(module, fromlist=[name]), name)
    assert values.keys() == {item.name for item in fields(cls) if not item.kw_only} - {"seed"}
    if "path" in values:
        assert values["path"] == ""  # only the user can name it
        values["path"] = "table.npz"
    cls(**values, seed=0)


# What a hyperparameter's name in a table is


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.001, "0.001"),
        (1e-5, "1e-05"),
        (0.1234567, "0.1234567"),
        (1e6, "1e+06"),
        (1.0, "1"),
        (3, "3"),
        ("none", "none"),
        (True, "True"),
        (None, "None"),
        ([8, 16], "[8, 16]"),
    ],
)
def test_how_a_value_is_shown(value, shown):
    assert schema.label(value) == shown


def test_where_nothing_is_wrong_nothing_is_said_and_nothing_is_written(ask, tmp_path):
    assert ask().problems == []
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
    assert Classification.data_sets == ("cifar10", "mnist")
    assert isinstance(yamlfile.FOLDER, Path)


def test_a_hundred_thousand_problems_are_counted_and_not_printed():
    error = config.ConfigError([f"a.yaml:{line}: wrong." for line in range(120_001)])
    assert len(error.problems) == 120_001
    assert str(error).splitlines() == [*error.problems[:20], "... and 119,981 more"]
    assert str(config.ConfigError(["a"] * 20)) == "\n".join(["a"] * 20)


# Values that lose, and absurd sizes


@pytest.mark.parametrize(
    ("more", "overrides", "where"),
    [
        ("  paper: {task.epochs: 0, task.content: 7}\n", [], ["small.yaml:6: task.epochs", "small.yaml:6: task.content"]),
        ("set:\n  task.epochs: -1\n", [], ["small.yaml:7: task.epochs"]),  # the scale replaces it
        ("set:\n  task.lr: fast\n", ["task.lr=0.1"], ["small.yaml:7: task.lr"]),
        ("set:\n  task.lr: fast\nspace:\n  task.lr: [0.1, 0.2]\n", [], ["small.yaml:7: task.lr"]),
        ("set:\n  task.lr: fast\n", [], ["small.yaml:7: task.lr"]),  # it does not lose, and is reported once
    ],
)
def test_a_value_that_another_one_replaces_is_checked_too(ask, more, overrides, where):
    problems = ask(more, overrides).problems
    assert [": ".join(line.split(": ")[:2]) for line in problems] == where


@pytest.mark.parametrize(
    "override",
    [
        "task.epochs=1000000000000000000000000000",
        "task.widths=[10000000000000]",
        "task.batch_size=100000000000",
        "task.convolutions=100000",
        "seeds=1000000000000000000000000000",
        "task.dense=10000000000000",
    ],
)
def test_an_absurd_size_is_refused(ask, override):
    (problem,) = ask("", [override]).problems
    assert problem.startswith(f"command line: {override.partition('=')[0]}")
    assert "less than or equal to" in problem
