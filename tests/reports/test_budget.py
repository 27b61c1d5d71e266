"""The budget of each configuration, and the note on budgets that differ."""

import pytest

from ddl.ledger_reader import LedgerReader
from ddl.reports import model
from ddl.reports.sections.budget import budget_table

from ..ledgers import edited_ledger
from .synthetic import create_agents


def row(table, name: str) -> dict:
    return dict(zip(table.columns, dict(table.rows)[name], strict=True))


def test_budgets_are_sums_over_all_trials_of_a_configuration(make_run):
    def energy(configuration, seed, epoch, metrics):
        return metrics | ({"device/energy_wh": 0.5 * epoch} if configuration == "none" or seed else {})

    endings = {("light", 0): ("stopped", "by the scheduler"), ("light", 1): ("diverged", "")}
    run = model.build_report([make_run({"none": 0.8, "light": 0.7}, epochs=4, endings=endings, alter=energy)]).runs[0]
    table = budget_table(run)
    assert table.columns == ("trials", "epochs", "steps", "training time", "energy (Wh)", "stopped early")
    assert row(table, "none") == {
        "trials": 3, "epochs": 12, "steps": 12 * 98, "training time": pytest.approx(12 * 5.2), "energy (Wh)": 6.0, "stopped early": 0,
    }  # fmt: skip
    light = row(table, "light")
    assert (light["epochs"], light["training time"], light["stopped early"]) == (2 + 2 + 4, pytest.approx(8 * 5.2), 1)
    assert light["energy (Wh)"] is None, "a sum over some of the trials would look cheap"
    assert table.note.startswith(
        "Unequal budgets, more than 10% apart: epochs from 8 (light) to 12 (none); steps from 784 (light) to 1,176"
    )
    assert "trials from" not in table.note


def test_a_stacked_trial_has_its_part_of_the_stacks_time(make_run):
    folder = make_run({"stacked": 0.8, "alone": 0.7}, seeds=range(4), epochs=4)
    with edited_ledger(folder) as db:
        db.execute("UPDATE trials SET metadata = json_set(metadata, '$.stacked', 4) WHERE configuration = 'stacked'")
    table = budget_table(model.build_report([folder]).runs[0])
    assert row(table, "stacked")["training time"] == pytest.approx(4 * 5.2)
    assert row(table, "alone")["training time"] == pytest.approx(4 * 4 * 5.2)
    assert table.note == "Unequal budgets, more than 10% apart: training time from 21 s (stacked) to 1 min 23 s (alone)."


def test_equal_budgets_have_no_note_and_a_running_sweep_has_none_yet(make_run):
    assert budget_table(model.build_report([make_run({"a": 0.8, "b": 0.7}, epochs=2)]).runs[0]).note == ""
    running = make_run({"a": 0.8, "b": 0.7}, epochs=4, endings={("a", 0): ("running", "")})
    assert budget_table(model.build_report([running]).runs[0]).note == ""


def test_agents_are_counted_in_env_steps(tmp_path):
    folder = create_agents(tmp_path / "agents")
    metrics = LedgerReader(folder).metrics()
    taken = metrics[(metrics["name"] == "train/env_steps") & metrics["trial_id"].str.startswith("slow")].groupby("trial_id")["value"].max()
    table = budget_table(model.build_report([folder]).runs[0])
    assert row(table, "slow")["env steps"] == taken.sum()
    assert not {"steps", "epochs", "energy (Wh)"} & set(table.columns)


def test_one_configuration_has_nothing_to_compare(make_run):
    assert budget_table(model.build_report([make_run({"a": 0.8}, epochs=2)]).runs[0]) is None
