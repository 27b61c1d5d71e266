"""Confirmations: the best configurations of a run on fresh seeds, from its ledger alone, and their report."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import ddl
from ddl import confirmation, run
from ddl.config import ConfigError
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.reports.confirmations import Confirmation, Confirmed
from ddl.reports.html import render_html
from ddl.reports.model import build_report
from ddl.reports.statistics import Estimate, unpaired_difference
from ddl.run_training import Interrupted
from ddl.sweeps.confirmation import REFUSED
from ddl.tasks.loading import Untrusted
from tests.reports.synthetic import create
from tests.tasks.steps import TABLE

SWEEP = f"""\
task: tabular
title: A small table
metric: {{name: val/loss, mode: min}}
set: {{task.path: {TABLE}, task.hidden: [4], task.epochs: 3, task.batch_size: 32}}
space: {{task.lr: [0.001, 0.05, 0.02]}}
resources: {{cpus: 1}}
seeds: 2
first_seed: 4
stack: off
wandb: {{mode: disabled}}
latency: none
"""
FUNCTION = """\
def train(lr, seed):
    yield {"val/loss": lr + 0.001 * seed}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three learning rates, of which 0.05 is the best and 0.001 the worst."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "small.yaml").write_text(SWEEP)
    return run.run_sweep(str(folder / "small.yaml"), scale="smoke", executor="inline", out=folder / "runs").folder


@pytest.fixture(scope="module")
def confirmed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its confirmation on three seeds."""
    return ddl.confirm(searched, seeds=3, executor="inline", out=tmp_path_factory.mktemp("confirmation")).folder


def values(folder: Path, name: str) -> dict[str, dict[int, list[float]]]:
    """Every value of a metric in the order of its measurements, by configuration and seed, from the ledger."""
    reader = LedgerReader(folder)
    metrics, found = reader.metrics(), {}
    for trial in reader.trials():
        rows = metrics[(metrics.trial_id == trial.trial_id) & (metrics.name == name)]
        found.setdefault(trial.configuration, {})[trial.seed] = list(rows.value)
    return found


def test_the_best_two_are_trained_on_fresh_seeds_and_tested_once(confirmed):
    tested, validated = values(confirmed, "test/loss"), values(confirmed, "val/loss")
    assert {name: list(seeds) for name, seeds in tested.items()} == {"lr=0.05": [6, 7, 8], "lr=0.02": [6, 7, 8]}
    assert all(len(numbers) == 1 for seeds in tested.values() for numbers in seeds.values())
    assert all(len(numbers) == 3 for seeds in validated.values() for numbers in seeds.values())
    for trial in LedgerReader(confirmed).trials():
        assert (trial.task["holdout"], trial.task["selected_by"]) == (0.1, "min val/loss")
        assert trial.metadata["data"] | {"train": 58, "val": 6, "test": 16} == trial.metadata["data"]


def test_the_record_says_what_is_confirmed(confirmed, searched):
    record, search = LedgerReader(confirmed).run(), LedgerReader(searched).run()
    best = {name: {str(seed): min(numbers) for seed, numbers in seeds.items()} for name, seeds in values(searched, "val/loss").items()}
    assert record["sweep"]["metric"] == {"name": "test/loss", "mode": "min"}
    assert record["sweep"]["name"] == confirmed.parent.name == "small-confirm"
    assert record["confirms"] == {
        "folder": str(searched),
        "created": search["created"],
        "metric": {"name": "val/loss", "mode": "min"},
        "measure": "best val/loss",
        "configurations": {name: best[name] for name in ("lr=0.05", "lr=0.02")},
        "evaluations": {"lr=0.05": 3, "lr=0.02": 3},
        "winner": "lr=0.05",
        "compared": 3,
        "holdout": 0.1,
        "test_seen": True,
    }


def test_the_report_has_the_values_and_the_shrinkage_as_computed_by_hand(confirmed, searched):
    (report,) = build_report([confirmed]).runs
    before, after = values(searched, "val/loss"), values(confirmed, "test/loss")
    for found in report.confirmation.configurations:
        search = [min(numbers) for numbers in before[found.name].values()]
        fresh = [number for (number,) in after[found.name].values()]
        assert found.search.mean == pytest.approx(np.mean(search))
        assert found.confirmed.mean == pytest.approx(np.mean(fresh))
        assert (found.search.n, found.confirmed.n, found.evaluations) == (2, 3, 3)
        welch = stats.ttest_ind(fresh, search, equal_var=False).confidence_interval()  # smaller is better
        assert found.shrinkage.mean == pytest.approx(np.mean(fresh) - np.mean(search))
        assert (found.shrinkage.low, found.shrinkage.high) == pytest.approx(tuple(welch))
    assert report.measures == ("last test/loss",)
    first, second = ([number for (number,) in seeds.values()] for seeds in after.values())
    significant = stats.ttest_rel(first, second).pvalue < 0.05
    assert ("holds on fresh seeds" in report.answer) == (significant and np.mean(first) < np.mean(second))
    page = re.sub(r"\s+", " ", render_html(build_report([confirmed])))
    assert "<h2>Confirmation</h2>" in page
    assert "The search value is the best of up to 3 evaluations of each trial" in page
    assert "“Best” is the best epoch" not in page


def test_a_second_confirmation_takes_other_seeds(confirmed, searched):
    found = confirmation._search_result(str(searched), LedgerReader(searched), str(confirmed.parents[1]))
    assert set(found.taken) == {4, 5, 6, 7, 8}


def test_the_command_confirms_and_an_ordinary_run_names_it(searched, command, tmp_path, monkeypatch):
    (report,) = build_report([searched]).runs
    assert report.next_step.endswith(f"--confirm {searched}")
    done = command("--confirm", str(searched), "--executor", "inline", "seeds=1", "configurations='lr=0.001'")
    assert "confirms lr=0.001 of" in done.stdout
    assert "validation: 10% of the training examples" in done.stdout
    assert "58 train, 6 validation and 16 test examples" in done.stdout
    assert "--confirm" not in done.stdout
    assert "the best of" not in done.stdout  # it is the worst
    (folder,) = (tmp_path / "runs" / "small-confirm").iterdir()
    assert [trial.seed for trial in LedgerReader(folder).trials()] == [6]
    assert build_report([folder]).runs[0].next_step == ""


def test_a_plan_trains_nothing(searched, command, tmp_path):
    done = command("--confirm", str(searched), "--plan", "--executor", "inline", "seeds=2")
    assert "on the fresh seeds 6 to 7" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_confirmation_ends_with_the_same_numbers(confirmed, searched, tmp_path, monkeypatch):
    from ddl.sweeps import trial_run

    taken, take = [], trial_run.TrialRun.take

    def interrupted(self, progress):
        yield from take(self, progress)
        if progress.metrics and not taken and progress.epoch == 2:
            taken.append(progress)
            self.store_checkpoint()
            raise KeyboardInterrupt

    monkeypatch.setattr(trial_run.TrialRun, "take", interrupted)
    with pytest.raises(Interrupted) as stopped:
        ddl.confirm(searched, seeds=3, executor="inline", out=tmp_path)
    resumed = run.resume(stopped.value.folder, "inline")
    assert values(resumed.folder, "test/loss") == values(confirmed, "test/loss")


# Mistakes


@pytest.mark.parametrize("key", REFUSED)
def test_settings_that_would_change_what_is_confirmed_are_refused_with_the_reason(searched, command, key):
    word = {"task": "task.lr=0.1", "early_stopping": "early_stopping.scheduler=asha", "search": "search.algorithm=tpe"}.get(key, f"{key}=1")
    said = command("--confirm", str(searched), word, exits=2).stderr
    assert f"command line: {word}: cannot be set here: {REFUSED[key]}." in said


def test_all_mistakes_are_reported_at_once(searched, command):
    said = command("--confirm", str(searched), "configurations='lr=0.5'", "sedes=5", "task.lr=1", exits=2).stderr
    assert "configurations: 'lr=0.5' is unknown. Did you mean lr=0.05?" in said
    assert "sedes: unknown key. Did you mean seeds?" in said
    assert "task.lr=1: cannot be set here" in said


def test_a_confirmation_is_not_confirmed(confirmed, searched, command):
    said = command("--confirm", str(confirmed), exits=2).stderr
    assert f"{confirmed}: is a confirmation already. Name the run that it confirms, {searched}." in said


def test_a_folder_without_a_run_and_a_run_without_values(command, tmp_path, searched):
    assert "not a run folder" in command("--confirm", str(tmp_path), exits=2).stderr
    empty = create(tmp_path / "empty", {"a": 0.8}, endings={("a", seed): ("planned", "") for seed in range(3)}, task_class="x.Y", launch={})
    assert "no trial has a value of best val/accuracy yet" in command("--confirm", str(empty), exits=2).stderr


def test_a_run_of_several_sweeps_names_them(searched, command, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(searched, tmp_path / "several" / name)
    said = command("--confirm", str(tmp_path / "several"), exits=2).stderr
    assert f"Confirm one of them: {tmp_path}/several/one, {tmp_path}/several/two." in said


def test_a_run_from_elsewhere_needs_trust_to_read_its_files(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "foreign")
    with Ledger(tmp_path / "foreign") as ledger:
        ledger.note(mark="someone else's")
    with pytest.raises(Untrusted, match="Add --trust"):
        ddl.confirm(tmp_path / "foreign", executor="inline", out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_function_is_confirmed_on_fresh_seeds_alone(command, tmp_path):
    Path("train.py").write_text(FUNCTION)
    command("--sweep", "train.py:train", "lr=0.1,0.2", "seeds=2", "metric=val/loss", "wandb.mode=disabled", "--executor", "inline")
    (searched,) = (tmp_path / "runs" / "train").iterdir()
    done = command("--confirm", str(searched), "seeds=2", "--executor", "inline")
    assert "holds no data out for validation, so only the seeds are fresh: the metric is that of the run, val/loss" in done.stdout
    assert "“lr=0.1” on 2 fresh seeds: best validation loss 0.1025" in done.stdout
    (folder,) = (tmp_path / "runs" / "train-confirm").iterdir()
    assert "The task holds no data out" in build_report([folder]).runs[0].confirmation.reading
    Path("train.py").write_text(FUNCTION + "\n# changed\n")
    said = command("--confirm", str(searched), "--executor", "inline", exits=2).stderr
    assert "the code has changed since the run began: train.py" in said


# The sentences


def confirming(
    folder: Path, final: dict[str, float], mode: str = "max", endings: dict | None = None, spread: float = 0.0, **changed
) -> Confirmation:
    """The confirmation of a synthetic run. `spread` is that of the differences between the configurations."""
    confirms = {
        "folder": "runs/augmentation/synthetic", "created": "", "metric": {"name": "val/accuracy", "mode": mode},
        "measure": "best val/accuracy", "configurations": {name: {"0": 0.9, "1": 0.91, "2": 0.92} for name in final},
        "evaluations": dict.fromkeys(final, 12), "winner": "none", "compared": 4, "holdout": 0.1, "test_seen": True,
    } | changed  # fmt: skip

    def tested(configuration: str, seed: int, epoch: int, metrics: dict[str, float]) -> dict[str, float]:
        own = spread * (seed * len(configuration) % 4)
        return metrics | ({"test/accuracy": final[configuration] + 0.001 * (seed * 7 % 5) + own} if epoch == 12 else {})

    sweep = {"name": "augmentation-confirm", "metric": {"name": "test/accuracy", "mode": mode}, "keys": ["task.augmentation"]}
    create(folder, final, seeds=range(3, 9), alter=tested, endings=endings, confirms=confirms, sweep=sweep)
    return build_report([folder]).runs[0].confirmation


@pytest.mark.parametrize(
    ("final", "mode", "said"),
    [
        (
            {"none": 0.9, "light": 0.8},
            "max",
            "Its lead over “light” was not tested on fresh seeds: the difference is the same for every seed",
        ),
        ({"none": 0.9}, "max", ""),
    ],
)
def test_a_lead_that_cannot_be_tested(tmp_path, final, mode, said):
    found = confirming(tmp_path / "run", final, mode)
    assert found.lead.startswith(said)
    assert bool(found.lead) == bool(said)
    assert found.answer.startswith("“none” on 6 fresh seeds: test accuracy 0.9018 ")
    assert "in the search 0.9100, the best of 4 configurations" in found.answer


def test_trials_that_were_lost_are_in_the_headline_of_a_confirmation(tmp_path):
    endings = {("none", seed): ("diverged", "the loss is NaN") for seed in (6, 7, 8)}
    found = confirming(tmp_path / "run", {"none": 0.9, "light": 0.8}, endings=endings, spread=0.001)
    assert found.answer.startswith("“none” on 3 fresh seeds (of 6; 3 diverged): test accuracy ")
    assert "Its mean leaves out the 3 trials that failed or diverged, so it may be too good." in found.answer
    assert "Its lead over “light” holds on the 3 fresh seeds on which both have a value: " in found.answer
    assert '3<span class="status failed"> of 6; 3 diverged</span>' in render_html(build_report([tmp_path / "run"]))


@pytest.mark.parametrize(
    ("status", "said"),
    [("diverged", "“none” has no value: 0 fresh seeds (of 6; 6 diverged)."), ("planned", "“none” has no value on fresh seeds yet.")],
)
def test_a_confirmation_without_values_says_if_any_are_to_come(tmp_path, status, said):
    endings = {("none", seed): (status, "") for seed in range(3, 9)}
    assert confirming(tmp_path / "run", {"none": 0.9, "light": 0.8}, endings=endings).answer == said


def test_many_configurations_are_compared_with_the_best_of_the_search(tmp_path):
    final = {"none": 0.7, **{f"c{i:02}": 0.7 + 0.01 * i for i in range(13)}}
    found = confirming(tmp_path / "run", final, spread=0.001)
    assert found.lead.startswith("Its lead over “c00” ")
    (run,) = build_report([tmp_path / "run"]).runs
    assert {pair.first for pair in run.comparisons[run.primary]} == {"none"}
    assert len(run.comparisons[run.primary]) == 13
    assert run.comparisons_note == "With 14 configurations, each is compared with the best one of the search only."


def test_an_earlier_confirmation_that_cannot_be_read_is_named_and_stops_nothing(searched, command, tmp_path):
    broken = tmp_path / "out" / f"{LedgerReader(searched).run()['sweep']['name']}-confirm" / "2026-01-01-000000" / "ledger.sqlite"
    broken.parent.mkdir(parents=True)
    broken.touch()
    shown = command("--confirm", str(searched), "--plan", "--executor", "inline", "--out", str(tmp_path / "out"))
    assert "an earlier confirmation cannot be read, so its seeds may be used again" in " ".join(shown.stdout.split())


@pytest.fixture
def leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """The sentence for six paired values of the winner and the runner-up."""
    from ddl.reports import confirmations
    from ddl.reports.statistics import compare

    def lead(first: list[float], second: list[float], mode: str) -> str:
        pairs = {"none": dict(enumerate(first)), "light": dict(enumerate(second))}
        found = [
            Confirmed(name, Estimate(1, 0.0), 1, Estimate(len(v), float(np.mean(list(v.values())))), Estimate(1, 0.0), "", 0, 0)
            for name, v in pairs.items()
        ]
        sentences = {confirmations._lead(found, compare(pairs, [pair]), mode) for pair in (("none", "light"), ("light", "none"))}
        (sentence,) = sentences  # whichever of the two the comparison names first
        return sentence

    return lead


LOW, HIGH, NOISE = [0.50, 0.52, 0.51, 0.49, 0.53, 0.50], [0.60, 0.63, 0.60, 0.61, 0.62, 0.61], [0.40, 0.65, 0.58, 0.35, 0.62, 0.50]


@pytest.mark.parametrize(
    ("first", "second", "mode", "said"),
    [
        (HIGH, LOW, "max", "Its lead over “light” holds on fresh seeds: 0.1033 [{:.4f}, {:.4f}], significant."),
        (LOW, HIGH, "min", "Its lead over “light” holds on fresh seeds: 0.1033 [{:.4f}, {:.4f}], significant."),
        (
            LOW,
            HIGH,
            "max",
            "Its lead over “light” does not hold: on fresh seeds “light” is better by 0.1033 [{:.4f}, {:.4f}], significant.",
        ),
        (NOISE, LOW, "max", "Its lead over “light” is not confirmed: 0.0083"),
        (NOISE, LOW, "min", "Its lead over “light” does not hold: on fresh seeds “light” is better by 0.0083"),
        (LOW, LOW, "max", "Its lead over “light” is gone: they are equal on fresh seeds."),
    ],
)
def test_the_sentence_on_the_lead(leads, first, second, mode, said):
    low, high = stats.ttest_rel(HIGH, LOW).confidence_interval()
    assert leads(first, second, mode).startswith(said.format(low, high))


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0, 4.0], [0.5, 0.7]), ([3.0, 3.1], [1.0, 2.0, 9.0, 4.0])])
def test_welchs_interval_is_scipys(x, y):
    found = unpaired_difference(x, y)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert (found.n, found.mean) == (2, pytest.approx(np.mean(x) - np.mean(y)))


def test_without_spread_or_with_one_value_there_is_no_interval():
    assert unpaired_difference([1.0, 1.0], [2.0, 2.0]) == Estimate(2, -1.0)
    assert unpaired_difference([1.0], [2.0, 3.0]) == Estimate(1, -1.5)
    assert unpaired_difference([], [2.0]) == Estimate(0, None)


def test_an_override_of_the_seeds_is_not_replaced_by_the_default(searched, tmp_path):
    run = ddl.confirm(searched, ["lr=0.05"], overrides=["seeds=2"], executor="inline", out=tmp_path)
    assert len(run.trials) == 2


def test_an_unknown_executor_is_refused(searched):
    with pytest.raises(ConfigError, match="executor: 'rai' is unknown"):
        ddl.confirm(searched, executor="rai")
