"""Races as a user sees them: a sweep over a function whose best configuration is known."""

import json
import shutil
import signal
from pathlib import Path

import pytest

import ddl
from ddl import launch
from ddl.config import ConfigError
from ddl.ledger_reader import LedgerReader
from ddl.reports import model
from ddl.run_results import Run
from tests.ledgers import edited_ledger

OVERRIDES = ["wandb.mode=disabled", "resources.cpus=1"]
SEEDS = "seeds={at_least:3,at_most:12}"

MEANS = {"good": 0.9, "fair": 0.8, "poor": 0.3}
NOISE = [0.01, -0.06, 0.07, -0.01, 0.04, 0.05, -0.05, 0.02, -0.03, 0.05, -0.02, 0.03]
"""What a seed adds to the value of `fair`, which so is 0.1 behind `good`, with a standard deviation of 0.04."""


def score(kind: str, *, seed: int) -> dict[str, float]:
    """The value of a configuration; that of `poor` depends on the seed in another way."""
    return {"val/accuracy": MEANS[kind] + (NOISE[seed] if kind == "fair" else NOISE[seed] ** 2 if kind == "poor" else 0.0)}


def run_race(tmp_path: Path, function=score, *more: str, kinds=tuple(MEANS)) -> Run:
    return ddl.sweep(
        function,
        {"kind": list(kinds)},
        metric="val/accuracy",
        overrides=[*OVERRIDES, SEEDS, *more],
        executor="inline",
        out=tmp_path / "runs",
    )


def decisions(run: Run) -> dict:
    return LedgerReader(run.folder).run()["race"]


@pytest.fixture(scope="module")
def settled(tmp_path_factory) -> Run:
    return run_race(tmp_path_factory.mktemp("settled"))


def test_seeds_go_only_to_configurations_that_may_still_be_the_best(settled):
    race = decisions(settled)
    assert (race["outcome"], race["left"]) == ("winner", ["good"])
    left_after = {drop["configuration"]: drop["seeds"] for drop in race["drops"]}
    trials = {name: [trial.seed for trial in settled.trials if trial.configuration == name] for name in MEANS}
    assert 3 <= left_after["poor"] < left_after["fair"] < 12
    assert trials["poor"] == list(range(left_after["poor"]))
    assert trials["fair"] == trials["good"] == list(range(left_after["fair"]))
    assert all(trial.status == "finished" for trial in settled.trials)
    assert [trial.position for trial in settled.trials] == list(range(len(settled.trials)))


def test_every_decision_is_an_event_and_the_report_says_how_the_race_ended(settled):
    events = LedgerReader(settled.folder).events()
    lines = list(events[events.kind == "race"].detail)
    assert len(lines) == 3
    assert lines[0].startswith("race: “poor” leaves after")
    assert lines[-1].endswith("“good” is better than every other configuration")
    (headline,) = model.build_report([settled.folder]).headlines()
    assert "The race is settled after" in headline
    assert "“good” is better than every other configuration." in headline
    page = (settled.folder / "report.html").read_text()
    assert "Race over seeds" in page
    assert f"It took {len(settled.trials)} of at most 36 trials" in page
    assert "so these p-values are too small" in page


def score_in_steps(kind: str, *, seed: int):
    """The same value at each of nine measurements."""
    for _ in range(9):
        yield score(kind, seed=seed)


def test_a_trial_that_a_scheduler_stopped_counts_with_its_value(tmp_path, settled):
    run = ddl.sweep(
        score_in_steps,
        {"kind": list(MEANS)},
        metric="val/accuracy",
        measurements=9,
        overrides=[*OVERRIDES, SEEDS, "early_stopping.scheduler=asha"],
        out=tmp_path / "runs",
    )
    statuses = {name: {trial.status for trial in run.trials if trial.configuration == name} for name in MEANS}
    assert statuses["good"] == {"finished"}
    assert "stopped" in statuses["poor"]
    assert decisions(run) == decisions(settled), "the values do not change while a trial is trained"


def test_a_race_without_an_answer_says_so(tmp_path):
    run = run_race(tmp_path, tied, kinds=("one", "two"))
    assert len(run.trials) == 24
    assert decisions(run)["outcome"] == "undecided"
    assert "The race is not settled after 12 seeds" in model.build_report([run.folder]).headlines()[0]


def tied(kind: str, *, seed: int) -> dict[str, float]:
    """Two configurations of the same mean."""
    return {"val/accuracy": NOISE[seed] if kind == "one" else NOISE[-1 - seed]}


def test_configurations_within_the_margin_are_equivalent(tmp_path):
    run = run_race(tmp_path, tied, "margin=0.05", kinds=("one", "two"))
    assert decisions(run)["outcome"] == "equivalent"
    assert len(run.trials) < 24


def test_a_configuration_that_fails_loses(tmp_path):
    def score_or_fail(kind: str, *, seed: int):
        if kind == "poor":
            raise RuntimeError("diverged")
        return score(kind, seed=seed)

    race = decisions(run_race(tmp_path, score_or_fail))
    assert race["drops"][0]["configuration"] == "poor"
    assert race["drops"][0]["difference"] is None
    assert race["left"] == ["good"]


def test_a_resumed_race_takes_the_same_decisions(tmp_path, settled):
    seen = []

    def interrupted(kind: str, *, seed: int):
        seen.append((kind, seed))
        if len(seen) == stop:
            signal.raise_signal(signal.SIGINT)
        return score(kind, seed=seed)

    for stop in (2, 10, 13):
        seen.clear()
        with pytest.raises(Exception) as stopped:  # noqa: PT011
            run_race(tmp_path / str(stop), interrupted)
        resumed = ddl.resume(stopped.value.folder, function=interrupted)
        assert decisions(resumed)["drops"] == decisions(settled)["drops"]
        assert decisions(resumed)["outcome"] == "winner"
        assert {(t.configuration, t.seed) for t in resumed.trials} == {(t.configuration, t.seed) for t in settled.trials}


def test_a_race_is_resumed_although_a_configuration_that_left_it_has_a_failed_trial(tmp_path):
    seen = []

    def interrupted(kind: str, *, seed: int):
        seen.append((kind, seed))
        if len(seen) == 16:
            signal.raise_signal(signal.SIGINT)
        if (kind, seed) == ("poor", 1):
            raise RuntimeError("lost")
        return score(kind, seed=seed)

    with pytest.raises(Exception) as stopped:  # noqa: PT011
        run_race(tmp_path, interrupted)
    before = decisions(Run(stopped.value.folder))
    assert [drop["configuration"] for drop in before["drops"]] == ["poor"]
    resumed = ddl.resume(stopped.value.folder, function=interrupted)
    after = decisions(resumed)
    assert (after["drops"][0], after["outcome"]) == (before["drops"][0], "winner")


def test_a_decision_that_was_not_recorded_is_taken_by_the_resume(tmp_path, settled):
    folder = tmp_path / "run"
    shutil.copytree(settled.folder, folder)
    before = decisions(settled)
    with edited_ledger(folder) as db:
        early = before | {"drops": before["drops"][:1], "left": ["good", "fair"], "outcome": "", "seeds": before["drops"][0]["seeds"]}
        db.execute("UPDATE run SET value = ? WHERE key = 'race'", (json.dumps(early),))
    resumed = ddl.resume(folder, function=score, trust=True)
    assert decisions(resumed) == before
    assert len(resumed.trials) == len(settled.trials)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds={at_least:1,at_most:5}", "a race compares spreads, so it needs at least 2 seeds"),
        ("seeds={at_least:6,at_most:5}", "at_most"),
        ("search.algorithm=pbt", "chooses them from results"),
        ("until=all", "until: all gives every configuration all seeds, and a range is a race. Set a number, as in seeds=10."),
    ],
)
def test_mistakes_are_named(tmp_path, override, message):
    with pytest.raises(ConfigError) as error:
        run_race(tmp_path, score, "until=settled", override)
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_one_configuration_cannot_race(tmp_path):
    with pytest.raises(ConfigError, match="compares configurations, but this sweep has one"):
        run_race(tmp_path, kinds=("good",))


def test_a_number_of_seeds_and_until_settled_is_a_race(tmp_path, capfd):
    code = launch.main(["--sweep", "regularisation", "--scale", "smoke", "seeds=8", "until=settled", "--plan", "--executor", "inline"])
    output = capfd.readouterr().out
    assert code == 0
    assert "seeds: 3 to 8, until the answer is settled" in output
    assert "trials follow, until the answer is settled" in output


def test_several_sweeps_do_not_race(tmp_path):
    with pytest.raises(ConfigError, match="one sweep"):
        ddl.run_sweep("regularisation,augmentation", ["until=settled"], scale="smoke", executor="inline", out=tmp_path)
