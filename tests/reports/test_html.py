import json
import re

import pytest

from ddl.reports import html, model

from ..ledgers import ReportingLedger
from .synthetic import GENUINE, SAMPLE, create_agents, leave, png

FINAL = {"none": 0.80, "light": 0.765}
HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">{{ 7 * 7 }}"


def page(folder, tmp_path) -> str:
    html.write_html(model.build_report([folder]), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def text(page: str) -> str:
    """The page without its scripts and styles."""
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)


def test_text_from_data_is_escaped_everywhere(make_run, tmp_path):
    folder = make_run(
        {HOSTILE: 0.8, "none": 0.7},
        epochs=2,
        data=SAMPLE | {"name": HOSTILE, "source": HOSTILE, "fallback_for": HOSTILE, "sha256": HOSTILE},
        endings={(HOSTILE, 1): ("failed", HOSTILE)},
        reference={"source": HOSTILE, "metric": "best val/accuracy", "tolerance": 0.02, "values": {HOSTILE: 0.8, "none": 0.7}, "note": HOSTILE},
        alter=lambda configuration, seed, epoch, metrics: metrics | {f"val/{HOSTILE}": 1.0, f"time/{HOSTILE}": 1.0},
        scale=HOSTILE,
        command=HOSTILE,
        commit=HOSTILE,
        versions={HOSTILE: HOSTILE},
        host={"cpu": HOSTILE, "gpus": [HOSTILE]},
        plan={"executor": HOSTILE, "probes": [{"configuration": HOSTILE, "precision": HOSTILE}]},
    )  # fmt: skip
    written = page(folder, tmp_path)
    assert written.count("document.title") > 20, "the hostile text must be on the page for this test to mean anything"
    assert "<script>document" not in written
    assert "</script><script>document" not in written
    assert "<img src=x" not in written
    assert "49" not in re.findall(r"onerror.{0,60}", written), "the text must not be taken for a template"
    assert "{{ 7 * 7 }}" in written
    island = re.search(r'<script type="application/json" id="r0-curves">(.*?)</script>', written, re.S).group(1)
    assert "<" not in island
    assert json.loads(island)[0]["data"][0]["name"].startswith("&lt;/script&gt;"), "Plotly reads HTML in names"


def test_one_file_with_plotly_once_and_no_address_to_load_from(make_run, tmp_path):
    written = page(make_run(FINAL, epochs=2), tmp_path)
    assert written.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?!data:)", text(written))
    assert "default-src 'none'" in written
    assert len(written) < 6e6


@pytest.mark.parametrize(
    ("data", "named"),
    [(SAMPLE, "CIFAR-10 (sample), bundled sample"), (GENUINE | {"fallback_for": "ImageNet"}, "CIFAR-10 (fallback data set for ImageNet)")],
)
def test_every_caption_names_a_sample_or_a_fallback_data_set(make_run, tmp_path, data, named):
    folder = make_run(FINAL, epochs=2, data=data)
    leave(folder, "0000-synthetic", "confusion.png", png(16))
    written = text(page(folder, tmp_path))
    captions = re.findall(r"<caption>.*?</caption>|<figcaption>.*?</figcaption>|<p class=\"key\">Lines.*?</p>", written, re.S)
    assert len(captions) == 8, "results, cost, curves, comparisons, budget, trials, the image, the plan"
    assert all(named in c for c in captions)
    assert "Not the full data." in written


def test_genuine_data_have_no_notice(make_run, tmp_path):
    written = text(page(make_run(FINAL, epochs=2), tmp_path))
    assert 'class="notice"' not in written
    assert "data-note" not in written


def test_any_state_of_a_run_renders(make_run, tmp_path):
    planned = {(name, s): ("planned", "") for name in FINAL for s in range(3)}
    bare = {"plan": None, "host": {}, "versions": {}, "commit": "", "overrides": []}
    assert "No trial has finished yet." in page(make_run(FINAL, endings=planned, **bare), tmp_path)
    mixed = {("none", 0): ("failed", ""), ("none", 1): ("running", ""), ("light", 2): ("stopped", "by the scheduler")}
    written = text(page(make_run(FINAL, seeds=[0, 1, 2], epochs=1, endings=mixed), tmp_path))
    assert "no reason recorded" in written
    assert '1<span class="status failed"> of 3; 1 failed, 1 running</span>' in written


def test_what_a_trial_left_behind_follows_its_reason(make_run, tmp_path):
    folder = make_run(FINAL, epochs=1, endings={("none", 0): ("failed", "meant to fail")})
    with ReportingLedger(folder) as ledger:
        for trial in ledger.trials()[:2]:
            ledger.measured(trial.trial_id, 0, None, 0.0, {}, {"left_behind": "threads that still run: poller"})
    written = page(folder, tmp_path)
    assert '<td class="reason">meant to fail; left behind: threads that still run: poller</td>' in written
    assert '<td class="reason">left behind: threads that still run: poller</td>' in written
    assert written.count("left behind") == 2


def test_several_runs_share_one_page(make_run, tmp_path):
    html.write_html(
        model.build_report([make_run(FINAL, epochs=2), make_run(FINAL, epochs=2, scale="sample", data=SAMPLE)]), tmp_path / "r.html"
    )
    written = (tmp_path / "r.html").read_text()
    assert written.count("plotly.js v") == 1
    assert 'id="r0-curves"' in written
    assert 'id="r1-curves"' in written
    assert "augmentation: comparison of runs" in written


def test_the_difference_of_two_configurations_is_worded(make_run, tmp_path):
    same = make_run({"a": 0.8, "b": 0.8}, epochs=2, spread=0.05)
    assert "difference not significant" in text(page(same, tmp_path))


def test_milestones_say_how_many_reached_them(tmp_path):
    written = text(page(create_agents(tmp_path / "agents"), tmp_path))
    assert '<th scope="col" class="n" title="train/episodes_to_solved">episodes to solved</th>' in written
    assert re.search(r"163\.9</span>.{0,80}7 of 8", written)


def test_names_are_readable_with_the_raw_one_in_a_title(make_run, tmp_path):
    written = text(page(make_run(FINAL, epochs=2), tmp_path))
    assert '<th scope="col" class="n" title="best val/accuracy">best validation accuracy</th>' in written
    assert '<h3 title="val/loss">validation loss' in written
    assert '<th scope="col" class="n" title="time/images_per_s">images / s</th>' in written


def test_only_a_report_of_a_running_sweep_reloads_itself(make_run):
    running = make_run(FINAL, epochs=2, endings={("light", 2): ("running", "")})
    written = html.render_html(model.build_report([running]), refresh_s=20.4)
    assert '<meta http-equiv="refresh" content="20">' in written
    assert "5 of 6 trials ended" in written
    assert "refresh" not in text(html.render_html(model.build_report([running]))).split("</head>")[0]


def test_every_table_links_to_its_method_on_the_page(make_run, tmp_path):
    agents, many = create_agents(tmp_path / "agents"), make_run(FINAL, epochs=2)
    written = text(html.render_html(model.build_report([agents, many])))
    anchors = re.findall(r'id="(methods-\w+)"', written)
    assert len(anchors) == len(set(anchors))
    captions = re.findall(r"<caption>.*?</caption>", written, re.S)
    assert len(captions) == 1 + 2 * 5 + 2, "the overview; results, cost, comparisons, budget and trials; the milestones and the plan"
    for caption in captions:
        assert re.findall(r'href="#(methods-\w+)"', caption)
    assert set(re.findall(r'href="#(methods-\w+)"', written)) <= set(anchors)
    cited = set(re.findall(r"\[(?:\w+ \d{4}(?:, )?)+\]", written[written.index('id="methods"') :]))
    named = set(re.findall(r"<li>\[(\w+ \d{4})\]", written))
    assert {name for group in cited for name in group[1:-1].split(", ")} == named
