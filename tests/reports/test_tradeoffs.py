import pytest

from ddl.reports import model
from ddl.reports.sections.results import costs_caption
from ddl.reports.sections.tradeoffs import find_tradeoffs, pareto_front, tradeoff_figures

from ..ledgers import edited_ledger


def test_the_front_by_hand():
    # (cost, loss): 2 is beaten by 0, 4 by 1 at the same loss; 5 equals 1, so neither beats the other.
    assert pareto_front([(1, 5), (2, 3), (1, 6), (4, 1), (3, 3), (2, 3)]) == [True, True, False, True, False, True]
    assert pareto_front([]) == []


COSTS = {"fast": 1.0, "middle": 2.0, "slow": 4.0}


def tradeoffs(run):
    return find_tradeoffs(run.configurations, run.costs, run.primary, run.mode)


@pytest.fixture
def run(make_run):
    def measure(configuration, seed, epoch, metrics):
        cost = COSTS[configuration]
        return {
            "val/accuracy": {"fast": 0.7, "middle": 0.6, "slow": 0.8}[configuration] + seed / 100,
            "latency/p50_ms_batch1": cost + seed / 10, "time/images_per_s": 1000 / cost, "device/energy_wh": cost / 10,
            "device/gpu_utilisation_percent": 50 + cost, "device/memory_gb": 3.0,
        }  # fmt: skip

    return model.build_report([make_run(dict.fromkeys(COSTS, 0.0), epochs=2, alter=measure)]).runs[0]


def test_costs_that_differ_are_planes_and_utilisation_is_none(run):
    assert [t.cost for t in tradeoffs(run)] == ["latency/p50_ms_batch1", "device/energy_wh", "time/images_per_s"]
    assert [t.more_is_better for t in tradeoffs(run)] == [False, False, True]
    for tradeoff in tradeoffs(run):
        assert {p.configuration: p.front for p in tradeoff.points} == {"fast": True, "middle": False, "slow": True}
    latency = tradeoffs(run)[0].points[0]
    assert (latency.cost.mean, latency.cost.n) == (pytest.approx(1.1), 3)
    assert latency.cost.low == pytest.approx(1.1 - 4.302653 * 0.1 / 3**0.5, rel=1e-5)


def test_a_plane_has_both_intervals_and_joins_the_front(run):
    drawn = tradeoff_figures(tradeoffs(run), run.shown, run.primary)[0]
    assert (drawn["title"], drawn["value"]) == ("latency p50, batch 1 (ms)", "best validation accuracy")
    joined, *points = drawn["data"]
    assert (joined["x"], joined["y"]) == (pytest.approx([1.1, 4.1]), pytest.approx([0.71, 0.81]))
    assert [p["name"] for p in points] == list(COSTS)
    assert [p["marker"]["symbol"][0] for p in points] == ["circle", "circle-open", "circle"]
    assert points[0]["error_x"]["array"][0] == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-4)
    assert "on the front" in points[0]["text"][0]
    assert "latency p50, batch 1 (ms): 1.1000 [" in points[0]["text"][0]
    assert "(n = 3)" in points[0]["text"][0]


def test_one_seed_has_no_whiskers(make_run):
    folder = make_run({"a": 0.8, "b": 0.7}, seeds=[0], epochs=2, alter=lambda c, s, e, m: m | {"latency/p50_ms": 1.0 + (c == "a")})
    run = model.build_report([folder]).runs[0]
    points = tradeoff_figures(tradeoffs(run), run.shown, run.primary)[0]["data"][1:]
    assert [(p["error_x"], p["error_y"]) for p in points] == [({"visible": False}, {"visible": False})] * 2


def test_a_stacked_trial_has_its_part_of_the_time_and_the_whole_speed(make_run):
    """Four trials as one model take 8 s together where a trial alone takes 4: they are cheaper."""
    folder = make_run(
        {"stacked": 0.7, "alone": 0.7}, epochs=1, alter=lambda c, s, e, m: m | {"time/images_per_s": 50.0 if c == "stacked" else 100.0}
    )
    with edited_ledger(folder) as db:
        db.execute("UPDATE trials SET metadata = json_set(metadata, '$.stacked', 4) WHERE configuration = 'stacked'")
        db.execute(
            "UPDATE metrics SET elapsed_s = CASE WHEN trial_id IN (SELECT trial_id FROM trials WHERE configuration = 'stacked') THEN 8 ELSE 4 END"
        )
    (run,) = model.build_report([folder]).runs
    costs = {c.name: (c.costs["elapsed_s"], c.costs["time/images_per_s"]) for c in run.configurations}
    assert costs == {"stacked": (2.0, 200.0), "alone": (4.0, 100.0)}
    assert "have an equal part of its training time, and its whole speed: stacked (up to 4 trials)." in costs_caption(run)
    assert list(run.frame["stacked"]) == [4, 4, 4, 1, 1, 1]


def test_energy_per_image_is_no_speed(make_run):
    folder = make_run({"a": 0.8, "b": 0.7}, epochs=1, alter=lambda c, s, e, m: m | {"device/energy_j_per_image": 1.0 + (c == "a")})
    found = {t.cost: t.more_is_better for t in tradeoffs(model.build_report([folder]).runs[0])}
    assert found["device/energy_j_per_image"] is False
