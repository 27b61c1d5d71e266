"""Search: the sampled points, the effect of earlier results, and the resume of a search."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ddl.ledger_tables import TrialRow
from ddl.sweeps import prepare
from ddl.sweeps.search import TpeSearch
from ddl.sweeps.space import Trial

TPE = "search: {algorithm: tpe}\nsamples: 24\nseeds: 1\nspace: {task.lr: {loguniform: [1.0e-5, 1.0]}, task.optimiser: [adam, sgd]}\n"


@pytest.fixture
def search(ask):
    def make(more: str = TPE, overrides=()) -> TpeSearch:
        problems: list[str] = []
        found = TpeSearch.of(ask(more, overrides).sweep, problems)
        assert problems == []
        return found

    return make


def all_of(search: TpeSearch) -> Iterator[Trial]:
    """The trials of all groups, each taken when it is asked for."""
    return (trial for group in search.groups() for trial in group if search.take(trial))


def worth(trial: Trial) -> float:
    """A value that is largest for lr 0.01 with sgd."""
    return -abs(math.log10(trial.task.lr) + 2) - (trial.task.optimiser == "adam")


def row(trial: Trial, status: str) -> TrialRow:
    return replace(prepare.ledger_row(trial), status=status)


def test_it_samples_the_requested_number_within_the_axes_and_none_twice(search):
    found = list(all_of(search()))
    assert len(found) == 24
    assert len({trial.trial_id for trial in found}) == len({trial.configuration for trial in found}) == 24
    assert all(1e-5 <= trial.task.lr <= 1.0 for trial in found)
    assert {trial.task.optimiser for trial in found} == {"adam", "sgd"}
    assert found[0].swept == {"task.lr": found[0].task.lr, "task.optimiser": found[0].task.optimiser}


def test_measurements_guide_the_samples(search):
    tpe, blind = search(), search()
    steered, unsteered = [], []
    for trial, other in zip(all_of(tpe), all_of(blind), strict=True):
        tpe.ended(trial.trial_id, worth(trial))
        blind.ended(other.trial_id, None)
        steered.append(worth(trial))
        unsteered.append(worth(other))
    assert statistics.mean(steered[12:]) > statistics.mean(unsteered[12:]) + 0.5


def test_a_sweep_that_minimises_is_steered_the_other_way(ask):
    problems: list[str] = []
    tpe = TpeSearch.of(ask(TPE.replace("samples: 24", "samples: 24\n")).sweep, problems)
    settings = tpe.record() | {"mode": "min"}
    tpe = TpeSearch(settings, type(next(iter(all_of(tpe))).task))
    costs = []
    for trial in all_of(tpe):
        tpe.ended(trial.trial_id, -worth(trial))
        costs.append(-worth(trial))
    assert statistics.mean(costs[12:]) < statistics.mean(costs[:6])


def test_the_value_of_a_sample_is_the_mean_over_its_seeds(search):
    tpe = search(TPE.replace("seeds: 1", "seeds: 3"))
    sampling = all_of(tpe)
    first = [next(sampling) for _ in range(3)]
    assert [trial.task.seed for trial in first] == [0, 1, 2]
    assert len({trial.configuration for trial in first}) == 1
    tpe.ended(first[0].trial_id, 1.0)
    tpe.ended(first[1].trial_id, None)
    assert [trial.value for trial in tpe._study.trials] == [None]
    tpe.ended(first[2].trial_id, 4.0)
    assert [trial.value for trial in tpe._study.trials] == [2.5], "the mean of those that have a value"


def test_a_resume_knows_the_samples_and_continues_to_the_same_number(search):
    tpe = search()
    sampling = all_of(tpe)
    sampled = [next(sampling) for _ in range(10)]
    for trial in sampled[:8]:
        tpe.ended(trial.trial_id, worth(trial))
    rows = [row(trial, "finished") for trial in sampled[:8]] + [row(sampled[8], "running"), row(sampled[9], "failed")]
    best = {trial.trial_id: worth(trial) for trial in sampled[:8]}
    settings = json.loads(json.dumps(tpe.record()))
    again = TpeSearch.resumed(settings, type(sampled[0].task), rows, best)

    assert again.left == 14
    for trial in sampled[8:]:
        again.ended(trial.trial_id, worth(trial))
    known = {(trial.params["lr"], trial.params["optimiser"]): trial.value for trial in again._study.trials}
    assert known == {(t.task.lr, ["adam", "sgd"].index(t.task.optimiser)): pytest.approx(worth(t)) for t in sampled}
    rest = list(all_of(again))
    assert len(rest) == 14
    assert not {trial.trial_id for trial in rest} & {trial.trial_id for trial in sampled}
    assert again.left == 0


def test_a_resume_does_not_sample_the_earlier_points_again(search, monkeypatch):
    monkeypatch.setattr("ddl.sweeps.search.REPEATS", 2)
    tpe = search()
    sampling = all_of(tpe)
    rows = [row(next(sampling), "running") for _ in range(4)]  # none has a value, so the next points are random
    again = TpeSearch.resumed(json.loads(json.dumps(tpe.record())), type(next(sampling).task), rows, {})
    assert len(list(all_of(again))) == 20


def test_an_interruption_within_a_point_leaves_no_seed_out(search):
    tpe = search(TPE.replace("seeds: 1", "seeds: 3"))
    assert tpe.left == 24 * 3
    taken = []
    for trial in all_of(tpe):
        taken.append(trial)
        assert tpe.left == 24 * 3 - len(taken)
        if len(taken) == 5:
            break
    again = TpeSearch.resumed(json.loads(json.dumps(tpe.record())), type(taken[0].task), [row(trial, "running") for trial in taken], {})
    assert again.left == 24 * 3 - 5
    rest = list(all_of(again))
    assert (rest[0].configuration, rest[0].task.seed) == (taken[4].configuration, 2)
    assert len({trial.trial_id for trial in [*taken, *rest]}) == 24 * 3
    seeds = Counter(trial.configuration for trial in [*taken, *rest])
    assert set(seeds.values()) == {3}
    assert again.left == 0


def test_a_small_space_ends_when_it_is_used_up(search):
    tpe = search("search: {algorithm: tpe}\nsamples: 50\nseeds: 1\nspace: {task.dense: {randint: [4, 8]}}\n")
    found = []
    for trial in all_of(tpe):
        found.append(trial.task.dense)
        tpe.ended(trial.trial_id, float(trial.task.dense))
    assert sorted(found) == [4, 5, 6, 7]
    assert tpe.left == 0


def test_a_command_line_value_holds_for_every_sample(search):
    assert {trial.task.epochs for trial in all_of(search(overrides=["task.epochs=7"]))} == {7}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("search: {algorithm: tpe}\nspace: {task.lr: [0.1, 0.2]}\n", "no axis is a distribution"),
        (
            "search: {algorithm: tpe}\nsamples: 3\nspace: {task.lr: {uniform: [0.1, 0.2]}}\nconfigurations: {a: {task.dense: 3}}\n",
            "Remove `configurations`, or set search.algorithm to random.",
        ),
        ("search: {algorithm: tpe}\nspace: {task.lr: {uniform: [0.1, 0.2]}}\n", "samples: missing"),
        (
            "search: {algorithm: tpe}\nsamples: 3\nspace: {task.dropout: {uniform: [0.1, 1.5]}}\n",
            "task.dropout: should be less than 1, not 1.5.",
        ),
        ("search: {algorithm: tpe}\nsamples: 3\nspace: {task.lr: {loguniform: [0.0, 1.0]}}\n", "loguniform takes [low, high]"),
        ("search: {algorithm: best}\n", "search.algorithm: should be 'random', 'tpe' or 'pbt', not 'best'."),
    ],
)
def test_settings_that_rule_out_a_search_are_reported(ask, more, said):
    asked = ask(more)
    problems = list(asked.problems)
    if asked.sweep and asked.sweep.launch.search.algorithm == "tpe":
        problems = []
        assert TpeSearch.of(asked.sweep, problems) is None
    assert any(said in line and line.count(":") >= 2 for line in problems), problems
