"""The campaigns on damaged records, bad input and hostile files: a small part of each here, all of it by `make faults`."""

import pytest

from tests.faults import bad_input, damaged_records, hostile_files


def test_damaged_checkpoints_are_never_used(tmp_path):
    assert damaged_records.damaged_checkpoints(150, 1, tmp_path)["refused"] > 100


def test_damaged_ledgers_are_read_or_refused(tmp_path):
    outcomes = damaged_records.damaged_ledgers(60, 1, tmp_path)
    assert outcomes["refused"] > 10
    assert outcomes["read with other values"] == 0


def test_bad_input_of_the_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bad_input.refuse(bad_input.read_table()[::30], tmp_path) >= 10


def test_any_input_is_taken_or_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sum(bad_input.fuzz(40, 1, tmp_path).values()) == 40


def test_hostile_files_run_no_code_and_show_nothing(tmp_path):
    names = [*list(hostile_files.CASES)[::12], "ledger: HTML in host", "ledger: a metric with a terminal's commands"]
    outcomes = hostile_files.campaign(names, tmp_path)
    assert outcomes["commands that refused it"] > 5
    assert outcomes["commands that read the run without its hostile part"] > 5


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("campaign", [damaged_records, bad_input, hostile_files], ids=lambda module: module.__name__.rpartition(".")[2])
def test_campaign(campaign):
    campaign.main()
