from pathlib import Path

import pytest

from ddl.ledger_tables import TrialRow
from ddl.tracking.records import LedgerReplay
from tests.tracking.conftest import SAMPLE, create, measure, picture, whole

from ..ledgers import ReportingLedger


def test_what_a_lost_attempt_measured_goes_with_it(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t1")
        ledger.started("t0", 0, "somewhere cpu")
        measure(ledger, "t0", range(4))
        replay = LedgerReplay(folder)
        replay.poll()
        assert list(replay.rows["t0"]) == [0, 10, 20, 30]
        ledger.started("t0", 10, "elsewhere cpu")
        measure(ledger, "t0", [2])
        ledger.ended("t0", "diverged", "train/loss is nan")
        replay.poll()
    assert list(replay.rows["t0"]) == [0, 10, 20]
    assert list(replay.rows["t1"]) == [0, 10, 20]


def test_reading_bit_by_bit_gives_what_reading_at_once_gives(folder: Path) -> None:
    with create(folder) as ledger:
        replay = LedgerReplay(folder)
        for epoch in range(5):
            measure(ledger, "t0", [epoch])
            measure(ledger, "t1", [epoch])
            replay.poll()
    at_once = LedgerReplay(folder)
    at_once.poll()
    assert replay.rows == at_once.rows
    assert replay.read == at_once.read > 0


def test_what_was_read_is_not_read_again(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
        replay = LedgerReplay(folder)
        replay.poll()
        replay.rows["t0"].clear()
        measure(ledger, "t1", [0])
        replay.poll()
    assert {trial_id: list(rows) for trial_id, rows in replay.rows.items()} == {"t0": [], "t1": [0]}


def test_a_run_has_its_own_ids_which_moving_it_does_not_change(folder: Path) -> None:
    for place in (folder, folder.with_name("2026-03-01-093000-2")):  # two of one second
        with create(place) as ledger:
            whole(ledger, "t0")

    def ids(place: Path) -> list[str]:
        replay = LedgerReplay(place)
        replay.poll()
        return [replay.record(trial).run_id for trial in replay.trials]

    before = ids(folder)
    assert len({*before, *ids(place)}) == 4
    folder.rename(folder.with_name("kept"))
    assert ids(folder.with_name("kept")) == before


@pytest.mark.parametrize(
    ("kinds", "ended"),
    [
        ("", False),
        ("started finished", False),
        ("started trained", True),
        ("started interrupted", True),
        ("interrupted", True),  # stopped before the first trial
        ("started interrupted resumed started", False),
        ("started trained resumed started", False),
        ("started interrupted resumed started trained", True),
    ],
)
def test_the_drivers_mark_ends_what_it_was_last_started_for(folder: Path, kinds: str, ended: bool) -> None:
    with create(folder) as ledger:
        for kind in kinds.split():
            ledger.event(kind, "")
    assert LedgerReplay(folder).ended() is ended


def test_the_fingerprint_is_of_all_that_is_published(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")

    def fingerprint() -> str:
        replay = LedgerReplay(folder)
        replay.poll()
        return replay.record(replay.trials[0]).fingerprint()

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    with ReportingLedger(folder) as ledger:
        ledger.measured("t0", 30, 3, 9.0, {"val/loss": 1.0}, {})
        seen.append(fingerprint())
        ledger.measured("t0", 30, 3, 9.0, {}, {"parameters": 12})
        seen.append(fingerprint())
        ledger.ended("t0", "failed", "for a reason")
        seen.append(fingerprint())
    figure = picture(folder, "t0")
    seen.append(fingerprint())
    figure.write_bytes(figure.read_bytes() + b" ")
    seen.append(fingerprint())
    assert len(set(seen)) == 6


def test_names_are_as_long_as_wandb_allows(folder: Path) -> None:
    long = "sample 17, " + ", ".join(f"hyperparameter_{n}=0.0123456789" for n in range(9))
    rows = [TrialRow("t0", 0, long, {}, {}, 7)]
    sweep = {"name": "s" * 200, "task": "t" * 100, "metric": {"name": "val/accuracy", "mode": "max"}, "keys": []}
    folder.mkdir(parents=True)
    with ReportingLedger.create(folder, {"sweep": sweep, "created": "2026-03-01T09:30:00+0000"}, rows) as ledger:
        ledger.started("t0", 0, "", {"data": SAMPLE})
    replay = LedgerReplay(folder)
    replay.poll()
    record = replay.record(replay.trials[0])
    assert (len(record.name), len(record.group), len(record.job_type)) == (128, 128, 64)
    assert record.name.startswith("sample 17, hyperparameter_0=")
    assert record.name.endswith("..., seed 7 [SAMPLE DATA]")
    assert record.config["configuration"] == long
