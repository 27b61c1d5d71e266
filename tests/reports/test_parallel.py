import re

import pytest

from ddl.reports import html, model
from ddl.reports.sections.parallel import parallel_coordinates


def swept(*values):
    return {f"c{i}": dict(zip(("task.lr", "task.width", "task.kernel"), v, strict=True)) for i, v in enumerate(values)}


def parallel(make_run, configurations, **options):
    final = {name: 0.5 + i / 10 for i, name in enumerate(configurations)}
    exact = {"spread": 0.0, "alter": lambda c, s, e, m: m | {"val/accuracy": final[c]}}
    run = model.build_report([make_run(final, epochs=2, swept=configurations, **exact, **options)]).runs[0]
    return parallel_coordinates(run.configurations, run.primary, run.mode)


def test_three_hyperparameters_that_vary_are_axes_next_to_the_measure(make_run):
    drawn = parallel(make_run, swept((0.1, 8, "tanh"), (0.01, 16, "relu"), (0.001, 12, "tanh")))
    assert [(axis.name, axis.kind) for axis in drawn.axes] == [
        ("task.lr", "logarithmic"), ("task.width", ""), ("task.kernel", "categories"), ("best val/accuracy", ""),
    ]  # fmt: skip
    assert [line.configuration for line in drawn.lines] == ["c0", "c1", "c2"], "the best comes last, on top"
    assert drawn.lines[1].positions == pytest.approx((0.5, 1.0, 0.75, 0.5))
    assert drawn.lines[1].texts == ("0.01", "16", "relu", "0.6000")
    assert drawn.axes[0].ticks == ((pytest.approx(0.0), "0.001"), (pytest.approx(0.5), "0.01"), (pytest.approx(1.0), "0.1"))
    assert [text for _, text in drawn.axes[2].ticks] == ["tanh", "relu"]


def test_fewer_that_vary_have_no_such_view(make_run):
    assert parallel(make_run, swept((0.1, 8, "tanh"), (0.01, 16, "tanh"))) is None


def test_values_of_several_kinds_are_categories(make_run):
    drawn = parallel(make_run, swept((0.1, 8, [1, 2]), (0.01, "auto", None), (0.2, True, "x")))
    assert [axis.kind for axis in drawn.axes[:3]] == ["", "categories", "categories"]
    assert drawn.lines[0].texts[2] == "[1, 2]"


def test_nothing_is_drawn_before_anything_is_measured(make_run):
    configurations = swept((0.1, 8, "tanh"), (0.01, 16, "relu"))
    endings = {(name, seed): ("planned", "") for name in configurations for seed in range(3)}
    assert parallel(make_run, configurations, endings=endings) is None


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_best_line_is_blue(make_run, mode):
    """`--p` is the part of the colour of the best."""
    final = {"c0": 0.5, "c1": 0.6, "c2": 0.7}
    sweep = {"name": "s", "metric": {"name": "val/accuracy", "mode": mode}, "keys": []}
    exact = {"spread": 0.0, "alter": lambda c, s, e, m: m | {"val/accuracy": final[c]}, "sweep": sweep}
    folder = make_run(final, epochs=1, swept=swept((0.1, 8, "tanh"), (0.01, 16, "relu"), (0.001, 12, "tanh")), **exact)
    page = html.render_html(model.build_report([folder]))
    parts = dict(reversed(line) for line in re.findall(r'style="--p: (\d+)%" data-text="(c\d):', page))
    assert parts == ({"c0": "0", "c1": "50", "c2": "100"} if mode == "max" else {"c0": "100", "c1": "50", "c2": "0"})
