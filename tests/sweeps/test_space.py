"""Expansion of axes, configurations, samples and seeds into trials, and the identity of a trial."""

import dataclasses
import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass

from ddl import config
from ddl.sweeps import points, space
from ddl.tasks.classification import Classification
from ddl.tasks.task import STRICT

ROOT = Path(__file__).resolve().parents[2]


def values(asked, name):
    return [getattr(trial.task, name) for trial in asked.trials]


# Grids and seeds


def test_every_configurations_first_seed_comes_before_any_second(ask):
    asked = ask("seeds: 3\nfirst_seed: 5\nspace: {task.lr: [0.1, 0.2]}\n")
    assert [(trial.task.seed, trial.configuration) for trial in asked.trials] == list(itertools.product((5, 6, 7), ("lr=0.1", "lr=0.2")))
    assert [trial.position for trial in asked.trials] == list(range(6))


def test_axes_multiply_and_the_last_varies_fastest(ask):
    asked = ask("seeds: 1\nspace: {task.lr: [0.1, 0.2], task.epochs: [1, 2, 3]}\n")
    assert list(zip(values(asked, "lr"), values(asked, "epochs"), strict=True)) == list(itertools.product([0.1, 0.2], [1, 2, 3]))
    assert [trial.configuration for trial in asked.trials][:2] == ["lr=0.1, epochs=1", "lr=0.1, epochs=2"]


def test_a_named_configuration_at_each_point_of_the_grid(ask):
    asked = ask("seeds: 1\nconfigurations: {plain: {}, dropped: {task.dropout: 0.3}}\nspace: {task.lr: [0.1, 0.2]}\n")
    assert [(trial.configuration, trial.task.lr, trial.task.dropout) for trial in asked.trials] == [
        ("plain, lr=0.1", 0.1, 0.0),
        ("plain, lr=0.2", 0.2, 0.0),
        ("dropped, lr=0.1", 0.1, 0.3),
        ("dropped, lr=0.2", 0.2, 0.3),
    ]


def test_configurations_that_name_different_hyperparameters_share_their_columns(ask):
    asked = ask("seeds: 1\nconfigurations: {dropped: {task.dropout: 0.3}, normed: {task.batch_norm_layers: 2}}\n")
    assert [trial.swept for trial in asked.trials] == [
        {"task.dropout": 0.3, "task.batch_norm_layers": 0},
        {"task.dropout": 0.0, "task.batch_norm_layers": 2},
    ]


@pytest.mark.parametrize(
    ("axis", "names"),
    [
        ("task.augmentation: [none, light]", ["none", "light"]),
        ("task.lr: [0.1, 1e-3]", ["lr=0.1", "lr=0.001"]),
        ("task.batch_norm_layers: [0]", ["batch_norm_layers=0"]),
        ("task.widths: [[8, 16], [32]]", ["widths=[8, 16]", "widths=[32]"]),
    ],
)
def test_one_axis_names_a_configuration_by_its_value_alone_if_that_is_a_word(ask, axis, names):
    asked = ask(f"seeds: 1\nspace: {{{axis}}}\n")
    assert asked.problems == []
    assert [trial.configuration for trial in asked.trials] == names


def test_a_name_has_no_part_in_a_trials_identity(ask):
    """Ids of runs from before names had the form `lr=0.1`."""
    by_axis = ask("seeds: 1\nspace: {task.lr: [0.1]}\n").trials[0]
    assert by_axis.trial_id == ask("seeds: 1\nset: {task.lr: 0.1}\n").trials[0].trial_id


def test_a_trials_hyperparameters_are_all_of_them_in_plain_values(ask):
    (trial,) = ask("seeds: 1\n").trials
    assert json.loads(json.dumps(trial.hyperparameters)) == dataclasses.asdict(trial.task)
    assert trial.hyperparameters["epochs"] == 1


def test_two_configurations_never_have_one_name(ask):
    asked = ask("seeds: 1\nspace: {task.lr: [0.1234567, 0.1234568]}\n")
    assert asked.problems == []
    assert [trial.configuration for trial in asked.trials] == ["lr=0.1234567", "lr=0.1234568"]


def test_samples_are_shown_with_six_digits_and_listed_values_with_all(ask):
    asked = ask("seeds: 1\nsamples: 1\nspace: {task.momentum: [0.1234567], task.lr: {uniform: [0.1, 0.2]}}\n")
    (trial,) = asked.trials
    assert trial.configuration == f"momentum=0.1234567, lr={trial.task.lr:.6g}"
    assert trial.task.lr != float(f"{trial.task.lr:.6g}")


# What a grid may not be


def test_an_empty_axis(ask):
    assert ask("space: {task.lr: []}\n").problems == ["small.yaml:6: task.lr: an axis without values. Give it some, or remove it."]


@pytest.mark.parametrize(
    "axis", ["0.1", "text", "{}", "{loguniform: [0.1, 1], uniform: [1, 2]}", "{normal: [0, 1]}", "{uniform: 3}", "{choice: []}", "null"]
)
def test_what_is_no_axis(ask, axis):
    (problem,) = ask(f"samples: 2\nspace:\n  task.lr: {axis}\n").problems
    assert problem == (
        "small.yaml:8: task.lr: must be a list of values, or one of "
        "{uniform: [...]}, {loguniform: [...]}, {randint: [...]}, {choice: [...]}."
    )


def test_what_is_no_axis_beside_a_configuration_that_sets_the_same(ask):
    asked = ask("configurations: {a: {task.lr: 0.1}}\nspace: {task.lr: 3}\n")
    assert [problem.partition(": must")[0] for problem in asked.problems] == ["small.yaml:7: task.lr"]


def test_duplicate_configurations_are_all_named_with_their_line(ask):
    asked = ask("space:\n  task.lr: [0.1, 0.2, 0.1, 0.20]\n")
    assert asked.problems == [
        "small.yaml:7: the configurations 'lr=0.1' and 'lr=0.1' are the same. Remove one.",
        "small.yaml:7: the configurations 'lr=0.2' and 'lr=0.2' are the same. Remove one.",
    ]


def test_configurations_that_only_come_to_the_same(ask):
    assert ask("configurations:\n  a: {task.dropout: 0.3}\n  b: {task.dropout: 0.3, task.lr: 1.0e-3}\n").problems == [
        "small.yaml:8: the configurations 'a' and 'b' are the same. Remove one."
    ]
    assert ask("space: {task.lr: [1, 1.0]}\n").problems == [
        "small.yaml:6: the configurations 'lr=1' and 'lr=1.0' are the same. Remove one."
    ]


def test_an_override_that_makes_all_configurations_the_same(ask):
    (problem,) = ask("configurations: {a: {task.dropout: 0.1}, b: {task.dropout: 0.2}}\n", ["task.dropout=0.3"]).problems
    assert problem == (
        "command line: task.dropout=0.3 makes the configurations 'a' and 'b' the same. "
        "Take one of them, as in configurations=a, or remove the override."
    )


NAMED = "configurations:\n  a + b: {task.dropout: 0.1}\n  b: {task.dropout: 0.2}\n  c d: {task.momentum: 0.1}\n"


def test_an_axis_that_some_configurations_set_themselves(ask):
    asked = ask(NAMED, ["task.dropout=0.3,0.4"])
    assert asked.problems == [
        "command line: the axis task.dropout=0.3,0.4 has no effect on the configurations a + b, b, which set task.dropout themselves. "
        "Remove the axis, or take only the others: 'configurations=c d'."
    ]
    others = ask(NAMED, ["task.dropout=0.3,0.4", "configurations=c d", "seeds=1"])
    assert others.problems == []
    assert values(others, "dropout") == [0.3, 0.4]


def test_the_selection_of_other_configurations_can_be_pasted(ask):
    (problem,) = ask(NAMED, ["task.momentum=0.3,0.4"]).problems
    selection = shlex.split(problem.removesuffix(".").partition("the others: ")[2])
    asked = ask(NAMED, ["task.momentum=0.3,0.4", *selection])
    assert asked.problems == []
    assert asked.sweep.configurations.keys() == {"a + b", "b"}


@pytest.mark.parametrize(
    ("axis", "shown"),
    [
        ("[0.3, 0.4]", "task.dropout=0.3,0.4"),
        ("{uniform: [0.1, 0.2]}", "task.dropout"),
        (str([index / 20 for index in range(12)]), "of them)"),
    ],
)
def test_an_axis_that_each_configuration_sets_itself(ask, axis, shown):
    asked = ask(f"samples: 3\nconfigurations: {{a: {{task.dropout: 0.1}}}}\nspace: {{task.dropout: {axis}}}\n")
    (problem,) = asked.problems
    assert problem.startswith("small.yaml:8: the axis task.dropout")
    assert f"{shown} has no effect, because each configuration sets task.dropout itself. Remove the axis, or" in problem


def test_an_override_has_an_effect_on_configurations_and_axes_alike(ask):
    text = "seeds: 1\nspace: {task.lr: [0.5]}\nconfigurations: {a: {task.lr: 0.7}, b: {task.dropout: 0.1}}\n"
    assert values(ask(text), "lr") == [0.7, 0.5]
    assert values(ask(text, ["task.lr=0.2"]), "lr") == [0.2, 0.2]
    several = ask(text.replace("[0.5]", "[0.5, 0.6]"), ["task.lr=0.2"])
    assert several.problems == []
    assert values(several, "lr") == [0.2, 0.2]


def test_a_grid_over_the_cap_is_counted_and_not_expanded(ask, monkeypatch):
    monkeypatch.setattr(points.itertools, "product", lambda *axes: pytest.fail("the grid was expanded"))
    ten = list(range(1, 11))
    axes = ", ".join(
        f"task.{name}: {ten}" for name in ("epochs", "dense", "convolutions", "batch_size", "train_limit", "batch_norm_layers")
    )
    assert ask(f"seeds: 3\nspace: {{{axes}}}\n").problems == [
        "small.yaml:7: 3,000,000 trials, more than the 100,000 a sweep may have. Use fewer values of task.epochs."
    ]


def test_seeds_and_samples_count_towards_the_cap(ask):
    assert "1,000,000 trials" in ask("seeds: 1000000\n").problems[0]
    assert "3,000,000,000 trials" in ask("samples: 1000000000\nspace: {task.lr: {uniform: [0.1, 0.2]}}\n").problems[0]
    assert "200,000 trials" in ask("seeds: 100000\nconfigurations: {a: {}, b: {task.lr: 0.1}}\n").problems[0]


@pytest.mark.parametrize(
    ("more", "override", "problem"),
    [
        ("", "seeds=1000000000", "command line: 1,000,000,000 trials, more than the 100,000 a sweep may have. Use fewer seeds."),
        (
            "samples: 1000000000\nspace: {task.lr: {uniform: [0.1, 0.2]}}\n",
            "seeds=2",
            "small.yaml:6: 2,000,000,000 trials, more than the 100,000 a sweep may have. Use fewer samples.",
        ),
        ("", "resources.num_workers=[1,100000000]", "resources.num_workers: should be a valid integer, or should be less than or equal to 1024"),
        ("", "resources.num_workers=100000000", "resources.num_workers: should be less than or equal to 1024"),
        ("", "resources.num_workers=[1,1000]", "is not divisible by 3 workers. Change resources.num_workers."),
        ("", "early_stopping.reduction_factor=1.0000001", "early_stopping.reduction_factor: should be greater than or equal to 1.01"),
        ("", "task.lr=range(0,100000000000)", "task.lr: takes one value."),
        (
            "configurations: {a: {}}\n",
            "configurations=range(0,100000000000)",
            "command line: configurations: takes names with commas, as in configurations=NAME,NAME.",
        ),
    ],
)  # fmt: skip
def test_a_number_that_would_take_forever_is_refused_at_once(ask, more, override, problem):
    (only,) = ask(more, [override]).problems
    assert problem in only


def test_a_search_over_the_cap_is_refused_before_it_samples(ask, monkeypatch):
    asked = ask("samples: 1\nspace: {task.lr: {uniform: [0.1, 0.2]}}\nseeds: 3\nsearch: {algorithm: tpe}\n")
    monkeypatch.setattr(space, "axis_values", lambda *_: pytest.fail("the axes were sampled"))
    problems: list[str] = []
    file = dataclasses.replace(asked.sweep.file, samples=1_000_000_000)
    space.check_ends(dataclasses.replace(asked.sweep, file=file), problems)
    assert [problem.partition(": ")[2] for problem in problems] == [
        "3,000,000,000 trials, more than the 100,000 a sweep may have. Use fewer samples."
    ]


def test_a_wrong_value_is_reported_once_and_not_looked_for_in_every_trial(ask, monkeypatch):
    built, construct = [], points.construct
    monkeypatch.setattr(points, "construct", lambda *arguments: (built.append(1), construct(*arguments))[1])
    assert ask("seeds: 50\nset: {task.momentum: 2.0}\nspace: {task.lr: [0.1, 0.2, 0.3]}\n").problems == [
        "small.yaml:7: task.momentum: should be less than 1, not 2.0."
    ]
    assert len(built) == 3


def test_what_is_wrong_on_one_axis_hides_nothing_on_another(ask):
    asked = ask("space:\n  task.lr: []\n  task.epochs: [0]\n  task.dense: 3\nset: {task.momentum: 2.0}\n")
    assert sorted(line.partition(": ")[0] for line in asked.problems) == ["small.yaml:10", "small.yaml:7", "small.yaml:8", "small.yaml:9"]


# Distributions


def test_samples_lie_within_their_bounds_and_reach_towards_them(ask):
    asked = ask(
        "seeds: 1\nsamples: 400\nspace:\n"
        "  task.lr: {loguniform: [1.0e-4, 1.0e-1]}\n"
        "  task.dropout: {uniform: [0.2, 0.4]}\n"
        "  task.dense: {randint: [10, 13]}\n"
        "  task.augmentation: {choice: [none, light]}\n"
    )
    assert asked.problems == []
    rates, dropouts = values(asked, "lr"), values(asked, "dropout")
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert min(rates) < 2e-4
    assert max(rates) > 5e-2
    for low in (1e-4, 1e-3, 1e-2):
        assert 80 < sum(low <= rate < 10 * low for rate in rates) < 190, "a decade holds a third"
    assert all(0.2 <= dropout <= 0.4 for dropout in dropouts)
    assert 150 < sum(dropout < 0.3 for dropout in dropouts) < 250
    assert set(values(asked, "dense")) == {10, 11, 12}
    assert set(values(asked, "augmentation")) == {"none", "light"}


def test_samples_are_the_same_each_time_and_others_in_another_sweep(ask):
    text = "seeds: 2\nsamples: 5\nspace: {task.lr: {loguniform: [1.0e-4, 1.0e-1]}}\n"
    first, again, other = ask(text), ask(text), ask(text, name="other.yaml")
    assert values(first, "lr") == values(again, "lr")
    assert values(first, "lr")[:5] == values(first, "lr")[5:], "each seed sees the same configurations"
    assert len(set(values(first, "lr"))) == 5
    assert not set(values(first, "lr")) & set(values(other, "lr"))


def test_more_samples_or_a_further_axis_leave_the_samples_as_they_were(ask):
    few = ask("seeds: 1\nsamples: 3\nspace: {task.lr: {uniform: [0.1, 0.9]}}\n")
    more = ask("seeds: 1\nsamples: 5\nspace: {task.dropout: {uniform: [0.1, 0.9]}, task.lr: {uniform: [0.1, 0.9]}}\n")
    assert values(more, "lr")[:3] == values(few, "lr")
    assert values(more, "dropout") != values(more, "lr")


def test_samples_at_each_point_of_the_grid(ask):
    asked = ask("seeds: 1\nsamples: 2\nspace: {task.epochs: [1, 2], task.lr: {uniform: [0.1, 0.2]}}\n")
    assert values(asked, "epochs") == [1, 2, 1, 2]
    assert values(asked, "lr")[0] == values(asked, "lr")[1] != values(asked, "lr")[2]


def test_a_distribution_without_a_number_of_samples(ask):
    assert ask("space: {task.lr: {uniform: [0.1, 0.2]}}\n").problems == [
        "small.yaml:1: samples: missing. An axis is a distribution: set how many values to sample."
    ]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("{uniform: [0.2, 0.1]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [0.1, 0.1]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [0.1]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [0.1, 0.2, 0.3]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [0.1, .inf]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [.nan, 1]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [false, true]}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: ['0', '1']}", "uniform takes [low, high], finite numbers, low < high."),
        ("{uniform: [-1.0e+308, 1.0e+308]}", "uniform takes [low, high], finite numbers, low < high."),
        (f"{{uniform: [0, {10**299}]}}", "uniform takes [low, high], finite numbers, low < high."),
        ("{loguniform: [0, 0.1]}", "loguniform takes [low, high], finite numbers above 0, low < high."),
        ("{loguniform: [-1, 1]}", "loguniform takes [low, high], finite numbers above 0, low < high."),
        ("{randint: [1.5, 3]}", "randint takes [low, high], whole numbers, low < high."),
        (f"{{randint: [0, {2**70}]}}", "randint takes [low, high], whole numbers, low < high."),
    ],
)
def test_bounds_that_cannot_be(ask, axis, said):
    assert ask(f"samples: 3\nspace:\n  task.lr: {axis}\n").problems == [f"small.yaml:8: task.lr: {said}"]


def test_a_distribution_whose_samples_repeat(ask):
    asked = ask("seeds: 1\nsamples: 3\nspace: {task.augmentation: {choice: [none, light]}}\n")
    assert asked.problems
    assert all(line.endswith("are the same. Take fewer samples, or list the values.") for line in asked.problems)


# Identity

OTHERWISE = {
    "data_set": "mnist",
    "content": "full",
    "train_limit": 7,
    "val_limit": 7,
    "augmentation": "light",
    "widths": [32, 64],
    "convolutions": 1,
    "dense": 64,
    "dropout": 0.1,
    "batch_norm_layers": 1,
    "initialisation": "zeros",
    "optimiser": "sgd",
    "lr": 0.5,
    "momentum": 0.5,
    "batch_size": 64,
    "epochs": 2,
    "schedule": "linear",
    "precision": "fp32",
    "holdout": 0.1,
    "selected_by": "max val/accuracy",
    "image_size": 32,
    "seed": 1,
}


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Classification) if item.name != "path"])
def test_a_trial_is_another_where_any_hyperparameter_or_the_seed_is(ask, name):
    (trial,) = ask("seeds: 1\n").trials
    assert getattr(trial.task, name) != OTHERWISE[name]
    assert space.trial_identity(dataclasses.replace(trial.task, **{name: OTHERWISE[name]})) != trial.trial_id


def test_a_trial_is_another_where_its_images_are(ask):
    ids = [ask(f"set: {{task.data_set: folder, task.path: {path}}}\n").trials[0].trial_id for path in ("photos", "photos", "other")]
    assert ids[0] == ids[1] != ids[2]


def test_a_hyperparameter_that_a_task_gains_leaves_the_ids_of_earlier_trials(ask):
    (trial,) = ask("seeds: 1\n").trials
    names = {"__module__": Classification.__module__, "__qualname__": "Classification", "__annotations__": {"gained": float}, "gained": 0.5}
    gained = dataclass(frozen=True, config=STRICT, kw_only=True)(type("Classification", (Classification,), names))
    assert space.trial_identity(gained(**trial.hyperparameters)) == trial.trial_id
    assert space.trial_identity(gained(**trial.hyperparameters, gained=0.5)) == trial.trial_id
    assert space.trial_identity(gained(**trial.hyperparameters, gained=1.0)) != trial.trial_id


def test_a_trial_is_another_where_its_class_is(ask):
    (trial,) = ask("seeds: 1\n").trials
    other = type("Other", (Classification,), {"__module__": Classification.__module__})
    assert space.trial_identity(other(**trial.hyperparameters)) != trial.trial_id


def test_how_a_trial_is_run_or_what_it_is_called_does_not_make_it_another(ask):
    (trial,) = ask("seeds: 1\n").trials
    elsewhere = ask(
        "seeds: 2\nfirst_seed: 0\nconfigurations: {named: {task.epochs: 1}, more: {task.epochs: 2}}\n",
        ["resources.cpus=1", "resources.gpus=0.5", "retries=7", "checkpoint_every_s=3", "wandb.mode=disabled"],
        base="task: classification\ntitle: Other\nmetric: {name: val/loss, mode: min}\nscale: {smoke: {task.content: sample}}\n",
    )
    assert elsewhere.problems == []
    assert elsewhere.trials[0].trial_id == trial.trial_id


def test_a_whole_number_for_a_rate_is_the_same_trial(ask):
    assert ask("set: {task.lr: 1}\n").trials[0].trial_id == ask("set: {task.lr: 1.0}\n").trials[0].trial_id


def test_ids_are_short_plain_and_each_its_own(ask):
    asked = ask("seeds: 20\nspace: {task.lr: [0.1, 0.2, 0.3, 0.4, 0.5]}\n")
    ids = [trial.trial_id for trial in asked.trials]
    assert len(set(ids)) == 100
    assert all(len(name) == 12 and set(name) <= set("0123456789abcdef") for name in ids)


def test_another_process_gives_the_same_trials_the_same_ids():
    script = (
        "from ddl import config; from ddl.sweeps import space\n"
        "sweep = config.compose_sweep('augmentation', ['task.dropout=0.1,0.2'], 'sample', [])\n"
        "print(*[trial.trial_id for trial in space.expand_trials(sweep, [])])\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    there = subprocess.run([sys.executable, "-c", script], env=environment, cwd="/", capture_output=True, text=True, check=True)
    sweep = config.compose_sweep("augmentation", ["task.dropout=0.1,0.2"], "sample", [])
    assert there.stdout.split() == [trial.trial_id for trial in space.expand_trials(sweep, [])]


# Workers that train a trial together


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["resources.num_workers=4", "task.batch_size=6"], "command line: task.batch_size: 6 is not divisible by 4 workers. Use a multiple of 4, or change resources.num_workers."),
        (["resources.num_workers=16", "task.batch_size=8"], "command line: task.batch_size: 8 is not divisible by 16 workers. Use a multiple of 16, or change resources.num_workers."),
        (["resources.num_workers=[1,4]", "task.batch_size=32,48"], "command line: task.batch_size: 32 is not divisible by 3 workers. Use a multiple of 12, or change resources.num_workers."),
        (["resources.num_workers=[4,1]"], "command line: resources.num_workers: should be a valid integer, or a range with the fewest first: [1, 4]."),
        (["resources.strategy=dpp"], "command line: resources.strategy: should be 'ddp' or 'fsdp', not 'dpp'."),
    ],
)  # fmt: skip
def test_workers_that_cannot_train_a_trial_together_are_refused_with_a_fix(ask, overrides, said):
    assert ask(overrides=overrides).problems == [said]


@pytest.mark.parametrize("workers", ["1", "2", "[1,2]", "[2,4]"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_workers_that_can_are_not_refused(ask, workers, strategy):
    overrides = [f"resources.num_workers={workers}", f"resources.strategy={strategy}", "task.batch_size=12"]
    assert ask(overrides=overrides).problems == []


def test_a_task_that_shares_nothing_is_trained_by_one(ask):
    base = "task: cartpole\ntitle: Alone\nmetric: {name: train/return, mode: max}\nscale: {smoke: {}}\n"
    assert ask(base=base, overrides=["resources.num_workers=1"]).problems == []
    (problem,) = ask(base=base, overrides=["resources.num_workers=2"]).problems
    assert problem == "resources.num_workers: 2 workers cannot train a cartpole trial together. Set it to 1."
    assert ask(base=base, overrides=["resources.num_workers=[1,2]"]).problems
