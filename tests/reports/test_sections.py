"""A new section is one module, one template and one name in `SECTIONS`, as in docs/adding-a-report-section.md."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from ddl.reports import html, model
from ddl.reports.sections import SECTIONS

from ..ledgers import ReportingLedger
from .synthetic import SAMPLE

ROOT = Path(__file__).parents[2]
DOCUMENTED = re.compile(r"^`(ddl/\S+)`:\n\n```\w+\n(.*?)^```", re.M | re.S)

RENDER = """
import sys
from pathlib import Path
import ddl.tracking  # sets what wandb reads when it is imported
from ddl.reports import html, model, wandb_report
report = model.build_report([Path(sys.argv[1])])
html.write_html(report, Path("report.html"))
blocks = wandb_report.build_wandb_report(report, wandb_report.WandbGroup("someone", "project", "group"), str).blocks
Path("wandb.txt").write_text("\\n".join(str(getattr(block, "text", "")) for block in blocks))
"""


def test_the_documented_section_appears_in_both_reports(make_run, tmp_path):
    shutil.copytree(ROOT / "ddl", tmp_path / "ddl", ignore=shutil.ignore_patterns("__pycache__"))
    files = DOCUMENTED.findall((ROOT / "docs/adding-a-report-section.md").read_text())
    assert [Path(name).suffix for name, _ in files] == [".py", ".j2"], "one module and its template"
    for name, content in files:
        (tmp_path / name).write_text(content)
    registry = tmp_path / "ddl/reports/sections/__init__.py"
    registry.write_text(re.sub(r'"results",', '"results", "extremes",', registry.read_text()))

    run = make_run({"none": 0.8, "light": 0.7}, epochs=2, data=SAMPLE, alter=lambda c, seed, e, m: m | {"val/accuracy": 0.5 + seed / 10})
    subprocess.run([sys.executable, "-c", RENDER, str(run)], cwd=tmp_path, check=True)
    page = (tmp_path / "report.html").read_text()
    assert page.index("<h2>Results</h2>") < page.index("<h2>Extremes over seeds</h2>") < page.index("<h2>Curves</h2>")
    assert re.search(r"none</th><td class=\"n\">0\.5000</td><td class=\"n\">0\.7000</td>", page)
    blocks = (tmp_path / "wandb.txt").read_text()
    assert "Extremes over seeds" in blocks
    assert "| none | 0.5000 | 0.7000 |" in blocks


def test_every_template_and_script_of_a_section_is_used_once():
    templates = {section.template for section in SECTIONS}
    assert len(templates) == len(SECTIONS)
    assert templates | {"report.html.j2", "run.html.j2", "overview.html.j2", "methods.html.j2"} == {
        path.name for path in html._TEMPLATES.glob("*.j2")
    }
    scripts = [section.script for section in SECTIONS if section.script]
    assert sorted([*scripts, "page.js", "start.js"]) == sorted(path.name for path in html._TEMPLATES.glob("*.js"))


def test_a_section_without_data_is_left_out(make_run):
    endings = {("none", seed): ("planned", "") for seed in range(3)}
    page = html.render_html(model.build_report([make_run({"none": 0.8}, endings=endings)]))
    assert "<h2>Trials</h2>" in page
    assert not any(f"<h2>{heading}</h2>" in page for heading in ("Curves", "Trade-offs", "Figures", "Samples", "Paired comparisons"))


def test_the_plan_says_which_trials_were_trained_as_one_model(make_run):
    run = make_run({"none": 0.8})
    stack = {"configuration": "none", "alone_s": 90.0, "stacked_s": 9.0, "members": 4, "used": True}
    with ReportingLedger(run) as ledger:
        plan = ledger.run()["plan"]
        ledger.note(plan=plan | {"stacks": [stack, stack | {"members": 16, "stacked_s": 120.0, "used": False}]})
        ledger.started(ledger.trials()[0].trial_id, 0, "", {"stacked": 4})
    page = html.render_html(model.build_report([run]))
    assert "have an equal part of its training time, and its whole speed: none (up to 4 trials)." in page
    assert "up to 4 trials (none, ...), 9.0 s each instead of 1 min 30 s; not used: 16 trials (none, ...), 2 min each" in page
    assert "The training time of a trial is that of all trials of its model." in page
