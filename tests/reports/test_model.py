import math
import re

import pytest
from scipy import stats

from ddl import launch
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.reports import html, model, narrative
from ddl.reports.data_sets import DataDescription
from ddl.reports.markdown import render_markdown
from ddl.reports.results import read_results
from ddl.reports.sections.comparisons import comparison_table
from ddl.reports.sections.curves import curves_note, run_panels
from ddl.reports.sections.plan import plan_summary
from ddl.reports.sections.reproduction import reproduction_record
from ddl.reports.sections.results import results_caption
from ddl.run_results import Run

from ..ledgers import ReportingLedger, edited_ledger
from .synthetic import GENUINE, SAMPLE, create_agents

FINAL = {"none": 0.80, "light": 0.765, "aggressive": 0.66}
REFERENCE = {
    "source": "Synthetic study, Table 1", "metric": "best val/accuracy", "tolerance": 0.02,
    "values": {"none": 0.7948, "light": 0.7625, "aggressive": 0.5989},
}  # fmt: skip
EXACT = {"spread": 0.0, "alter": lambda configuration, seed, epoch, m: m | {"val/accuracy": FINAL[configuration] + 0.0004 * seed}}
"""The last value is final + 0, 0.0004, 0.0008 for the three seeds: mean final + 0.0004, interval +- 0.000994."""


def verdicts(report: model.Report) -> dict[str, tuple[str, str]]:
    return {c.name: (c.verdict.word, c.verdict.why) for c in report.runs[0].configurations if c.verdict}


def test_estimates_and_verdicts_of_a_finished_run(make_run):
    report = model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE, **EXACT)])
    run = report.runs[0]
    best = run.configurations[0].estimates["best val/accuracy"]
    assert (best.n, best.mean) == (3, pytest.approx(0.8004))
    assert best.high - best.mean == pytest.approx(4.302653 * 0.0004 / math.sqrt(3), rel=1e-5)
    words = {name: word for name, (word, _) in verdicts(report).items()}
    assert words == {"none": "reproduced", "light": "reproduced", "aggressive": "better"}
    (line,) = report.not_reproduced()
    assert "augmentation / aggressive: not reproduced (better), higher" in line
    assert "0.6604" in line
    assert "0.5989" in line
    assert (run.notices, run.caption) == ({}, "")
    assert "“none” leads on best validation accuracy: 0.8004" in run.answer
    assert "3 configurations \N{MULTIPLICATION SIGN} 3 seeds at paper scale, on CIFAR-10, official host" in narrative.setting(
        run, run.statuses, run.scale
    )
    assert run.ordering.same == 3


def test_best_and_last_are_both_there(make_run):
    def peaking(configuration, seed, epoch, metrics):
        return metrics | {"val/accuracy": [0.5, 0.9, 0.7][epoch - 1] + seed / 100}

    run = model.build_report([make_run({"none": 0.8}, epochs=3, alter=peaking)]).runs[0]
    estimates = run.configurations[0].estimates
    assert estimates["best val/accuracy"].mean == pytest.approx(0.91)
    assert estimates["last val/accuracy"].mean == pytest.approx(0.71)
    assert (run.reference, narrative.judgement(run), run.ordering) == (None, "", None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scale": "sample"}, "at sample scale"),
        ({"data": SAMPLE}, "on a sample of CIFAR-10 (bundled sample)"),
        ({"data": GENUINE | {"fallback_for": "Tiny ImageNet"}}, "on CIFAR-10, a fallback data set for Tiny ImageNet"),
        ({"data": {"name": "CIFAR-10", "source": "somewhere"}}, "on a sample"),
        ({"overrides": ["seeds=3", "task.epochs=2"]}, "with other hyperparameters: task.epochs=2"),
        ({"overrides": ["task.augmentation=none"], "forced": ["task.augmentation"]}, "with other hyperparameters: task.augmentation=none"),
    ],
)
def test_a_run_that_is_not_comparable_gets_no_other_verdict(make_run, options, expected):
    report = model.build_report([make_run(FINAL, epochs=2, **({"reference": REFERENCE} | EXACT | options))])
    for word, why in verdicts(report).values():
        assert word == "not comparable"
        assert expected in why
    assert report.not_reproduced() == []


def test_overrides_that_change_no_hyperparameter_leave_it_comparable(make_run):
    folder = make_run(FINAL, epochs=2, reference=REFERENCE, overrides=["seeds=3", "task.augmentation=none"], **EXACT)
    assert verdicts(model.build_report([folder]))["none"][0] == "reproduced"


@pytest.mark.parametrize("status", ["failed", "diverged", "planned", "running"])
def test_a_configuration_with_a_trial_missing_decides_nothing(make_run, status):
    report = model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE, endings={("none", 1): (status, "")}, **EXACT)])
    assert verdicts(report)["none"] == ("cannot tell", f"1 of 3 {status}")
    assert verdicts(report)["light"][0] == "reproduced"
    assert report.runs[0].configurations[0].estimates["best val/accuracy"].n == 2


@pytest.mark.parametrize("metric", ["test/accuracy", "best train/accuracy"])
def test_a_reference_that_was_not_measured_decides_nothing(make_run, metric):
    report = model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE | {"metric": metric}, **EXACT)])
    assert verdicts(report)["none"] == ("cannot tell", f"“{metric}” was not measured")
    assert report.runs[0].primary == "best val/accuracy"


def test_a_reference_may_name_a_plain_metric(make_run):
    values = {"none": 0.8004, "light": 0.5}
    report = model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE | {"metric": "val/accuracy", "values": values}, **EXACT)])
    assert report.runs[0].primary == "last val/accuracy"
    assert {name: word for name, (word, _) in verdicts(report).items()} == {"none": "reproduced", "light": "better"}
    assert report.runs[0].configurations[2].verdict is None


@pytest.mark.parametrize(("seeds", "drawn"), [(5, 5), (6, 0)])
def test_seeds_are_drawn_where_they_are_few(make_run, seeds, drawn):
    (series,) = run_panels(model.build_report([make_run({"none": 0.8}, seeds=range(seeds), epochs=2)]).runs[0])[0].series
    assert len(series.seeds) == drawn


def test_one_seed_decides_nothing(make_run):
    report = model.build_report([make_run(FINAL, seeds=[7], epochs=2, reference=REFERENCE, **EXACT)])
    assert {word for word, _ in verdicts(report).values()} == {"cannot tell"}
    assert "n = 1" in report.runs[0].answer
    assert all(c.p is None for c in report.runs[0].comparisons["best val/accuracy"])


@pytest.mark.parametrize(("value", "word"), [(0.5, "worse"), (3.0, "better")])
def test_the_direction_of_another_metric_than_the_sweeps_follows_from_its_name(make_run, value, word):
    reference = REFERENCE | {"metric": "last val/loss", "values": {"none": value, "light": value + 0.1}}
    folder = make_run(FINAL, epochs=2, reference=reference)
    report = model.build_report([folder])
    assert report.runs[0].mode == "max"
    assert verdicts(report)["none"][0] == word
    assert report.runs[0].ordering.expected == ("none", "light")
    assert launch.main(["--report", str(folder), "--trust", "--check"]) == launch.NOT_REPRODUCED


def test_a_published_metric_of_the_other_direction_ranks_by_its_own(make_run):
    def alter(configuration, seed, epoch, metrics):
        return metrics | {"val/error": 1 - metrics["val/accuracy"]}

    reference = REFERENCE | {"metric": "val/error", "values": {"good": 0.05, "bad": 0.2}}
    folder = make_run({"bad": 0.8, "good": 0.95}, epochs=2, reference=reference, alter=alter, launch={"margin": 0.5})
    (run,) = model.build_report([folder]).runs
    assert run.answer.startswith("“good” leads on last validation error (lower is better): 0.0")
    assert (run.leader, Run(folder).best.name) == ("good", "good")
    values = Run(folder).results.set_index("trial_id")["val/error"]
    assert list(values[list(Run(folder).best.trials)]) == sorted(values[values < 0.1])
    accuracies, _, errors = comparison_table(run).rows[0].cells
    assert (errors.reading, accuracies.reading) == ("significant", "significant, but smaller than 0.5"), "the margin is one of accuracy"


def test_a_configuration_that_left_a_race_does_not_lead(make_run):
    """“early” is worse on each seed that it has, but these seeds are the easy ones."""

    def alter(configuration, seed, epoch, metrics):
        easy = 0.1 if seed < 3 else 0.0
        return metrics | {
            "val/accuracy": {"early": 0.78, "late": 0.79, "winner": 0.8}[configuration] + easy + 0.0001 * seed * len(configuration)
        }

    drop = {"better": "winner", "difference": -0.02, "low": -0.03, "high": -0.01, "p": 1e-4, "level": 4e-3}
    drops = [drop | {"configuration": "early", "seeds": 3}, drop | {"configuration": "late", "seeds": 8}]
    rules = {"configurations": 3, "at_least": 3, "at_most": 8, "margin": 0.0, "mode": "max"}
    race = {"rules": rules, "seeds": 8, "left": ["winner"], "outcome": "winner", "drops": drops}
    folder = make_run({"early": 0.7, "late": 0.7, "winner": 0.7}, seeds=range(8), epochs=1, alter=alter, race=race)
    with edited_ledger(folder) as db:
        db.execute("DELETE FROM metrics WHERE trial_id IN (SELECT trial_id FROM trials WHERE configuration = 'early' AND seed > 2)")
        db.execute("DELETE FROM trials WHERE configuration = 'early' AND seed > 2")
    (run,) = model.build_report([folder]).runs
    means = {c.name: c.estimates[run.primary].mean for c in run.configurations}
    assert means["early"] > means["winner"] > means["late"]
    assert run.answer.startswith("“winner” leads on best validation accuracy")
    assert [c.name for c in run.best_first] == ["winner", "late", "early"]
    assert Run(folder).best.name == "winner"


def test_the_sources_seeds_and_spread_are_shown_or_unknown(make_run):
    known, unknown = (
        model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE | more)]).runs[0] for more in ({"seeds": 5, "spread": 0.003}, {})
    )
    margin = "with the margin ± 0.02 declared before the run."
    assert f"in Synthetic study, Table 1 (n = 5, spread 0.003), {margin}" in results_caption(known)
    assert f"in Synthetic study, Table 1 (n unknown, spread unknown), {margin}" in results_caption(unknown)


def test_a_value_that_is_not_a_number_is_left_out_and_counted(make_run):
    def breaking(configuration, seed, epoch, metrics):
        return metrics | {"val/accuracy": math.nan if (configuration, seed) == ("none", 1) else FINAL[configuration]}

    report = model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE, alter=breaking)])
    assert report.runs[0].configurations[0].estimates["best val/accuracy"].n == 2
    assert verdicts(report)["none"] == ("cannot tell", "1 trial without a finite value")


def test_mid_run(make_run):
    endings = {("none", 2): ("running", "")} | {(name, s): ("planned", "") for name in ("light", "aggressive") for s in range(3)}
    run = model.build_report([make_run(FINAL, epochs=6, reference=REFERENCE, endings=endings)]).runs[0]
    assert not run.ended
    assert run.statuses["running"] == 1
    assert run.configurations[0].estimates["best val/accuracy"].n == 2, "a running trial's value is not its result yet"
    assert [s.configuration for s in run_panels(run)[0].series] == ["none"]
    assert run_panels(run)[0].series[0].n == (3, 3, 3, 2, 2, 2)
    assert "2 of 9 trials finished, 6 planned, 1 running." in narrative.setting(run, run.statuses, run.scale)
    assert "Resume command" in dict(reproduction_record(run))
    assert "3 pairs" not in run.answer
    assert "No pair has been measured" in run.ordering.sentence


def test_before_the_first_trial(make_run):
    endings = {(name, s): ("planned", "") for name in FINAL for s in range(3)}
    run = model.build_report([make_run(FINAL, reference=REFERENCE, endings=endings, plan={})]).runs[0]
    assert run.answer == "No trial has finished yet."
    assert (run_panels(run), run.data, plan_summary(run).eta) == ((), (), "")


def test_failures_come_with_their_reasons(make_run):
    endings = {("light", 1): ("failed", "RuntimeError: out of memory"), ("light", 2): ("diverged", "train/loss 1e9 above 1e4")}
    run = model.build_report([make_run(FINAL, epochs=2, endings=endings)]).runs[0]
    assert [(t.seed, t.status, t.reason) for t in run.failures] == [(s, *endings["light", s]) for s in (1, 2)]


def test_a_stopped_trial_counts_with_what_it_reached(make_run):
    run = model.build_report([make_run(FINAL, epochs=4, reference=REFERENCE, endings={("none", 1): ("stopped", "by the scheduler")})]).runs[
        0
    ]
    assert run.configurations[0].estimates["best val/accuracy"].n == 3
    assert "Trials stopped by a scheduler count with the values they had reached." in results_caption(run)
    assert run.configurations[0].verdict.why == "1 of 3 stopped"


def test_many_configurations_are_compared_with_the_best_and_drawn_in_part(make_run):
    many = {f"c{i:02d}": 0.5 + i / 100 for i in range(20)}
    run = model.build_report([make_run(many, seeds=[0, 1], epochs=2, spread=0.0005)]).runs[0]
    pairs = [(c.first, c.second) for c in run.comparisons["best val/accuracy"]]
    assert len(pairs) == 19
    assert [c.name for c in run.configurations] == list(reversed(many))
    assert {first for first, _ in pairs} == {"c19"}
    assert "so its lead is optimistic" in run.comparisons_note
    assert run.shown[0] == "c19"
    assert len(run.shown) == 12
    assert curves_note(run).startswith("The 12 best of 20")


def test_runs_of_one_sweep_are_compared(make_run):
    folders = [make_run(FINAL, epochs=2), make_run({"none": 0.7, "mild": 0.6}, epochs=2, scale="sample", data=SAMPLE)]
    report = model.build_report(folders)
    assert [run.scale for run in report.runs] == ["paper", "sample"]
    (shared,) = report.side_by_side
    assert list(shared.rows) == ["none", "light", "aggressive", "mild"]
    assert shared.rows["light"][1] is None
    assert shared.rows["none"][1].estimates[shared.measure].mean == pytest.approx(0.7, abs=0.05)


def test_seeds_with_steps_of_their_own_are_averaged_in_bins(tmp_path):
    trials = [TrialRow(f"t{seed}", seed, "ppo", {}, {}, seed) for seed in range(3)]
    sweep = {"name": "rl", "metric": {"name": "train/return", "mode": "max"}, "keys": []}
    with ReportingLedger.create(tmp_path, {"sweep": sweep}, trials) as ledger:
        for trial in trials:
            for i in range(1, 11):
                ledger.measured(trial.trial_id, 100 * i + trial.seed, None, float(i), {"train/return": 10.0 * i + trial.seed}, {})
            ledger.ended(trial.trial_id, "finished")
    run = model.build_report([tmp_path]).runs[0]
    (panel,) = run_panels(run)
    assert panel.x_name == "step"
    assert panel.series[0].n == (3,) * 10
    assert panel.series[0].mean == pytest.approx([10 * i + 1 for i in range(1, 11)])
    assert run.primary == "best train/return"
    assert run.data == ()


def test_figure_6_is_what_was_recorded_over_env_steps_seconds_and_episodes(tmp_path):
    folder = create_agents(tmp_path / "agents")
    panels = {panel.metric: panel for panel in run_panels(model.build_report([folder]).runs[0])}
    figure = panels["train/episode_return"]
    assert figure.axes == ("env steps", "seconds", "episodes")
    slow = figure.series[1]
    recorded = LedgerReader(folder).metrics()
    mine = recorded[(recorded["name"] == "train/episode_return") & recorded["trial_id"].str.startswith("slow")]
    by_step = mine.groupby("step")["value"]
    assert slow.n == (8,) * 5
    assert slow.mean == pytest.approx(list(by_step.mean()))
    half = 2.364624 * by_step.std() / math.sqrt(8)  # t(0.975, 7)
    assert slow.high == pytest.approx(list(by_step.mean() + half), rel=1e-5)
    episodes = recorded[(recorded["name"] == "train/episodes") & recorded["trial_id"].str.startswith("slow")]
    assert slow.positions["episodes"] == pytest.approx(list(episodes.groupby("step")["value"].mean()))
    assert slow.positions["env steps"] == slow.x == (1000, 2000, 3000, 4000, 5000)
    assert slow.positions["seconds"] == (0.5, 1.0, 1.5, 2.0, 2.5)
    assert list(panels) == ["val/episode_return", "train/episode_return", "val/solved"], (
        "counters, milestones and a single test are no curves"
    )


def test_milestones_are_means_over_those_that_reached_them(tmp_path):
    run = model.build_report([create_agents(tmp_path / "agents")]).runs[0]
    assert run.milestones == ("train/episodes_to_solved", "time/solved_s")
    assert not set(run.milestones) & set(run.costs)
    fast, slow = run.configurations
    assert (fast.milestones["train/episodes_to_solved"].n, fast.counted) == (8, 8)
    assert fast.milestones["train/episodes_to_solved"].mean == pytest.approx(43.5)
    assert (slow.milestones["train/episodes_to_solved"].n, slow.counted) == (7, 8)
    assert slow.milestones["train/episodes_to_solved"].mean == pytest.approx(160 + (28 - 1) / 7)


def test_an_agent_that_diverged_has_not_reached_its_milestones(tmp_path):
    folder = create_agents(tmp_path / "agents")
    with edited_ledger(folder) as db:
        db.execute("UPDATE trials SET status = 'diverged' WHERE trial_id IN ('fast-0', 'fast-2', 'fast-3')")
    report = model.build_report([folder])
    fast, slow = report.runs[0].configurations
    assert fast.reached_text("time/solved_s") == "5 of 8; 3 diverged"
    assert slow.reached_text("time/solved_s") == "7 of 8"
    assert '<span class="status failed">5 of 8; 3 diverged</span>' in html.render_html(report)


def test_a_name_like_a_milestone_without_its_event_is_an_ordinary_metric(make_run):
    folder = make_run(FINAL, epochs=2, alter=lambda c, s, e, m: m | {"val/distance_to_goal": 1.0 + e})
    run = model.build_report([folder]).runs[0]
    assert run.milestones == ()
    assert "val/distance_to_goal" in [panel.metric for panel in run_panels(run)]


def test_a_study_has_its_leaders_and_verdicts(make_run, tmp_path):
    folders = [make_run(FINAL, epochs=2, reference=REFERENCE, **EXACT), create_agents(tmp_path / "agents")]
    first, second = model.build_report(folders).runs
    assert (first.leader, dict(first.verdicts)) == ("none", {"reproduced": 2, "better": 1})
    assert (second.leader, dict(second.verdicts), second.trials_ended) == ("fast", {}, 16)


def test_long_curves_are_thinned(tmp_path):
    sweep = {"name": "rl", "metric": {"name": "train/return", "mode": "max"}, "keys": []}
    with ReportingLedger.create(tmp_path, {"sweep": sweep}, [TrialRow("t", 0, "dqn", {}, {}, 0)]) as ledger:
        ledger._db.executemany(
            "INSERT INTO metrics (trial_id, step, elapsed_s, name, value) VALUES ('t', ?, ?, 'train/return', ?)",
            [(i, i / 10, float(i)) for i in range(5000)],
        )
        ledger._db.commit()
    (panel,) = run_panels(model.build_report([tmp_path]).runs[0])
    assert len(panel.series[0].x) == 200
    assert panel.series[0].mean[0] == pytest.approx(12, abs=1)


def test_plan_and_records(make_run):
    run = model.build_report([make_run(FINAL, epochs=2, overrides=["seeds=3"], diff="--- a")]).runs[0]
    assert ("Disk needed", "150.0 MB") in plan_summary(run).rows
    assert plan_summary(run).eta.startswith("Expected 9 min 30 s; took ")
    records = dict(reproduction_record(run))
    assert records["Command"] == "python launch.py --sweep augmentation --scale paper"
    assert records["Seeds"] == "0\N{EN DASH}2"
    assert "5f" * 32 in records["Data"]
    assert "torch 2.9.1" in records["Versions"]
    assert "uncommitted changes" in records["Commit of ddl"]
    assert "Resume command" not in records


def test_a_folder_without_a_ledger_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        model.build_report([tmp_path])


@pytest.mark.parametrize(
    ("noise", "expected"), [(3.0, "differ by up to 3% (mean over seeds), so they are repeatable"), (14.0, "the machine was noisy")]
)
def test_the_report_says_whether_latencies_repeat(make_run, noise, expected):
    latencies = {"latency/p50_ms_batch1": 2.5, "latency/p99_ms_batch1": 4.0, "latency/noise_percent": noise}
    run = model.build_report([make_run({"none": 0.8}, alter=lambda configuration, seed, epoch, metrics: metrics | latencies)]).runs[0]
    assert expected in results_caption(run)
    assert run.configurations[0].costs["latency/p50_ms_batch1"] == 2.5
    assert "latency/p99_ms_batch1" not in run.costs
    assert not any("latency" in panel.metric for panel in run_panels(run))
    assert "Latencies" not in results_caption(model.build_report([make_run({"none": 0.8})]).runs[0])


def test_one_text_in_windows_of_several_lengths_is_named_once():
    data = [DataDescription("plays", "bundled sample", False, "a script", "ab", train, 2) for train in (14, 15, 14)]
    assert narrative.data_caption(data) == "Data: plays (fallback data set for a script), bundled sample"
    assert narrative.data_notice(data).count("fallback data set for a script") == 1
    assert "(14 train + 2 val examples) or (15 train + 2 val examples)" in narrative.data_notice(data)


def test_the_answer_is_the_last_line_before_the_reports_path(make_run, capsys):
    folder = make_run(FINAL, epochs=2, data=SAMPLE, **EXACT)
    assert launch.main(["--report", str(folder), "--trust"]) == 0
    answer, last = capsys.readouterr().out.splitlines()
    assert answer.startswith("“none” leads on best validation accuracy: 0.8004 [")
    assert answer.endswith(" is unknown). Data: CIFAR-10 (sample), bundled sample.")
    assert last == f"report: {folder / 'report.html'}"


def test_several_sweeps_have_an_answer_each(make_run, tmp_path, capsys):
    folders = [str(make_run(FINAL, epochs=2, **EXACT)), str(make_run({"none": 0.5}, epochs=1))]
    assert launch.main(["--report", *folders, "--trust", "--out", str(tmp_path / "out")]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("augmentation: “none” leads on best validation accuracy: 0.8004 [")
    assert second.startswith("augmentation: “none” is the only configuration; best validation accuracy: 0.4998")
    assert last.startswith("report: ")


def test_a_check_of_a_metric_that_no_trial_reported_is_bad_input(make_run, capsys):
    folder = make_run(FINAL, epochs=2, reference=REFERENCE | {"metric": "best val/acuracy"}, **EXACT)
    assert launch.main(["--report", str(folder), "--trust"]) == 0
    capsys.readouterr()
    assert launch.main(["--report", str(folder), "--trust", "--check"]) == launch.BAD_INPUT
    output, errors = capsys.readouterr()
    assert errors == (
        f"{folder}: reference.metric: no trial reported best val/acuracy, so nothing can be checked. Did you mean val/accuracy?\n"
    )
    assert output.splitlines()[-1].startswith("report: ")


def test_failures_are_in_the_denominator_of_every_mean(make_run, tmp_path):
    lost = {("none", 0): ("diverged", "loss 1e9"), ("none", 3): ("diverged", "loss 1e9"), ("light", 1): ("failed", "out of memory")}
    folder = make_run(FINAL, seeds=range(5), epochs=2, endings=lost)
    run = model.build_report([folder]).runs[0]
    assert run.answer.startswith("“none” has the best mean of the trials that ended well, by best validation accuracy: 0.7915")
    assert "n = 3 of 5; 2 diverged. Its mean leaves out the 2 trials that failed or diverged, so it may be too good." in run.answer
    assert ", n = 4 of 5; 1 failed (difference " in run.answer
    assert "looks better than it is" in results_caption(run)
    page = html.render_html(model.build_report([folder]))
    assert '3<span class="status failed"> of 5; 2 diverged</span>' in page
    assert 'none \N{MINUS SIGN} light<span class="muted nowrap"> (n = 2 of 5)' in page
    two = html.render_html(model.build_report([folder, folder]))
    assert two.count("n = 3 of 5; 2 diverged") == 2 * 2 + 2, "the headline and the overview of each run, and the table of both"
    counted = read_results(folder).groupby("configuration")["counted"].sum()
    assert dict(counted) == {"none": 3, "light": 4, "aggressive": 5}


def test_a_run_without_failures_does_not_mention_any(make_run):
    run = model.build_report([make_run(FINAL, epochs=2)]).runs[0]
    assert "failed" not in run.answer + results_caption(run)
    assert run.configurations[0].trials_text(run.primary) == "3"


def test_many_seeds_have_an_interquartile_mean_a_superiority_and_a_tick_each(make_run):
    folder = make_run({"none": 0.80, "light": 0.79}, seeds=range(12), epochs=2, spread=0.01)
    run = model.build_report([folder]).runs[0]
    none, light = run.configurations
    values = list(none.values[run.primary].values())
    assert none.interquartile_means[run.primary].mean == pytest.approx(sum(sorted(values)[3:9]) / 6)
    wins = sum(a > light.values[run.primary][seed] for seed, a in none.values[run.primary].items()) / 12
    (c,) = run.comparisons[run.primary]
    assert c.superiority.mean == pytest.approx(wins)
    page = html.render_html(model.build_report([folder]))
    assert [seeds.count("h0") for seeds in re.findall('<path class="seed" d="(.*)"', page)] == [12, 12]
    assert f"IQM {none.interquartile_means[run.primary].mean:.4f}<" in page
    assert "P(first &gt; second)" in page
    theirs = stats.binomtest(round(12 * wins), 12).proportion_ci(method="wilson")
    assert f"{wins:.2f} [{theirs.low:.2f}, {theirs.high:.2f}]" in page
    few = html.render_html(model.build_report([make_run(FINAL, epochs=2)]))
    assert few.count(" 15h0") == 9
    assert "IQM 0" not in few
    assert "P(first" not in few


@pytest.mark.parametrize(
    ("data", "percent", "expected"),
    [(GENUINE, 1, math.sqrt(0.8 * 0.2 / 10_000)), (GENUINE | {"val": None}, 1, None), (GENUINE, 100, None)],
)
def test_an_accuracy_has_a_binomial_error_on_a_validation_set_of_known_size(make_run, data, percent, expected):
    def exact(configuration, seed, epoch, metrics):
        return metrics | {"val/accuracy": 0.8 * percent}

    folder = make_run({"none": 0.8}, epochs=2, data=data, alter=exact)
    (c,) = model.build_report([folder]).runs[0].configurations
    assert c.binomial_errors.get("best val/accuracy") == (None if expected is None else pytest.approx(expected))
    page = html.render_html(model.build_report([folder]))
    assert ("s.e. 0.0040" in page) is (expected is not None)
    assert ("binomial standard error of the accuracy on 10,000 examples" in page) is (expected is not None)


def test_a_loss_has_no_binomial_error(make_run):
    sweep = {"name": "s", "metric": {"name": "val/loss", "mode": "min"}, "keys": []}
    assert model.build_report([make_run({"none": 0.8}, epochs=2, sweep=sweep)]).runs[0].configurations[0].binomial_errors == {}


def test_a_lead_by_easy_seeds_is_not_called_significant(make_run):
    def alter(configuration, seed, epoch, metrics):
        return metrics | {"val/accuracy": (0.7 if seed > 2 else 0.9) + (0.01 + seed / 1000 if configuration == "b" else 0.0)}

    lost = {("a", seed): ("failed", "") for seed in (3, 4)}
    (run,) = model.build_report([make_run({"a": 0.8, "b": 0.8}, seeds=range(5), epochs=2, alter=alter, endings=lost)]).runs
    assert run.leader == "a"
    assert run.answer.endswith("“b” is second with 0.8320, but on the 3 seeds that both have “b” is better by 0.0110 (significant).")


def test_trials_that_continued_from_each_other_are_not_tested(make_run):
    folder = make_run({"a": 0.9, "b": 0.8}, epochs=2, population={"augmentation": ["a", "b"]})
    with edited_ledger(folder) as db:
        db.execute("UPDATE trials SET metadata = json_set(metadata, '$.changed', json_object('augmentation', 'c'))")
    (run,) = model.build_report([folder]).runs
    assert {pair.p_holm for pair in run.comparisons[run.primary]} == {None}
    assert "(difference not tested: trials continued from each other)" in run.answer
    assert "names and hyperparameters that their trials began with" in run.notices["Population based training."]
    assert Run(folder).best.hyperparameters == {"task.augmentation": "c"}


def test_lost_trials_in_the_curves_are_mentioned(make_run):
    final = {"none": 0.8, "light": 0.7}
    (whole,) = model.build_report([make_run(final, epochs=2)]).runs
    (lost,) = model.build_report([make_run(final, epochs=2, endings={("none", 0): ("diverged", "")})]).runs
    assert curves_note(whole) == ""
    assert curves_note(lost) == "Trials that failed or diverged are included up to their last measurement, unlike in the tables."


def test_changed_code_is_not_taken_for_a_sample(make_run):
    (run,) = model.build_report([make_run({"a": 0.8}, epochs=1, changed_code=["train.py"])]).runs
    assert list(run.notices) == ["Changed code."]
    assert "train.py" in render_markdown(model.build_report([run.folder]))
    assert "Not the full data" not in render_markdown(model.build_report([run.folder]))
