"""The engine under real processes and real signals."""

import os
import re
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from ddl import config, yamlfile
from ddl.ledger_reader import LedgerReader
from tests.ledgers import edited_ledger
from tests.waiting import wait_until

from .command import PLUGIN, ROOT, Command, communicate, launch, run_folder, settled, start

MISCHIEF = str(PLUGIN / "mischief.yaml")
SMALL = ("task.widths=[8]", "task.convolutions=1", "task.dense=16", "task.train_limit=256", "wandb.mode=disabled")
QUICK = ("--scale", "smoke", "seeds=2", "stack=off", *SMALL)
CLASSIFICATION = ("augmentation", "learning_rate", "regularisation")
FP32 = ("classification", "colouring", "denoising", "generation", "representation", "strong_baseline", "transfer")
"""Tasks with a hyperparameter `precision`."""

SMALLER = dict.fromkeys(CLASSIFICATION, ("task.widths=[8,16,32]", "task.dense=32")) | {
    "cartpole_rllib": ("configurations='ours, Q-learning','ours, SARSA'",),
    "generation": ("task.generated=16", "task.train_limit=64"),
    "text_generation": ("task.limit=20000", "task.references=2"),
}
"""Overrides that make a sweep smaller still. `tests/rl/test_tasks.py` trains RLlib's algorithms."""

AT_SMOKE_SCALE = [
    *((sweep, SMALLER.get(sweep, ())) for sweep in yamlfile.config_names("sweep")),
    *(pytest.param(sweep, (), marks=pytest.mark.campaign) for sweep in SMALLER),
]


def processes_of(session: int) -> list[psutil.Process]:
    """Living processes of a command, including those of Ray, which leave its session."""
    found = []
    for process in psutil.process_iter(["environ", "status"]):
        environment = process.info["environ"] or {}
        if environment.get("DDL_TEST_SESSION") == str(session) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.filterwarnings("default")  # as in the command's own process
@pytest.mark.parametrize(("sweep", "smaller"), AT_SMOKE_SCALE)
def test_every_sweep_runs_at_smoke_scale_and_ends_in_a_report(
    sweep: str, smaller: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    # In this process and without W&B: other tests cover both, and starting them would take most of the time. With one thread, because
    # the threads of tests that run at the same time wait for each other. One sweep chooses its precision and times inference.
    quick = ("--executor", "inline", "seeds=1", "resources.cpus=1", "wandb.mode=disabled", *smaller)
    task = config.compose_sweep(sweep, [], "smoke", []).file.task
    if sweep != "augmentation":
        quick += ("latency=none", *(["task.precision=fp32"] if task in FP32 else []))
    done = command("--sweep", sweep, "--scale", "smoke", *quick)
    folder = run_folder(done.stdout, tmp_path)
    files = {"ledger.sqlite", "results.csv", "results.parquet", "report.html", "launch.log", "trials"}
    assert {path.name for path in folder.iterdir()} >= files
    statuses = set(settled(folder)["status"])
    assert statuses <= {"finished", "diverged"}
    assert "finished" in statuses
    *_, answer, to_confirm, report = done.stdout.strip().splitlines()
    assert answer.startswith("“")
    assert to_confirm.startswith("to confirm the best two on fresh seeds: ")
    assert report.startswith("report: ")
    assert " leads on " in answer
    assert answer.partition(" Data: ")[0] in (folder / "report.html").read_text(encoding="utf-8")
    said = " ".join(done.stdout.split())
    data = [(trial.metadata or {}).get("data") for trial in LedgerReader(folder).trials()]
    if any(one and not one["complete"] for one in data):
        assert "ONLY A SAMPLE" in said or "A FALLBACK, NOT" in said


EXECUTORS = pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.campaign)])


@EXECUTORS
def test_a_metric_that_no_trial_reports_ends_the_sweep_at_the_first_evaluation(executor: str, command: Command, tmp_path: Path) -> None:
    wrong = ("metric=val/acuracy", "metric.mode=max", "task.epochs=300", "task.augmentation=none,light", "task.precision=fp32")
    arguments = ("--sweep", "augmentation", *QUICK, *wrong, "--executor", executor)
    done = command(*arguments, exits=2) if executor == "inline" else launch(*arguments, cwd=tmp_path, exits=2)
    problem, outcome = done.stderr.splitlines()
    assert problem.startswith("metric.name: no trial reports val/acuracy. Did you mean val/accuracy? Trials report: train/loss, ")
    assert outcome == "The sweep was stopped."
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_a_task_could_report_later_is_missed_at_the_end_of_a_trial(command: Command, tmp_path: Path) -> None:
    arguments = (
        "--scale",
        "smoke",
        "--executor",
        "inline",
        f"task.marks={tmp_path}",
        "task.deed=none",
        "metric=val/totl",
        "metric.mode=max",
    )
    done = command("--sweep", MISCHIEF, *arguments, "seeds=3", exits=2)
    assert done.stderr.splitlines() == [
        "metric.name: no trial reports val/totl. Did you mean val/total? Trials report: val/total.",
        "The sweep was stopped.",
    ]
    (folder,) = tmp_path.glob("runs/mischief/*")
    assert [trial.status for trial in LedgerReader(folder).trials()] == ["finished", "planned", "planned"]
    assert (folder / "report.html").is_file(), "what a trial measured until its end is kept"


@EXECUTORS
def test_first_steps_that_fail_alike_in_every_configuration_end_the_command(executor: str, command: Command, tmp_path: Path) -> None:
    arguments = (
        "--sweep",
        MISCHIEF,
        "--scale",
        "smoke",
        f"task.marks={tmp_path}",
        "task.deed=raise",
        "task.steps=5,6",
        "--out",
        "new/runs",
        "--executor",
        executor,
    )
    done = command(*arguments, exits=2) if executor == "inline" else launch(*arguments, cwd=tmp_path, exits=2)
    assert '    raise RuntimeError("meant to fail")\n' in done.stderr, "its traceback"
    assert done.stderr.splitlines()[-2:] == [
        "The first steps of every configuration that was timed (deed=raise, steps=5; deed=raise, steps=6) fail: RuntimeError: meant to fail.",
        "Nothing was started.",
    ]
    assert not (tmp_path / "new").exists(), "no folder is left of it"


def test_a_killed_driver_loses_nothing_and_resumes_to_the_same_numbers(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = (
        "task.epochs=4",
        "task.augmentation=none,light",
        "latency=none",
        "task.precision=fp32",
        "resources.cpus=1",
        "checkpoint_every_s=0.1",
    )
    arguments = ("--sweep", "augmentation", *QUICK, *longer)
    undisturbed = command(*arguments, "--executor", "inline")
    monkeypatch.setenv("DDL_TEST_SESSION", session := str(time.time_ns()))
    killed = start(*arguments, "--out", "killed", cwd=tmp_path)
    ledgers = lambda: list(tmp_path.glob("killed/augmentation/*/ledger.sqlite"))  # noqa: E731
    ended = lambda: ledgers() and sum(t.status == "finished" for t in LedgerReader(ledgers()[0].parent).trials()) >= 1  # noqa: E731
    wait_until(ended, "a trial finished")

    os.kill(killed.pid, signal.SIGKILL)
    output, _ = killed.communicate()

    before = {t.trial_id: t for t in LedgerReader(ledgers()[0].parent).trials()}
    assert any(t.status != "finished" for t in before.values()), "it was killed before the end"
    wait_until(lambda: not processes_of(session), "no process is left of a killed driver")
    resume = re.search(r"launch\.py (--resume \S+)", " ".join(output.split()))
    assert resume, output
    resumed = command(*resume[1].split(), "--executor", "inline")
    folder = run_folder(resumed.stdout, tmp_path)
    after = {t.trial_id: t for t in LedgerReader(folder).trials()}
    for trial_id, trial in before.items():
        if trial.status == "finished":
            assert after[trial_id].attempts == trial.attempts, "a finished trial is not run again"
    pd.testing.assert_frame_equal(settled(folder), settled(run_folder(undisturbed.stdout, tmp_path)), check_exact=True)
    per_epoch = LedgerReader(folder).metrics().query("name == 'val/accuracy'").groupby("trial_id")["step"]
    assert (per_epoch.nunique() == per_epoch.size()).all(), "no measurement stands twice"


def test_a_preempted_process_loses_no_retry_and_an_interrupted_sweep_no_step_and_leaves_no_process(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDL_TEST_SESSION", session := str(time.time_ns()))
    settings = ("seeds=3", "task.steps=40", "task.pause_s=0.1", "retries=0", "checkpoint_every_s=1000.0", "resources.cpus=1")
    process = start("--sweep", MISCHIEF, "--scale", "smoke", "task.deed=none", f"task.marks={tmp_path}", *settings, cwd=tmp_path)
    ledgers = lambda: list(tmp_path.glob("runs/mischief/*/ledger.sqlite"))  # noqa: E731
    attempts = lambda seed: sorted(tmp_path.glob(f"none-{seed}-*"), key=lambda path: path.stat().st_mtime_ns)  # noqa: E731
    measured = lambda seed: LedgerReader(ledgers()[0].parent).metrics().query(f"trial_id == '{trial_of(seed)}'")  # noqa: E731
    trial_of = lambda seed: next(t.trial_id for t in LedgerReader(ledgers()[0].parent).trials() if t.seed == seed)  # noqa: E731
    wait_until(lambda: bool(ledgers()) and len(measured(0)) >= 6, "some steps measured")
    os.kill(int(attempts(0)[-1].name.split("-")[2]), signal.SIGTERM)
    wait_until(lambda: int(attempts(0)[-1].name.rpartition("-")[2]) >= 6, "it continues from the step of the preemption")

    os.killpg(process.pid, signal.SIGTERM)  # as a batch scheduler does: the whole group
    output, errors = communicate(process, exits=130)

    assert f"interrupted; resume with: python {ROOT}/launch.py --resume " in errors
    assert "Traceback" not in output + errors
    wait_until(lambda: not processes_of(session), "no process is left")
    resumed = command(*errors.strip().rpartition("launch.py ")[2].split(), "--executor", "inline")
    folder = run_folder(resumed.stdout, tmp_path)
    results, metrics = settled(folder), LedgerReader(folder).metrics().query("name == 'val/total'")
    assert set(results["status"]) == {"finished"}
    assert set(results["val/total"]) == {sum(range(40))}
    assert metrics.groupby("trial_id").step.apply(list).tolist() == [list(range(1, 41))] * 3, "no step twice"


def test_a_trial_resumed_at_its_very_end_is_announced_with_its_metric(command: Command, tmp_path: Path) -> None:
    quick = ("--executor", "inline", "task.deed=none", f"task.marks={tmp_path}")
    done = command("--sweep", MISCHIEF, "--scale", "smoke", *quick)
    folder = run_folder(done.stdout, tmp_path)
    with edited_ledger(folder) as ledger:
        # As it stands when the driver is killed between the last checkpoint and the end.
        ledger.execute("UPDATE trials SET status = 'running'")

    resumed = command("--resume", str(folder))
    (announced,) = re.findall(r"none seed 0 finished, last val/total (\S+) after", " ".join(resumed.stdout.split()))
    assert float(announced) == settled(folder)["val/total"].item()


@pytest.mark.campaign  # tests/test_function_sweep.py interrupts and resumes one in one process
def test_a_search_samples_while_the_sweep_runs_and_a_resume_samples_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDL_TEST_SESSION", session := str(time.time_ns()))
    steps = ("task.steps=10", "task.pause_s=0.1")
    process = start("--sweep", str(PLUGIN / "search.yaml"), "--scale", "smoke", *steps, cwd=tmp_path)
    folder = lambda: next(iter(tmp_path.glob("runs/search/*/ledger.sqlite")), tmp_path).parent  # noqa: E731
    wait_until(lambda: (folder() / "ledger.sqlite").is_file() and len(LedgerReader(folder()).trials()) >= 4, "four sampled")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    output, errors = communicate(process, exits=130)
    assert "Traceback" not in output + errors
    wait_until(lambda: not processes_of(session), "no process is left")
    assert "8 trials will be sampled during the sweep" in " ".join(output.split())
    before = LedgerReader(folder()).trials()
    assert len(before) < 8

    launch(*errors.strip().rpartition("launch.py ")[2].split(), cwd=tmp_path)
    after = LedgerReader(folder()).trials()
    assert [trial.trial_id for trial in after][: len(before)] == [trial.trial_id for trial in before]
    assert len({trial.task["speed"] for trial in after}) == 8
    assert {trial.status for trial in after} == {"finished"}
    assert {trial.attempts for trial in after} <= {1, 2}, "what had finished is not run again"
    assert list(settled(folder())["task.speed"]) == [trial.task["speed"] for trial in after]


def test_several_sweeps_are_one_queue_a_trial_of_two_runs_once_and_inline_gives_the_same_numbers(command: Command, tmp_path: Path) -> None:
    quick = ("--scale", "smoke", "seeds=1", "stack=off", "latency=none", "resources.cpus=1", "task.precision=fp32", *SMALL)
    done = launch("--sweep", "regularisation,augmentation", *quick, cwd=tmp_path)
    top = run_folder(done.stdout, tmp_path)
    assert top.parent.name == "several"
    assert {path.name for path in top.iterdir()} == {"regularisation", "augmentation", "report.html", "launch.log"}
    trials = {name: {t.configuration: t for t in LedgerReader(top / name).trials()} for name in ("regularisation", "augmentation")}
    assert {t.status for rows in trials.values() for t in rows.values()} == {"finished"}
    mine, theirs = trials["regularisation"]["none"], trials["augmentation"]["none"]
    assert mine.trial_id == theirs.trial_id
    assert mine.place == theirs.place
    assert "[7/7]" in done.stdout
    assert "[8/" not in done.stdout
    one, other = (settled(top / name).set_index("configuration").loc["none"] for name in trials)
    assert one["val/loss"] == other["val/loss"]
    files = [(top / name / "trials" / mine.trial_id) for name in trials]
    assert files[0].resolve() == files[1].resolve()
    assert list((files[0] / "checkpoints").glob("step-*"))
    report = (top / "report.html").read_text()
    assert "Augmentation strength on CIFAR-10" in report
    assert "Dropout, batch normalisation and zero initialisation on CIFAR-10" in report

    inline = command("--sweep", "augmentation", *quick, "seeds=2", "--executor", "inline")
    ours = settled(run_folder(inline.stdout, tmp_path))
    assert ours["val/loss"].nunique() == len(ours), "every configuration and seed is another run"
    first = ours[ours["seed"] == ours["seed"].min()].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, settled(top / "augmentation"), check_exact=True)


def test_every_mistake_is_named_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    mistakes = ("task.lrr=1", "task.lr=-0.1", "task.epochs=many", "resources.cpus=100000", "sedes=3")
    done = launch("--sweep", "augmentation", *mistakes, cwd=tmp_path, exits=2)
    for part in ("task.lr: ", "task.epochs: ", "resources.cpus: 100000", "sedes: unknown key. Did you mean seeds?"):
        assert part in done.stderr
    assert "task.lrr: unknown key. Did you mean task.lr?" in done.stderr
    assert done.stderr.rstrip().endswith("Nothing was started.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--swep", "augmentation"), "--swep: unknown option. Did you mean --sweep?"),
        ((), "nothing to do: name one of --sweep, --list, "),
        (("--sweep", "augmentation", "--scale", "huge"), "--scale: 'huge' is unknown. Use smoke, sample, paper."),
        (("--resume", "nowhere"), "nowhere: not a run folder, it has no ledger.sqlite. Name a folder below runs/."),
        (("--sweep", "augmentation,augmentation"), "--sweep 'augmentation,augmentation': names a sweep twice. Name each once."),
        (
            ("--sweep", "augmentation,regularisation", "early_stopping.scheduler=asha"),
            "early_stopping.scheduler: compares the trials of one sweep. Use none for several sweeps.",
        ),
    ],
)
def test_a_mistyped_option_is_refused(arguments: tuple[str, ...], said: str, command: Command, tmp_path: Path) -> None:
    done = command(*arguments, exits=2)
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_plan_trains_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    done = command("--sweep", "augmentation", *QUICK, "--executor", "inline", "--plan")
    for part in ("none", "light", "aggressive", "each trial:", "expected:", "disk:", "precision:"):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_every_sweep(command: Command) -> None:
    done = command("--list")

    assert [line.split()[0] for line in done.stdout.splitlines()] == yamlfile.config_names("sweep")
