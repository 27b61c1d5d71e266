"""Publishing without a server, read back with W&B's own tool."""

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

from ddl.tracking import connection, records
from ddl.tracking.__main__ import main
from ddl.tracking.follow import follow
from ddl.tracking.publish import publish
from tests.tracking.conftest import SAMPLE, create, in_ledger, measure, of_history, picture, sample, whole
from tests.tracking.readback import held

from ..ledgers import ReportingLedger

SECRET = "canary-secret-77aa31"
PLACE = "canary-place-93c0"


def assert_once(folder: Path, trials: set[str]) -> dict[str, dict[str, Any]]:
    """Each row of the ledger is there exactly once."""
    runs = held(folder)
    rows = in_ledger(folder)
    assert set(runs) == trials
    for trial_id, run in runs.items():
        assert of_history(run["rows"]) == rows[trial_id]
        assert [row["_step"] for row in run["rows"]] == sorted({step for step, _, _ in rows[trial_id]})
    return runs


def test_each_row_is_there_once_with_what_the_trial_was_and_how_it_ended(folder: Path) -> None:
    with create(folder, trials=3) as ledger:
        whole(ledger, "t0")
        whole(ledger, "t1", status="stopped", reason="behind the others")
    picture(folder, "t0", "kernels.png")
    picture(folder, "t0", "maps/first.layer.jpg")
    (folder / "trials/t0/figures/kernels.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")

    done = publish(folder)

    assert (done.mode, done.trials, done.changed, done.rows) == ("offline", 2, 2, 6)
    run = assert_once(folder, {"t0", "t1"})["t0"]  # and not t2, which is still planned
    assert run["exit_code"] == held(folder)["t1"]["exit_code"] == 0
    assert run["about"]["run_group"] == "augmentation 2026-03-01-093000"
    assert run["about"]["job_type"] == "classification"
    assert run["project"] == "trials-of-ours"
    assert run["name"] == "strength 0, seed 7 [SAMPLE DATA]"
    assert run["tags"] == ["smoke", "cifar10", "SAMPLE DATA"]
    assert "ONLY A SAMPLE" in run["notes"]
    assert run["config"]["task"] == {"lr": 0.1, "augmentation": "a0", "widths": [32, 64]}
    assert run["config"]["sweep"]["keys"] == ["task.augmentation"]
    assert (run["config"]["seed"], run["config"]["configuration"]) == (7, "strength 0")
    assert run["config"]["metadata"]["data"]["source"] == "bundled sample"
    assert [(row["epoch"], row["elapsed_s"]) for row in run["rows"]] == [(0, 0.0), (1, 1.5), (2, 3.0)]
    summary = run["summary"]
    assert (summary["status"], summary["reason"], summary["val/loss"], summary["time/train_s"]) == ("finished", "", 2.125, 3.0)
    assert summary["best val/accuracy"] == 2.1875
    assert {name: summary["figures/" + name]["_type"] for name in ("kernels", "kernels_svg", "maps/first_layer")} == {
        "kernels": "image-file",
        "kernels_svg": "html-file",
        "maps/first_layer": "image-file",
    }
    assert (run["folder"] / "files" / summary["figures/kernels"]["path"]).read_bytes() == picture(folder, "t0").read_bytes()


def test_a_trial_that_was_interrupted_is_published(folder: Path) -> None:
    with create(folder, trials=2) as ledger:
        ledger.started("t0", 0, "host")
        measure(ledger, "t0", [0, 1])
        ledger.interrupted()
    assert publish(folder).trials == 1
    assert_once(folder, {"t0"})


def test_two_sweeps_of_a_run_have_a_group_each_which_other_runs_do_not_have(folder: Path) -> None:
    ids = set()
    for sweep in ("augmentation", "regularisation"):
        about = {"name": sweep, "metric": {"name": "val/accuracy", "mode": "max"}}
        with create(folder / sweep, trials=1, sweep=about, url="s3://runs/x", resume="launch.py --resume s3://runs/x") as ledger:
            whole(ledger, "t0")
        replay = records.LedgerReplay(folder / sweep)
        replay.poll()
        assert replay.group == f"{sweep} 2026-03-01-093000"
        ids.add(replay.record(replay.trials[0]).run_id)
    assert len(ids) == 2, "a trial of two sweeps is two W&B runs"


def test_a_trial_that_is_added_while_the_ledger_is_read_is_read_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create(folder, trials=2) as ledger:
        replay = records.LedgerReplay(folder)
        whole(ledger, "t0")
        whole(ledger, "t1")
    with monkeypatch.context() as patched:
        first = replay.reader.trials()[:1]
        patched.setattr(replay.reader, "trials", lambda: first)  # the other is added just after
        replay.poll()
    replay.poll()
    assert {trial_id: len(rows) for trial_id, rows in replay.rows.items()} == {"t0": 3, "t1": 3}


def test_no_secret_and_no_place_reaches_wandbs_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder.parents[2] / PLACE / "2026-03-01-093000"
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setattr("sys.argv", ["launch.py", f"--password={SECRET}", f"/srv/{PLACE}"])
    metadata = {"cache": f"/srv/{PLACE}/x.bin", "said": f"with {SECRET}", "access_key": "canary-secret-field", "parameters": 12}
    with create(folder, command=f"python /srv/{PLACE}/launch.py", diff=SECRET, overrides=[SECRET], host={"cpu": PLACE}) as ledger:
        whole(ledger, "t0", metadata=metadata, status="failed", reason=f"FileNotFoundError: '{folder}/x.bin' with {SECRET} (worker.py:12)")
    # Neither does a link lead out of the run.
    (folder / "secret.png").write_bytes(picture(folder, "t0").read_bytes() + SECRET.encode())
    (folder / "trials/t0/figures/link.png").symlink_to(folder / "secret.png")

    publish(folder)

    (run,) = held(folder).values()
    assert run["config"]["metadata"]["parameters"] == 12
    assert run["config"]["metadata"]["cache"] == "(path)"
    assert run["summary"]["reason"] == "FileNotFoundError: '(path)' with (withheld) (worker.py:12)"
    files = [path for path in (folder / "wandb").rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        content = path.read_bytes() + str(path.relative_to(folder)).encode()
        assert b"canary" not in content, path
    assert not list((folder / "wandb").rglob("*.log"))
    assert not {"host", "git", "settings"} & set(run["about"])


def test_sample_texts_become_pages_escaped_and_without_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setattr(records, "SAMPLE_CHARACTERS", 45)
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    sample(folder, "t0", "greedy.txt", f"the <b>cat</b> & {SECRET}\nsat on /srv/{PLACE}/mat")
    sample(folder, "t0", "hot/top.p.txt", "x" * 50)
    sample(folder, "t0", "secret.txt", "y" * 40 + SECRET)  # cut in two it would not be known for one
    sample(folder, "t0", "notes.md", "no sample")
    publish(folder)
    (run,) = held(folder).values()
    pages = {name: run["folder"] / "files" / run["summary"][name]["path"] for name in run["summary"] if name.startswith("samples/")}
    assert {name: run["summary"][name]["_type"] for name in pages} == dict.fromkeys(
        ("samples/greedy", "samples/hot/top_p", "samples/secret"), "html-file"
    )
    assert "canary" not in pages["samples/secret"].read_text()
    assert pages["samples/greedy"].read_text().endswith(">the &lt;b&gt;cat&lt;/b&gt; &amp; (withheld)\nsat on (path)</pre>")
    assert f"{'x' * 45} ... (cut after 45 characters)</pre>" in pages["samples/hot/top_p"].read_text()
    assert publish(folder).changed == 0
    sample(folder, "t0", "greedy.txt", "another")
    assert publish(folder).changed == 1


def test_a_trial_that_measured_nothing_shows_what_it_left(folder: Path) -> None:
    with create(folder, trials=1) as ledger:
        ledger.started("t0", 0, "somewhere cpu")
        ledger.ended("t0", "failed", "ValueError: no such thing")
    sample(folder, "t0", "greedy.txt", "a text")
    publish(folder)
    (run,) = held(folder).values()
    assert run["summary"]["samples/greedy"]["_type"] == "html-file"


def test_a_second_publish_changes_nothing(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
        whole(ledger, "t1")
    picture(folder, "t0")
    publish(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "wandb").rglob("*") if path.is_file() and path.name != ".lock"}

    again = publish(folder)

    assert (again.trials, again.changed, again.rows) == (2, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in (folder / "wandb").rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_after_a_resume_each_row_is_there_once(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
        ledger.started("t1", 0, "somewhere cpu")
        measure(ledger, "t1", range(4))
    publish(folder)  # t1 was running when all was lost
    running = assert_once(folder, {"t0", "t1"})["t1"]
    assert (running["exit_code"], running["summary"]["status"]) == (1, "running")

    with ReportingLedger(folder) as ledger:
        ledger.started("t1", 10, "elsewhere cpu")  # from its checkpoint: steps 20 and 30 are measured again
        measure(ledger, "t1", range(2, 6), bias=0.5)
        ledger.ended("t1", "finished")
    assert publish(folder).changed == 1

    runs = assert_once(folder, {"t0", "t1"})
    assert runs["t1"]["run_id"] == running["run_id"]
    assert (runs["t1"]["exit_code"], runs["t1"]["summary"]["status"], runs["t1"]["summary"]["attempts"]) == (0, "finished", 2)


def test_a_trial_that_did_not_come_to_a_good_end_is_marked(folder: Path) -> None:
    with create(folder, trials=3) as ledger:
        whole(ledger, "t0", status="diverged", reason="train/loss is nan")
        ledger.started("t1", 0, "somewhere cpu")
        ledger.ended("t1", "failed", "ValueError: no such thing")
        ledger.started("t2", 0, "somewhere cpu")
        ledger.measured("t2", 10, None, 1.0, {"val/loss": float("nan")}, {"data": SAMPLE | {"fallback_for": "the whole of cifar10"}})
        ledger.ended("t2", "diverged", "val/loss is nan")

    publish(folder)

    runs = held(folder)
    ends = {trial_id: (run["exit_code"], run["summary"]["status"], run["summary"]["reason"]) for trial_id, run in runs.items()}
    assert ends == {
        "t0": (1, "diverged", "train/loss is nan"),
        "t1": (1, "failed", "ValueError: no such thing"),
        "t2": (1, "diverged", "val/loss is nan"),
    }
    assert "best val/loss" not in runs["t0"]["summary"], "what a trial reached before it diverged is no result"
    assert runs["t1"]["rows"] == []
    assert [row["val/loss"] for row in runs["t2"]["rows"]] == ["NaN"]
    assert "FALLBACK DATA" in runs["t2"]["tags"]
    assert "[FALLBACK DATA]" in runs["t2"]["name"]
    assert "epoch" not in runs["t2"]["rows"][0]


def test_a_publish_that_is_cut_off_leaves_the_earlier_one_and_no_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    publish(folder)
    before = in_ledger(folder)["t0"]
    with ReportingLedger(folder) as ledger:
        ledger.measured("t0", 40, 4, 9.0, {"val/loss": 1.0}, {})

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "finish_wandb_run", full)
        with pytest.raises(ValueError, match=r"No space left on device.*Nothing is lost.*--publish"):
            publish(folder)
    (run,) = held(folder).values()
    assert of_history(run["rows"]) == before

    publish(folder)
    assert_once(folder, {"t0"})
    assert not (folder / "wandb/.draft").exists()


def test_a_figure_that_is_no_image_costs_only_itself(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    picture(folder, "t0", "good.png")
    picture(folder, "t0", "bad.png").write_bytes(b"")
    half = picture(folder, "t0", "half.png")
    Image.effect_noise((64, 64), 50).save(half)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    publish(folder)
    (run,) = assert_once(folder, {"t0"}).values()
    assert [name for name in run["summary"] if name.startswith("figures/")] == ["figures/good"]
    said = capfd.readouterr().err
    assert "bad.png: skipped (cannot identify image file" in said
    assert "half.png: skipped (" in said


def test_a_figure_that_names_a_page_is_published_as_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private.html").write_text("canary-private")
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    picture(folder, "t0").with_name("page.svg").write_text(str(tmp_path / "private.html"))
    publish(folder)
    pages = [path.read_text() for path in (folder / "wandb").rglob("*.html")]
    assert pages
    assert not any("canary-private" in page for page in pages)


def test_following_publishes_ended_trials_and_ends_with_the_drivers_mark(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
        ledger.started("t1", 0, "somewhere cpu")
        measure(ledger, "t1", range(2))
        ledger.event("trained", "")
    follow(folder)
    assert_once(folder, {"t0"})  # what has not ended may still grow


def test_one_at_a_time_publishes_a_run(folder: Path) -> None:
    with create(folder, trials=1) as ledger:
        whole(ledger, "t0")
    (folder / "wandb").mkdir()
    with FileLock(folder / "wandb/.lock"), pytest.raises(ValueError, match="another process is publishing"):
        publish(folder)
    assert publish(folder).changed == 1


def test_disabled_writes_nothing(folder: Path) -> None:
    with create(folder, trials=1, launch={"wandb": {"mode": "disabled", "project": "p"}}) as ledger:
        whole(ledger, "t0")
    assert "disabled in this run's settings" in str(publish(folder))
    follow(folder)
    assert not (folder / "wandb").exists()


def test_a_folder_without_a_ledger_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"no ledger\.sqlite"):
        publish(tmp_path)
    follow(tmp_path)
    assert "no ledger.sqlite" in capfd.readouterr().err


def test_what_wandb_uploaded_before_is_not_offered_to_it_again(folder: Path) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
        whole(ledger, "t1")
    publish(folder)
    for trial_id, run in held(folder).items():
        if trial_id == "t0":
            (run["folder"] / f"run-{run['run_id']}.wandb.synced").touch()  # as `wandb sync` does
    with ReportingLedger(folder) as ledger:
        for trial_id in ("t0", "t1"):
            ledger.measured(trial_id, 30, 3, 9.0, {"val/loss": 1.0}, {})
    assert publish(folder).changed == 2
    runs = assert_once(folder, {"t0", "t1"})
    assert {trial_id: len(list(run["folder"].glob("*.synced"))) for trial_id, run in runs.items()} == {"t0": 1, "t1": 0}


def test_the_command_says_what_it_did_and_how_to_go_on(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with create(folder) as ledger:
        whole(ledger, "t0")
    assert main([str(folder)]) == 0
    assert (
        f"1 of them with 3 new rows, in {folder}/wandb. With a key, upload them: python -m ddl.tracking {folder} --mode online"
        in capfd.readouterr().out
    )
    assert main([str(folder), "--mode", "online"]) == 2
    assert "online needs a key and there is none" in capfd.readouterr().err
