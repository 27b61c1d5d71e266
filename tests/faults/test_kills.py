"""The campaigns on killed processes and on launches at the same moment, and the soak: a small part of each.

`make faults` runs both campaigns in full. The soak has its own command: `python -m tests.faults.soak`.
"""

import os
from pathlib import Path

import pytest

from tests.faults import kills, launches, soak


def test_launches_at_the_same_moment_train_no_trial_twice(tmp_path):
    assert sum(launches.race(3, tmp_path).values()) == 6


def test_a_sweep_with_a_killed_process_ends_like_an_undisturbed_one(tmp_path):
    done = kills.campaign(1, 1, tmp_path, ["asha"])
    assert done["runs of asha"] == 1


def test_what_grows_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(soak.MARK, str(tmp_path))
    opened = []

    def train(options):
        path = tmp_path / str(len(opened))
        path.write_bytes(bytes(1000))
        opened.append(os.open(path, os.O_RDONLY))

    rounds = iter([False] * 8 + [True])
    sweeps, samples = soak.soak(lambda: next(rounds), tmp_path, train)
    for number in opened:
        os.close(number)
    verdicts = {what: soak.verdict(what, values) for what, values in samples.items()}
    assert sweeps == 24
    assert samples["MB of temporary files"] == [pytest.approx(0.003 * round_) for round_ in range(1, 9)]
    assert verdicts["MB of temporary files"].endswith("GROWING")
    assert verdicts["file descriptors"].endswith("GROWING")
    assert verdicts["threads"].endswith("flat")
    assert verdicts["other processes"].endswith("flat")


@pytest.mark.campaign
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("campaign", [launches, kills], ids=lambda module: Path(module.__file__).stem)
def test_campaign(campaign):
    campaign.main()
