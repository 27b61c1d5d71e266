from itertools import combinations

import numpy as np
import pytest

from ddl.reports import html, model, plotting
from ddl.reports.sections.curves import panel_figures, run_panels
from ddl.reports.sections.results import interval_strips

from .synthetic import SAMPLE

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
EYES = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
PALETTES = {"#ffffff": plotting.LIGHT, "#14171b": plotting.DARK}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("background", PALETTES)
def test_colours_stand_out_from_their_background(background):
    for colour in PALETTES[background]:
        darker, lighter = sorted(float(XYZ[1] @ linear(c)) for c in (colour, background))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour


@pytest.mark.parametrize("background", PALETTES)
@pytest.mark.parametrize("eyes", EYES)
def test_colours_stay_apart_for_the_colour_blind(background, eyes):
    for a, b in combinations(PALETTES[background], 2):
        apart = np.linalg.norm(lab(EYES[eyes] @ linear(a)) - lab(EYES[eyes] @ linear(b)))
        assert apart >= 15, f"{a} and {b} are {apart:.1f} apart (CIE 1976), which is hard to tell in a thin line"


REFERENCE = {"source": "s", "metric": "best val/accuracy", "tolerance": 0.02, "values": {"a": 0.8}}
FIXED = {"epochs": 2, "spread": 0.0, "alter": lambda c, seed, epoch, m: m | {"val/accuracy": {"a": 0.8, "b": 0.6}[c] + seed / 100}}


def test_strips_share_one_scale(make_run):
    run = model.build_report([make_run({"a": 0.8, "b": 0.6}, reference=REFERENCE, **FIXED)]).runs[0]
    strips = interval_strips(run.configurations, "best val/accuracy", run.reference)
    a, b = strips.rows["a"], strips.rows["b"]
    width = strips.right - strips.left
    assert strips.left < 0.6
    assert strips.right > 0.82
    assert a.mean - b.mean == pytest.approx(100 * 0.2 / width, abs=0.02)
    assert a.low < a.mean < a.high
    assert a.reference == pytest.approx(100 * (0.8 - strips.left) / width, abs=0.02)
    assert a.allowed[1] - a.allowed[0] == pytest.approx(100 * 0.04 / width, abs=0.02)
    assert (b.reference, b.allowed) == (None, None)
    assert len(a.dots) == 3


def test_an_interval_that_continues_beyond_the_scale_is_marked(make_run, tmp_path):
    values = {("a", 0): 0.7, ("a", 1): 0.8, ("b", 0): 0.75, ("b", 1): 0.75}
    far = {"epochs": 2, "spread": 0.0, "alter": lambda c, seed, epoch, m: m | {"val/accuracy": values[c, seed]}}
    report = model.build_report([make_run({"a": 0.8, "b": 0.6}, seeds=(0, 1), **far)])
    run = report.runs[0]
    strips = interval_strips(run.configurations, "best val/accuracy", None)
    assert (strips.rows["a"].beyond, strips.rows["b"].beyond) == ((True, True), (False, False))
    html.write_html(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('<polyline class="beyond"') == 2
    assert "an arrowhead where the interval continues beyond the scale" in page


def test_no_tolerance_is_drawn_where_nothing_may_be_compared(make_run):
    run = model.build_report([make_run({"a": 0.8, "b": 0.6}, reference=REFERENCE, data=SAMPLE, **FIXED)]).runs[0]
    assert interval_strips(run.configurations, "best val/accuracy", run.reference).rows["a"].allowed is None
    assert interval_strips(run.configurations, "last val/accuracy", run.reference).rows["a"].reference is None, "another measure's value"


def test_panels_of_one_quantity_share_their_range_and_bands_are_cut(make_run):
    def spread(configuration, seed, epoch, metrics):
        return metrics | {"val/loss": metrics["val/loss"] * (1, 2, 4)[seed]}

    run = model.build_report([make_run({"a": 0.8, "b": 0.6}, epochs=3, alter=spread)]).runs[0]
    drawn = {figure["metric"]: figure for figure in panel_figures(run_panels(run), run.shown)}
    assert list(drawn) == ["val/accuracy", "train/accuracy", "val/loss", "train/loss"]
    assert drawn["val/accuracy"]["linear"] == drawn["train/accuracy"]["linear"]
    assert drawn["val/accuracy"]["linear"] != drawn["val/loss"]["linear"]
    for figure in drawn.values():
        measured = [y for trace in figure["data"] if trace["meta"]["role"] != "band" for y in trace["y"] if y is not None]
        assert figure["linear"][0] < min(measured) < max(measured) < figure["linear"][1]
    bands = [trace for trace in drawn["val/loss"]["data"] if trace["meta"]["role"] == "band"]
    assert min(y for band in bands for y in band["y"]) > 0, "or a logarithmic axis has nothing to draw"
    roles = [(trace["meta"]["role"], trace["meta"]["series"]) for trace in drawn["val/loss"]["data"]]
    assert roles == [("band", 0), ("seed", 0), ("mean", 0), ("band", 1), ("seed", 1), ("mean", 1)]
    for trace, positions in zip(drawn["val/loss"]["data"], drawn["val/loss"]["positions"], strict=True):
        assert list(positions) == ["seconds"]
        assert len(trace["x"]) == len(trace["y"]) == len(positions["seconds"])


def test_a_metric_that_goes_below_zero_has_no_logarithmic_range(make_run):
    def negative(configuration, seed, epoch, metrics):
        return {"val/accuracy": -1.0 * epoch}

    run = model.build_report([make_run({"a": 0.8}, epochs=3, alter=negative)]).runs[0]
    (figure,) = panel_figures(run_panels(run), run.shown)
    assert figure["log"] is None
    assert figure["linear"][0] < -3


def test_two_seeds_have_no_band(make_run):
    run = model.build_report([make_run({"a": 0.8}, seeds=[0, 1], epochs=3)]).runs[0]
    figure = panel_figures(run_panels(run), run.shown)[0]
    assert [trace["meta"]["role"] for trace in figure["data"]] == ["seed", "mean"]
    assert "n = 2" in figure["data"][1]["text"][0]
    assert "[" in figure["data"][1]["text"][0], "hovering still tells the interval"
