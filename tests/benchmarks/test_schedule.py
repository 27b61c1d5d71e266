"""The benchmark of the schedule: device use and speedup are computed correctly from the times of trials."""

import dataclasses

import pytest

from benchmarks import schedule
from ddl.ledger_tables import TrialRow


def rows(*spans: tuple[float, float]) -> list[TrialRow]:
    """Finished trials that ran in these spans of time."""
    empty = dict.fromkeys([field.name for field in dataclasses.fields(TrialRow)])
    times = [{"trial_id": str(number), "started_at": begin, "ended_at": end} for number, (begin, end) in enumerate(spans)]
    return [TrialRow(**empty | {"status": "finished", "attempts": 1} | each) for each in times]


def test_two_devices_are_busy_as_long_as_trials_run_on_them():
    used = schedule.utilisation(rows((100, 110), (100, 110), (112, 122)), [10.0] * 3, 2)
    assert (used.took_s, used.ideal_s, used.concurrent) == (22, 20, 2)
    assert used.busy == pytest.approx(30 / 44)
    assert used.ideal_busy == pytest.approx(30 / 40)


def test_the_speedup_is_the_median_of_the_rounds_and_next_to_that_of_the_ideal_schedule(capsys):
    def used(lengths: list[float], devices: int, slower: float) -> schedule.Utilisation:
        ideal_s = schedule.makespan(lengths, devices)
        return schedule.Utilisation(ideal_s * slower, ideal_s, 0.5 / slower, 0.5, devices)

    nine = [10.0] * 9
    schedule.print_speedup([(used(nine, 1, 1.0), used(nine, 2, slower)) for slower in (1.0, 1.2, 1.25)])
    assert capsys.readouterr().out == (
        "speedup of two devices: 1.500 (1.440 to 1.800), ideal schedule 1.800; "
        "busy / ideal on two devices: 83.3% (80.0% to 100.0%); n = 3\n"
    )


def test_a_trial_that_started_twice_is_refused():
    twice = [dataclasses.replace(row, attempts=2) for row in rows((0, 1))]
    with pytest.raises(ValueError, match="trial 0 is finished after 2 attempts"):
        schedule.utilisation(twice, [1.0], 1)
