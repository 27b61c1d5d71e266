"""A trial's first steps, again from its record."""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ddl import provenance, yamlfile
from ddl.launch import main
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.progress import Progress
from ddl.reproduce import reproduce
from ddl.sweeps.assignment import Assignment, device_of
from ddl.sweeps.first_steps import METADATA_KEY, STEPS, FirstSteps, state_digest
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.worker import run_trial
from ddl.tasks.cartpole_table import CartPoleTable
from ddl.tasks.classification import Classification
from tests.ledgers import edited_ledger

from .ledgers import ReportingLedger

TINY = {
    "seed": 3, "content": "sample", "train_limit": 96, "val_limit": 16, "widths": [4, 6], "convolutions": 1, "dense": 8, "dropout": 0.1,
    "optimiser": "sgd", "lr": 0.05, "batch_size": 4, "schedule": "constant", "precision": "auto",
}  # fmt: skip


def hyperparameters(task: str, **changed: Any) -> dict[str, Any]:
    values = yaml.safe_load((yamlfile.FOLDER / "task" / f"{task}.yaml").read_text())
    del values["class"]
    return values | changed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four trials of 24, 3, 24 and 24 steps: the second ends, diverged, within its first steps, the third is under way, the last planned."""
    folder = tmp_path_factory.mktemp("augmentation") / "2026-03-01-093000"
    folder.mkdir()
    tasks = {
        "aaaa00000001": Classification(**hyperparameters("classification", **TINY, epochs=1)),
        "aaaa00000002": Classification(**hyperparameters("classification", **TINY | {"lr": 1e18, "train_limit": 12}, epochs=2)),
        "bbbb00000003": Classification(**hyperparameters("classification", **TINY | {"augmentation": "light"}, epochs=1)),
        "cccc00000004": Classification(**hyperparameters("classification", **TINY | {"augmentation": "light", "seed": 4}, epochs=1)),
    }
    about = {
        "sweep": {"name": "augmentation", "metric": {"name": "val/accuracy", "mode": "max"}}, "versions": provenance.versions(),
        "task_class": "ddl.tasks.classification.Classification", "host": provenance.host(), "created": "2026-03-01T09:30:00+0000",
        "plan": {"num_workers": 1, "cpus_per_trial": 1, "gpus_per_trial": 0.0, "precision": "fp32"},
    }  # fmt: skip
    rows = [TrialRow(name, n, f"point {n}", {}, asdict(task), task.seed) for n, (name, task) in enumerate(tasks.items())]
    with ReportingLedger.create(folder, about | provenance.code(), rows) as ledger, InlineExecutor():
        for trial_id in list(tasks)[:3]:
            task = replace(tasks[trial_id], precision="fp32")
            assignment = Assignment(trial_id, task, 1, 1, 0.0, folder / "trials" / trial_id, 1e9, 1, "ddp")
            for report in run_trial(assignment, device_of(assignment)):
                if report.kind == "started":
                    ledger.started(trial_id, report.step, report.place)
                elif report.kind == "measured":
                    ledger.measured(trial_id, report.step, report.epoch, report.elapsed_s, report.metrics, report.metadata)
                elif report.kind == "ended":
                    ledger.ended(trial_id, report.status, report.reason)
                if trial_id == "bbbb00000003" and report.step >= STEPS:
                    break
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / run.name))


def alter(folder: Path, statement: str, *values: Any) -> None:
    with edited_ledger(folder) as db:
        db.execute(statement, values)


def note(folder: Path, **values: Any) -> None:
    with ReportingLedger(folder) as ledger:
        ledger.note(**values)


def content(folder: Path) -> Mapping[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("trial_id", ["aaaa00000001", "bbbb00000003"])  # finished; under way
def test_a_trial_agrees_with_its_record_and_leaves_the_run_as_it_was(run: Path, trial_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run)
    assert main(["--reproduce", f"{run}/trials/{trial_id}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "the first 20 steps agree bit for bit"
    assert not [line for line in said if line.startswith("different")]
    assert content(run) == before


def test_a_trial_that_ended_within_its_first_steps_agrees_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(LedgerReader(run), "aaaa00000002")
    assert capsys.readouterr().out.splitlines()[-1] == "the first 2 steps agree bit for bit"


def test_fewer_steps_when_asked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reproduce", f"{run}/trials/aaaa00000001", "--steps", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the first 3 steps agree bit for bit"
    assert main(["--reproduce", f"{run}/trials/aaaa00000001", "--steps", "21"]) == 2
    assert capsys.readouterr().err == "--steps 21: the record of this trial has 20 steps. Ask for 1 to 20.\n"


def test_another_learning_rate_shows_after_the_first_update(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(copy, "UPDATE trials SET task = json_set(task, '$.lr', 0.06) WHERE trial_id = 'aaaa00000001'")
    assert main(["--reproduce", f"{copy}/trials/aaaa00000001"]) == 1
    *_, verdict, reason = capsys.readouterr().out.splitlines()
    assert verdict.startswith("they differ from step 2 on: loss 2.")
    assert reason == "nothing in the record differs that would explain it"


def test_another_state_after_the_same_losses_shows(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(copy, "UPDATE trials SET metadata = json_set(metadata, '$.first_steps.state', 'feed')")
    assert main(["--reproduce", f"{copy}/trials/aaaa00000001"]) == 1
    assert (
        "they differ: the losses are the same, but the weights or the optimiser's state are different after 20 steps"
        in capsys.readouterr().out
    )
    assert main(["--reproduce", f"{copy}/trials/aaaa00000001", "--steps", "19"]) == 0


def test_what_is_different_now_is_named_before_it_starts(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note(copy, commit="0123456789abcdef", diff="- a line", versions=provenance.versions() | {"torch": "1.2.3"})
    note(copy, host=provenance.host() | {"cpu": "Another CPU"})
    alter(copy, "UPDATE trials SET metadata = json_set(metadata, '$.data.sha256', 'feed', '$.first_steps.threads', 7)")
    assert reproduce(LedgerReader(copy), "aaaa00000001")  # here it makes no difference to the bits
    said = capsys.readouterr().out.splitlines()
    started = next(n for n, line in enumerate(said) if line == "training 20 steps on cpu, threads: 1")
    named = [line.removeprefix("different: ") for line in said[:started] if line.startswith("different: ")]
    sha256 = json.loads(_facts(copy, "aaaa00000001"))["data"]
    assert sha256["sha256"] == "feed"
    assert [line.partition(":")[0] for line in named] == [
        "commit", "the uncommitted changes to the code differ (the recorded ones are in the ledger)", "threads", "torch", "cpu", "data, sha256",
    ]  # fmt: skip
    assert named[0].startswith("commit: 0123456789abcdef then, ")
    assert named[2:4] == ["threads: 7 then, 1 now", f"torch: 1.2.3 then, {provenance.versions()['torch']} now"]
    assert named[5].startswith("data, sha256: feed then, ")


def test_the_threads_are_those_of_the_plan(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note(copy, plan={"num_workers": 1, "cpus_per_trial": 2, "gpus_per_trial": 0.0, "precision": "fp32"})
    reproduce(LedgerReader(copy), "aaaa00000001")
    said = capsys.readouterr().out.splitlines()
    assert "different: threads: 1 then, 2 now" in said
    assert "training 20 steps on cpu, threads: 2" in said


def test_the_commit_is_that_of_the_resume_it_began_under(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ReportingLedger(copy) as ledger:
        ledger.event("resumed", "commit feedbeef")
        ledger.started("aaaa00000001", 0, "host cpu")
        ledger.event("resumed", "commit later")
        ledger.started("aaaa00000001", 7, "host cpu")
    reproduce(LedgerReader(copy), "aaaa00000001")
    assert "different: commit: feedbeef then, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("trials/aaaa00000011", "has no trial 'aaaa00000011'. Did you mean aaaa00000001?"),
        ("trials/zzz", "has no trial 'zzz'. Known names: aaaa00000001, aaaa00000002, bbbb00000003, cccc00000004."),
        ("trials/cccc00000004", "its record has no first steps to compare with (it is planned). Take another trial."),
        ("", "name a trial as RUN/trials/TRIAL_ID"),
        ("elsewhere/trials/x", "not a run folder, it has no ledger.sqlite"),
    ],
)
def test_what_cannot_be_reproduced_is_refused_in_a_line(run: Path, path: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reproduce", str(run / path)]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert len(output.err.splitlines()) == 1
    assert output.out == ""


def test_what_this_code_or_process_cannot_train_is_refused(copy: Path) -> None:
    alter(copy, "UPDATE trials SET task = json_set(task, '$.unheard_of', 1)")
    with pytest.raises(ValueError, match=r"its task ddl\.tasks\.classification\.Classification cannot be built by this code.*unheard_of"):
        reproduce(LedgerReader(copy), "aaaa00000001")
    note(copy, plan={"num_workers": 2})
    with pytest.raises(ValueError, match="2 workers trained it together"):
        reproduce(LedgerReader(copy), "aaaa00000001")


def test_a_task_without_losses_is_known_by_its_state() -> None:
    """And by no clock: RL's state holds seconds."""
    names = CartPoleTable.__dataclass_fields__
    values = {key: value for key, value in hyperparameters("cartpole_table", seed=1).items() if key in names}
    task = CartPoleTable(**values | {"env_steps": 400, "envs": 2, "evaluate_every": 400, "evaluation_episodes": 2})
    device = device_of(Assignment("t", task, 1, 1, 0.0, Path("none"), 1e9, 1, "ddp"))

    def state(seed: int) -> dict[str, Any]:
        first = FirstSteps(5)
        for progress in replace(task, seed=seed).run(device):
            if found := first.take(replace(progress, loss=None)):
                return found[METADATA_KEY]
        raise AssertionError("it ended early")

    assert state(1) == state(1)
    assert state(1)["state"] != state(2)["state"]
    assert state(1)["losses"] == [None] * 5


def test_a_digest_is_of_every_bit_type_and_shape() -> None:
    states: list[dict[str, Any]] = [
        {"a": torch.zeros(2), "b": [torch.ones(1)]},
        {"a": torch.tensor([0.0, -0.0]), "b": [torch.ones(1)]},
        {"a": torch.zeros(2, 1), "b": [torch.ones(1)]},
        {"a": torch.zeros(2, dtype=torch.bfloat16), "b": [torch.ones(1)]},
        {"a": torch.zeros(2), "c": [torch.ones(1)]},
        {"a": torch.tensor(0), "b": [torch.ones(1)]},
    ]
    assert len({state_digest(state) for state in states}) == len(states)
    assert state_digest({"clock": 1.5, "b": [torch.ones(1)], "a": torch.zeros(4)[::2]}) == state_digest(states[0])


def test_after_its_first_steps_nothing_waits_for_the_device() -> None:
    class Loss:
        def item(self) -> float:
            raise AssertionError("it waited")

    first = FirstSteps(1)
    assert first.take(Progress(1, 100, dict, loss=torch.tensor(1.5)))[METADATA_KEY]["losses"] == ["0x1.8000000000000p+0"]
    assert first.take(Progress(2, 100, dict, loss=Loss())) == {}  # type: ignore[arg-type]


def _facts(folder: Path, trial_id: str) -> str:
    db = sqlite3.connect(folder / "ledger.sqlite")
    (metadata,) = db.execute("SELECT metadata FROM trials WHERE trial_id = ?", (trial_id,)).fetchone()
    db.close()
    return str(metadata)


@pytest.mark.parametrize(
    ("factor", "exits", "said"), [(1 + 5e-5, 0, "the first 20 steps agree up to rounding"), (1.001, 1, "they differ from step 2 on")]
)
def test_a_trial_that_was_trained_as_one_model_with_others_may_differ_by_rounding(
    copy: Path, factor: float, exits: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {trial.trial_id: trial for trial in LedgerReader(copy).trials()}["aaaa00000001"].metadata or {}
    losses = record["first_steps"]["losses"]
    losses[1] = (float.fromhex(losses[1]) * factor).hex()
    stacked = record["first_steps"] | {"losses": losses, "stacked": 4, "state": "another"}
    alter(copy, "UPDATE trials SET metadata = ? WHERE trial_id = 'aaaa00000001'", json.dumps(record | {"first_steps": stacked}))
    assert main(["--reproduce", f"{copy}/trials/aaaa00000001"]) == exits
    assert said in capsys.readouterr().out
