"""The campaigns on damaged records and bad input: a small part of each here, all of it by `make faults`."""

import pytest

from tests.faults import bad_input, damaged_records


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


@pytest.mark.campaign
@pytest.mark.parametrize("campaign", [damaged_records, bad_input], ids=lambda module: module.__name__.rpartition(".")[2])
def test_campaign(campaign):
    campaign.main()
