"""The report while the sweep runs."""

import re

import pytest

from ddl import durable, run
from ddl.reports import html, live, model

FINAL = {"none": 0.80, "light": 0.765}
HALF = {("light", seed): ("running", "") for seed in range(3)}


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only if a test changes `clock[0]`, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def test_it_waits_between_reports(make_run, clock):
    folder = make_run(FINAL, epochs=2, endings=HALF)
    path = folder / "report.html"
    keeper = live.LiveReport([folder], folder / "report.html")
    clock[0] += 19
    keeper.refresh()
    assert not path.exists()
    clock[0] += 1
    keeper.refresh()
    written = path.read_text()
    assert '<meta http-equiv="refresh" content="20">' in written
    assert "<strong>Running:</strong> 3 of 6 trials ended." in written
    path.unlink()
    clock[0] += 19
    keeper.refresh()
    assert not path.exists()
    clock[0] += 1
    keeper.refresh()
    assert path.exists()


def test_a_slow_report_is_written_less_often(make_run, clock, monkeypatch):
    folder = make_run(FINAL, epochs=2, endings=HALF)
    build, built = model.build_report, []

    def slow(folders):
        clock[0] += 3
        built.append(clock[0])
        return build(folders)

    def slow_disk(path, content):
        clock[0] += 2
        replace(path, content)

    replace = durable.replace_file
    monkeypatch.setattr(model, "build_report", slow)
    monkeypatch.setattr(durable, "replace_file", slow_disk)
    keeper = live.LiveReport([folder], folder / "report.html")
    for _ in range(1600):
        clock[0] += 1
        keeper.refresh()
    assert 5 * len(built) <= 0.01 * 1600 + 5, "a hundredth of the time, and the one that has just been written"
    assert len(built) >= 3
    assert '<meta http-equiv="refresh" content="300">' in (folder / "report.html").read_text()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError("a mistake of ours")])
def test_a_report_that_cannot_be_written_costs_nothing_but_itself(make_run, clock, monkeypatch, capsys, error):
    folder = make_run(FINAL, epochs=2, endings=HALF)
    keeper, replace = live.LiveReport([folder], folder / "report.html"), durable.replace_file

    def full(path, content):
        raise error

    monkeypatch.setattr(durable, "replace_file", full)
    clock[0] += 20
    keeper.refresh()
    printed = capsys.readouterr()
    assert "the report could not be written" in printed.out
    assert str(error) in printed.err
    monkeypatch.setattr(durable, "replace_file", replace)
    clock[0] += 20
    keeper.refresh()
    assert (folder / "report.html").exists(), "it tries again"


def test_a_sweep_updates_its_report_and_ends_with_one_that_does_not_reload(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    monkeypatch.setattr(live, "FRACTION", 1e9)
    pages, write = [], html.write_html

    def watch(report, path, refresh_s=None):
        write(report, path, refresh_s)
        pages.append(path.read_text())

    monkeypatch.setattr(html, "write_html", watch)
    done = run.run_sweep(
        "cartpole",
        ["seeds=1", "stack=off", "task.env_steps=1600", "task.evaluate_every=1600", "wandb.mode=disabled"],
        "smoke",
        "inline",
        out=tmp_path,
    )
    ended = [found.group(1) for page in pages if (found := re.search(r"Running:</strong> (\d) of 4 trials ended", page))]
    assert ended == sorted(ended)
    assert {"0", "1", "2", "3"} <= set(ended)
    assert all('http-equiv="refresh"' in page for page in pages[:-1])
    last = done.report.read_text()
    assert last == pages[-1]
    assert 'http-equiv="refresh"' not in last
    assert "Running:" not in last


def test_a_sweep_outlives_a_report_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    write = html.write_html

    def full_at_first(report, path, refresh_s=None):
        if refresh_s is not None:
            raise OSError(28, "No space left on device")
        write(report, path)

    monkeypatch.setattr(html, "write_html", full_at_first)
    done = run.run_sweep("cartpole", ["seeds=1", "task.env_steps=1600", "wandb.mode=disabled"], "smoke", "inline", out=tmp_path)
    assert {trial.status for trial in done.trials} == {"finished"}
    assert "No space left on device" in capsys.readouterr().err
    assert done.report.exists()
