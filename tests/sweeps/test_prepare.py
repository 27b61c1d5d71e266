"""A run as it is prepared from a sweep: its published values, and the notes that the plan shows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import optimize, stats

from ddl.config import compose_sweep
from ddl.ledger_tables import TrialRow
from ddl.sweeps import prepare
from ddl.sweeps.prepare import PreparedRun, RunOptions
from ddl.sweeps.seeds_note import seeds_note

from ..ledgers import ReportingLedger

REFERENCE = "reference: {{source: a, metric: {metric}, tolerance: 0.1, values: {{{values}}}}}\n"


@pytest.fixture
def prepared(ask, tmp_path: Path) -> Callable[..., tuple[PreparedRun, list[str]]]:
    """Prepares a run of SWEEP and `more` lines, and returns it with the problems."""

    def prepared(more: str, *overrides: str) -> tuple[PreparedRun, list[str]]:
        ask(more)
        problems: list[str] = []
        run = prepare.prepare_run(str(tmp_path / "small.yaml"), RunOptions(overrides, "smoke", "inline", None), problems)
        assert run is not None, problems
        return run, [problem.replace(f"{tmp_path}/", "") for problem in problems]

    return prepared


@pytest.mark.parametrize(
    ("more", "override", "note"),
    [
        ("", (), "seeds: 3 (default)"),
        ("seeds: 2\n", (), "seeds: 2"),
        ("", ("seeds=3",), "seeds: 3"),
        ("seeds: 1\n", (), "seeds: 1; intervals need at least 2, as in seeds=3"),
    ],
)
def test_the_plan_says_how_many_seeds_and_why(prepared, more, override, note) -> None:
    assert prepared(more, *override)[0].notes() == [note]


def test_a_trial_of_one_process_on_several_gpus_is_refused_with_the_way_to_ask_for_it(prepared) -> None:
    _, problems = prepared("", "resources.gpus=2")
    assert problems == [
        "resources.gpus: 2 per worker, but a worker trains on one GPU. For a trial on 2 GPUs, set resources.num_workers=2 and resources.gpus=1."
    ]


@pytest.mark.parametrize("values", ["0.1: 0.5, 1e-3: 0.6", "lr=0.1: 0.5, lr=0.001: 0.6"])
def test_published_values_are_found_by_the_value_of_an_axis_or_by_the_configurations_name(prepared, values) -> None:
    run, problems = prepared("space: {task.lr: [0.1, 1e-3]}\n" + REFERENCE.format(metric="best val/accuracy", values=values))
    assert problems == []
    assert run.about["sweep"]["reference"]["values"] == {"lr=0.1": 0.5, "lr=0.001": 0.6}
    assert {trial.configuration for trial in run.trials} == {"lr=0.1", "lr=0.001"}


def test_a_best_value_that_no_report_has_is_refused(prepared) -> None:
    _, problems = prepared(REFERENCE.format(metric="best val/loss", values="default: 1"))
    assert problems == [
        "small.yaml:6: reference.metric: best val/loss: only the sweep's metric has a best value. Write best val/accuracy or last val/loss."
    ]
    assert prepared(REFERENCE.format(metric="last val/loss", values="default: 1"))[1] == []


def test_published_values_of_another_metric_are_not_compared(prepared) -> None:
    more = REFERENCE.format(metric="best val/accuracy", values="default: 1")
    run, problems = prepared(more, "metric=val/loss", "metric.mode=min")
    assert problems == []
    assert run.about["sweep"]["reference"] is None
    assert "published values: not compared, because they are of val/accuracy and the metric is val/loss" in run.notes()
    assert prepared(more, "metric.mode=min")[0].about["sweep"]["reference"] is not None


AXIS = "space: {task.lr: [0.1, 0.01]}\n"


@pytest.fixture
def earlier(tmp_path: Path) -> Callable[..., Path]:
    """Records a run of the sweep `small` with values of two configurations by seed."""

    def earlier(stamp: str, first: list[float], second: list[float], ends: str = "finished", scale: str = "smoke") -> Path:
        folder = tmp_path / "runs" / "small" / stamp
        folder.mkdir(parents=True)
        values = {(name, seed): each for name, column in (("a", first), ("b", second)) for seed, each in enumerate(column)}
        trials = [TrialRow(f"{name}{seed}", i, name, {}, {}, seed) for i, (name, seed) in enumerate(values)]
        record = {"sweep": {"name": "small", "metric": {"name": "val/accuracy", "mode": "max"}}, "scale": scale}
        with ReportingLedger.create(folder, record, trials) as ledger:
            for (name, seed), value in values.items():
                ledger.started(f"{name}{seed}", 0, "")
                ledger.measured(f"{name}{seed}", 1, 1, 1.0, {"val/accuracy": value}, {})
                ledger.measured(f"{name}{seed}", 2, 2, 2.0, {"val/accuracy": value - 0.5}, {})
                if ends:
                    ledger.ended(f"{name}{seed}", ends)
        return folder

    return earlier


def plan_note(ask, tmp_path: Path, more: str, *overrides: str) -> str:
    ask(more)
    sweep = compose_sweep(str(tmp_path / "small.yaml"), overrides, "smoke", [])
    return seeds_note(sweep, 2, tmp_path / "runs")


def test_the_plan_says_what_the_seeds_can_show_by_the_newest_finished_run(ask, earlier, tmp_path: Path) -> None:
    effect = optimize.brentq(lambda nc: stats.nct.cdf(stats.t.isf(0.025, 2), 2, nc) - 0.2, 0.1, 100) / 3**0.5
    assert (
        plan_note(ask, tmp_path, AXIS)
        == f"seeds: 3 (default); they can show differences of {effect:.1f} standard deviations (of the paired differences) or more"
    )
    earlier("2026-01-01-000000", [0.9, 0.9], [0.1, 0.9])
    newest = earlier("2026-01-02-000000", [0.80, 0.82, 0.81], [0.79, 0.80, 0.82])
    earlier("2026-01-03-000000", [0.9, 0.9], [0.1, 0.8], scale="paper")
    earlier("2026-01-04-000000", [0.9, 0.9], [0.1, 0.8], ends="")
    (tmp_path / "runs/small/2026-01-05-000000").mkdir()
    spread = stats.tstd([0.01, 0.02, -0.01])
    note = f"seeds: 3 (default); by the spread of {newest}, they can show differences in val/accuracy of {effect * spread:.2g} or more"
    assert plan_note(ask, tmp_path, AXIS) == note
    needed = next(n for n in range(2, 99) if stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, 0.03 / spread * n**0.5) >= 0.8)
    assert plan_note(ask, tmp_path, AXIS, "margin=0.03") == f"{note}; 0.03 would take {needed} seeds"


def test_the_note_on_a_race_is_about_its_most_seeds(ask, tmp_path: Path) -> None:
    effect = optimize.brentq(lambda nc: stats.nct.cdf(stats.t.isf(0.025, 9), 9, nc) - 0.2, 0.1, 100) / 10**0.5
    start = "seeds: 3 to 10, until the answer is settled; 10 can show differences of"
    assert plan_note(ask, tmp_path, AXIS, "seeds=10", "until=settled").startswith(f"{start} {effect:.1f} standard deviations")


def test_a_run_of_several_sweeps_is_an_earlier_run_too(ask, earlier, tmp_path: Path) -> None:
    folder = earlier("2026-01-01-000000", [0.80, 0.82], [0.79, 0.80])
    moved = tmp_path / "runs/several/2026-01-01-000000/small"
    moved.parent.mkdir(parents=True)
    folder.rename(moved)
    assert f"by the spread of {moved}," in plan_note(ask, tmp_path, AXIS)


def test_an_earlier_run_that_cannot_be_read_is_passed_over(ask, earlier, tmp_path: Path) -> None:
    readable = earlier("2026-01-01-000000", [0.80, 0.82], [0.79, 0.80])
    damaged = earlier("2026-01-02-000000", [0.80, 0.90], [0.79, 0.80])
    assert f"by the spread of {damaged}," in plan_note(ask, tmp_path, AXIS)
    (damaged / "ledger.sqlite").write_bytes(b"no ledger")
    assert f"by the spread of {readable}," in plan_note(ask, tmp_path, AXIS)
    (readable / "ledger.sqlite").write_bytes(b"no ledger")
    assert "standard deviations" in plan_note(ask, tmp_path, AXIS)
