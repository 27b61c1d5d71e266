"""Allocations, timing probes and the expected duration of a sweep."""

import dataclasses
import itertools
import math
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ddl.config import ConfigError
from ddl.sweeps import choose_plan, plan
from ddl.sweeps.allocation import Allocation, allocate, check_gpus, reallocate, recorded_allocation
from ddl.sweeps.capacity import Capacity, Node
from ddl.sweeps.choose_plan import Planned
from ddl.sweeps.plan import makespan
from ddl.tasks.task import with_precision
from ddl.timings import TimingProbe, Timings

LAPTOP = Capacity((Node(8),))
WORKSTATION = Capacity((Node(16, 4),))
CLUSTER = Capacity((Node(10, 3),) * 3)
MIXED = Capacity((Node(64), Node(8, 1), Node(16, 2)))
"""A head without GPUs, and two kinds of node with GPUs."""
NO_GPU = "resources.gpus: 1 per worker, but no node has more than 0. Set it to 0 to train on the CPU."


@pytest.fixture
def allocated(ask):
    """A trial's allocation of a capacity and the problems, for overrides on the command line."""

    def allocated(capacity: Capacity, trials: int, *overrides: str, inline: bool = False) -> tuple[Allocation, list[str]]:
        asked = ask(overrides=["task.batch_size=120", *overrides])
        assert asked.problems == []
        problems: list[str] = []
        return allocate(asked.sweep.launch, capacity, trials, inline, problems), problems

    return allocated


# Allocation


@pytest.mark.parametrize(
    ("capacity", "trials", "overrides", "cpus", "gpus", "concurrent"),
    [
        (LAPTOP, 2, [], 4, 0, 2),
        (LAPTOP, 3, [], 2, 0, 3),
        (LAPTOP, 100, [], 1, 0, 8),
        (LAPTOP, 1, [], 8, 0, 1),
        (LAPTOP, 100, ["resources.cpus=3"], 3, 0, 2),
        (LAPTOP, 100, ["resources.cpus=8"], 8, 0, 1),
        (WORKSTATION, 100, [], 4, 1, 4),
        (WORKSTATION, 2, [], 4, 1, 2),
        (WORKSTATION, 2, ["resources.cpus=8"], 8, 1, 2),
        (WORKSTATION, 100, ["resources.gpus=0.5"], 2, 0.5, 8),
        (WORKSTATION, 100, ["resources.gpus=0.1"], 1, 0.1, 16),
        (WORKSTATION, 100, ["resources.gpus=0"], 1, 0, 16),
        (WORKSTATION, 100, ["resources.cpus=6"], 6, 1, 2),
        (CLUSTER, 100, [], 3, 1, 9),
        (MIXED, 100, [], 4, 1, 3),
        (MIXED, 100, ["resources.gpus=0.5"], 4, 0.5, 6),
        (MIXED, 100, ["resources.cpus=9"], 9, 1, 1),
        (MIXED, 4, ["resources.gpus=0"], 16, 0, 4),
        (MIXED, 100, ["resources.gpus=0"], 1, 0, 88),
    ],
)
def test_a_trials_allocation(allocated, capacity, trials, overrides, cpus, gpus, concurrent):
    found, problems = allocated(capacity, trials, *overrides)
    assert problems == []
    assert (found.cpus, found.gpus, found.concurrent) == (cpus, gpus, concurrent)


def test_a_fraction_of_a_gpu_is_on_one_gpu(allocated):
    assert allocated(WORKSTATION, 100, "resources.gpus=0.6")[0].concurrent == 4, "not six: two of them fit on no GPU"
    assert allocated(WORKSTATION, 100, "resources.gpus=0.4", "resources.cpus=1")[0].concurrent == 8, "not ten"


def test_a_worker_is_on_one_node(allocated):
    assert allocated(CLUSTER, 100, "resources.cpus=6", "resources.gpus=0")[0].concurrent == 3, "not five"


def test_inline_is_one_at_a_time_with_all_the_cores(allocated):
    found, problems = allocated(LAPTOP, 100, inline=True)
    assert (found.cpus, found.concurrent, problems) == (8, 1, [])


@pytest.mark.parametrize("capacity", [LAPTOP, WORKSTATION, CLUSTER, MIXED])
@pytest.mark.parametrize("trials", [1, 2, 3, 7, 50])
def test_default_allocations_never_exceed_the_capacity(allocated, capacity, trials):
    found, problems = allocated(capacity, trials)
    assert problems == []
    assert 1 <= found.concurrent <= trials
    assert found.cpus * found.concurrent <= capacity.cpus
    assert found.gpus * found.concurrent <= capacity.gpus
    assert capacity.slots(found.cpus, found.gpus) >= found.concurrent, "Ray would wait for ever"


@pytest.mark.parametrize(
    ("capacity", "overrides", "said"),
    [
        (LAPTOP, ["resources.cpus=9"], "resources.cpus: 9 per worker, "),
        (LAPTOP, ["resources.gpus=1"], "resources.gpus: 1 per worker, "),
        (LAPTOP, ["resources.gpus=0.5"], "resources.gpus: 0.5 per worker, "),
        (CLUSTER, ["resources.cpus=11"], "resources.cpus: 11 per worker, "),
        (MIXED, ["resources.cpus=17"], "resources.cpus: cpus=17 and gpus=1 per worker, but nodes with a GPU have at most 16 cores. "),
        (MIXED, ["resources.cpus=65"], "resources.cpus: 65 per worker, "),
    ],
)
def test_a_request_that_no_node_can_fulfil_is_refused_with_a_fix(allocated, capacity, overrides, said):
    _, problems = allocated(capacity, 10, *overrides)
    (problem,) = problems
    assert problem.startswith(said)
    assert re.search(r"(Request at most \d+|Set it to 0 to train on the CPU)\.$", problem)


def test_allocation_of_several_workers(allocated):
    found, problems = allocated(WORKSTATION, 100, "resources.num_workers=2")
    assert problems == []
    assert (found.num_workers, found.cpus, found.gpus, found.concurrent) == (2, 4, 1, 2)
    assert allocated(CLUSTER, 100, "resources.num_workers=4")[0].concurrent == 2
    assert allocated(LAPTOP, 1, "resources.num_workers=2")[0].cpus == 4
    found, problems = allocated(CLUSTER, 1, "resources.num_workers=4", "resources.gpus=0")
    assert (found.cpus, problems) == (5, []), "two of them on one node"


@pytest.mark.parametrize(
    ("capacity", "overrides", "room"),
    [
        (WORKSTATION, ["resources.num_workers=5"], 4),
        (WORKSTATION, ["resources.num_workers=5", "resources.gpus=0.6"], 4),
        (MIXED, ["resources.num_workers=4"], 3),
        (LAPTOP, ["resources.num_workers=3", "resources.cpus=4"], 2),
        (CLUSTER, ["resources.num_workers=4", "resources.cpus=6", "resources.gpus=0"], 3),
    ],
)
def test_more_workers_than_fit(allocated, capacity, overrides, room):
    _, (problem,) = allocated(capacity, 10, *overrides)
    assert problem.startswith("resources.num_workers: ")
    assert f" each, but only {room} fit. " in problem


def test_as_many_workers_as_fit(allocated):
    found, problems = allocated(WORKSTATION, 100, "resources.num_workers=[1,3]")
    assert problems == []
    assert (found.min_workers, found.num_workers, found.cpus, found.gpus, found.concurrent) == (1, 3, 4, 1, 1)
    found, problems = allocated(LAPTOP, 100, "resources.num_workers=[2,6]", "resources.cpus=3")
    assert (found.min_workers, found.num_workers, found.concurrent, problems) == (2, 6, 1, []), "the cluster may grow"
    _, (problem,) = allocated(WORKSTATION, 100, "resources.num_workers=[5,6]")
    assert problem == (
        "resources.num_workers: 5 workers with cpus=1 and gpus=1 each, but only 4 fit. Request fewer workers, or less for each."
    )


def test_an_allocation_is_read_back_from_the_ledger(allocated, ask, make):
    found, _ = allocated(LAPTOP, 100, "resources.num_workers=[2,4]", "resources.strategy=fsdp")
    made = dataclasses.replace(make(rates(ask, 0.1), Probing({0.1: {}}), concurrent=1), allocation=found)
    assert recorded_allocation(made.record("ray", 2)) == found
    assert found.assignment(rates(ask, 0.1)[0], Path(), 1.0).strategy == "fsdp"


def test_a_worker_on_several_gpus_or_several_workers_on_one_are_refused(ask):
    def refusal(*overrides: str) -> list[str]:
        problems: list[str] = []
        check_gpus(ask(overrides=overrides).sweep.launch, problems)
        return problems

    (problem,) = refusal("resources.gpus=2")
    assert problem.endswith("set resources.num_workers=2 and resources.gpus=1.")
    (problem,) = refusal("resources.num_workers=[1,2]", "resources.gpus=0.5")
    assert "NCCL refuses" in problem
    assert refusal("resources.num_workers=2", "resources.gpus=1") == refusal("resources.gpus=0.5") == refusal() == []


def test_a_resumed_run_keeps_its_allocation_where_it_fits_and_gets_another_where_it_does_not(allocated, ask):
    launch = ask().sweep.launch
    recorded, _ = allocated(WORKSTATION, 100)
    problems: list[str] = []
    assert reallocate(recorded, launch, CLUSTER, 100, False, problems) == dataclasses.replace(recorded, concurrent=6)
    assert reallocate(recorded, launch, WORKSTATION, 3, False, problems) == dataclasses.replace(recorded, concurrent=3)
    assert reallocate(recorded, launch, LAPTOP, 100, False, problems) == allocated(LAPTOP, 100)[0], "no GPU here"
    assert reallocate(recorded, launch, Capacity((Node(64), Node(2, 1))), 9, False, problems).cpus == 2, "no node has both"
    assert problems == []
    asked_for = ask(overrides=["resources.gpus=1"]).sweep.launch
    reallocate(recorded, asked_for, LAPTOP, 100, False, problems)
    assert problems == [NO_GPU]


def test_the_reason_why_a_gpu_is_not_usable_is_part_of_the_refusal(allocated):
    _, (problem,) = allocated(Capacity((Node(8),), ("Tesla P100: too old.",)), 10, "resources.gpus=1")
    assert problem == ("resources.gpus: 1 per worker, but no node has more than 0. Tesla P100: too old. Set it to 0 to train on the CPU.")


def test_inline_is_one_process(allocated):
    _, (problem,) = allocated(LAPTOP, 10, "resources.num_workers=2", inline=True)
    assert problem.startswith("resources.num_workers: 2 workers need --executor ray")
    found, problems = allocated(LAPTOP, 10, "resources.num_workers=[1,4]", inline=True)
    assert (found.num_workers, problems) == (1, [])


def test_both_problems_are_reported_at_once(allocated):
    _, problems = allocated(LAPTOP, 10, "resources.cpus=9", "resources.gpus=1")
    assert problems == [NO_GPU, "resources.cpus: 9 per worker, but no node has more than 8. Request at most 8."]


# Makespan


def simulated(seconds: list[float], places: int) -> float:
    """The makespan by simulation of each moment at which a slot becomes free."""
    running: list[float] = []
    now, waiting = 0.0, list(seconds)
    while waiting or running:
        while waiting and len(running) < places:
            running.append(now + waiting.pop(0))
        now = min(running)
        running.remove(now)
    return now


@pytest.mark.parametrize("places", [1, 2, 3, 8])
def test_the_makespan_is_that_of_a_simulation(places):
    for lengths in itertools.product([0.5, 1.0, 3.0], repeat=4):
        assert makespan(lengths, places) == simulated(list(lengths), places)
    numbers = random.Random(0)
    for _ in range(50):
        lengths = [numbers.uniform(0, 10) for _ in range(numbers.randint(1, 30))]
        assert makespan(lengths, places) == pytest.approx(simulated(lengths, places))


def test_the_makespan_of_nothing_of_one_and_of_equal_ones():
    assert makespan([], 3) == 0.0
    assert makespan([7.0], 3) == 7.0
    assert makespan([2.0] * 7, 3) == 6.0
    assert makespan([1.0, 1.0, 9.0], 2) == 10.0, "in the order given, not the best"


# The plan as a whole


@dataclasses.dataclass
class Probing:
    """An executor with given step times in seconds, by learning rate and precision. A trial has 100 steps, or those in `steps`."""

    step_s: dict[float, dict[str, float]]
    steps: dict[float, int] = dataclasses.field(default_factory=dict)
    asked: list[tuple[list[float], list[str] | None]] = dataclasses.field(default_factory=list)
    first_compile_s: float = 0.0
    first_start_s: float = 0.0
    call_s: float = 0.0
    probe_s: float = 0.0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def capacity(self) -> Capacity:
        return LAPTOP

    def probe(self, packs, precisions, window_s):
        self.asked.append(([pack.first.task.lr for pack in packs], precisions))
        return [
            Timings(
                sorted(
                    (
                        TimingProbe(
                            name,
                            10.0,
                            step_s,
                            1.0,
                            0.0,
                            self.steps.get(pack.first.task.lr, 100),
                            2,
                            {"parameters": 1000},
                            first_compile_s=self.first_compile_s if "compiled" in name else 0.0,
                            first_start_s=self.first_start_s,
                            call_s=self.call_s,
                            probe_s=self.probe_s,
                        )
                        for name, step_s in self.step_s[pack.first.task.lr].items()
                        if precisions is None or name in precisions
                    ),
                    key=lambda probe: probe.step_s,
                ),
                self.failures,
                took_s=self.probe_s * len(self.step_s[pack.first.task.lr] if precisions is None else precisions),
            )
            for pack in packs
        ]


def rates(ask, *values: float, seeds: int = 2):
    asked = ask(overrides=[f"task.lr={','.join(map(str, values))}", f"seeds={seeds}"])
    assert asked.problems == []
    return asked.trials


@pytest.fixture
def make(tmp_path: Path):
    def make(trials, executor: Probing, concurrent: int, precision: str | None = None, to_sample: int = 0) -> plan.Plan:
        allocation = dataclasses.replace(
            Allocation(**dict.fromkeys([item.name for item in dataclasses.fields(Allocation)], 1)), concurrent=concurrent
        )
        return choose_plan.make_plan(Planned(trials, to_add=to_sample), allocation, executor, precision, tmp_path)

    return make


def test_every_configuration_is_timed_and_each_of_its_seeds_takes_as_long(ask, make):
    executor = Probing({0.1: {"fp32": 1.0}, 0.2: {"fp32": 3.0}})
    made = make(rates(ask, 0.1, 0.2), executor, concurrent=2)
    assert {name: one.step_s for name, one in made.probes.items()} == {"lr=0.1": 1.0, "lr=0.2": 3.0}
    assert made.eta_s == makespan([112.0, 312.0, 112.0, 312.0], 2)
    assert made.disk_bytes == (4 * 2 + 2) * 1000 * choose_plan.BYTES_PER_PARAMETER, "two of each, and one more of the two that train"
    assert executor.asked == [([0.1, 0.2], None)]


def test_all_configurations_get_the_one_precision_that_is_fastest_in_sum_and_agrees_in_each(ask, make):
    executor = Probing({0.1: {"fp32": 3.0, "bf16": 1.0, "wild": 0.1}, 0.2: {"fp32": 3.0, "bf16": 4.0}})
    made = make(rates(ask, 0.1, 0.2), executor, concurrent=2)
    assert made.precision == "bf16"
    assert {one.precision for one in made.probes.values()} == {"bf16"}
    executor = Probing({0.1: {"fp32": 3.0, "bf16": 1.0}, 0.2: {"fp32": 3.0, "bf16": 6.0}})
    assert make(rates(ask, 0.1, 0.2), executor, concurrent=2).precision == "fp32"


def test_a_long_step_of_a_short_trial_does_not_settle_the_precision(ask, make):
    executor = Probing({0.1: {"fp32": 3.0, "bf16": 1.0}, 0.2: {"fp32": 10.0, "bf16": 60.0}}, steps={0.2: 1})
    assert make(rates(ask, 0.1, 0.2), executor, concurrent=2).precision == "bf16"


def test_later_rounds_are_timed_in_fp32_and_in_the_precision_of_the_first(ask, make):
    executor = Probing({rate: {"fp32": 3.0, "tf32": 2.0, "bf16": 1.0} for rate in (0.1, 0.2, 0.3)})
    made = make(rates(ask, 0.1, 0.2, 0.3), executor, concurrent=2)
    later = ([0.3, 0.3], ["fp32", "bf16"])
    assert executor.asked == [([0.1, 0.2], None), later], "a half-empty machine would be faster than the sweep is"
    assert {one.precision for one in made.probes.values()} == {"bf16"}
    assert len(made.probes) == 3


def test_a_precision_that_was_a_little_slower_in_the_first_round_gets_a_second_chance(ask, make):
    executor = Probing({0.1: {"fp32": 1.0, "bf16": 1.2}, 0.2: {"fp32": 1.0, "bf16": 0.5}})
    assert make(rates(ask, 0.1, 0.2), executor, concurrent=1).precision == "bf16"
    slow = Probing({0.1: {"fp32": 1.0, "bf16": 1.6}, 0.2: {"fp32": 1.0}})
    assert make(rates(ask, 0.1, 0.2), slow, concurrent=1).precision == "fp32"
    assert slow.asked == [([0.1], None), ([0.2], ["fp32"])]


def test_a_precision_that_disagrees_with_fp32_in_a_later_round_is_given_up_for_all_configurations(ask, make):
    class Disagreeing(Probing):
        def probe(self, packs, precisions, window_s):
            disagrees = {"bf16": "its losses deviate from fp32's by 50%"} if packs[0].first.task.lr == 0.2 else {}
            return [dataclasses.replace(timings, failures=disagrees) for timings in super().probe(packs, precisions, window_s)]

    executor = Disagreeing({0.1: {"fp32": 3.0, "bf16": 1.0}, 0.2: {"fp32": 3.0}, 0.3: {"fp32": 3.0, "bf16": 1.0}})
    made = make(rates(ask, 0.1, 0.2, 0.3), executor, concurrent=1)
    assert executor.asked == [([0.1], None), ([0.2], ["fp32", "bf16"]), ([0.3], ["fp32"])]
    assert {one.precision for one in made.probes.values()} == {made.precision} == {"fp32"}
    assert made.failures == {"bf16": "lr=0.2: its losses deviate from fp32's by 50%"}, "a line of the plan"


def test_a_settled_precision_is_kept(ask, make):
    executor = Probing({0.1: {"fp32": 3.0, "bf16": 1.0}})
    assert make(rates(ask, 0.1), executor, concurrent=1, precision="fp32").precision == "fp32"
    assert executor.asked == [([0.1], ["fp32"])]


def test_of_many_configurations_some_are_timed_and_the_others_get_their_mean(ask, make):
    values = [float(number) for number in range(1, 21)]
    executor = Probing({value: {"fp32": value} for value in values})
    made = make(rates(ask, *values, seeds=1), executor, concurrent=4)
    assert len(made.probes) == choose_plan.MAX_PROBED == 8
    mean = 10 + 100 * 4.5 + 2
    assert made.eta_s == pytest.approx(makespan([12 + 100 * value for value in values[:8]] + [mean] * 12, 4))


def test_compiling_counts_in_the_choice_and_in_the_expected_duration(ask, make):
    executor = Probing({0.1: {"fp32": 1.0, "bf16 compiled": 0.9}}, first_compile_s=30.0)
    assert make(rates(ask, 0.1, seeds=1), executor, concurrent=1).precision == "fp32", "saves 10 s of 100 s"
    made = make(rates(ask, 0.1, seeds=4), executor, concurrent=1)
    assert made.precision == "bf16 compiled", "saves 40 s"
    assert made.eta_s == pytest.approx(4 * (12 + 90) + 30)


def test_a_precision_that_failed_is_named_with_its_reason(ask, make):
    executor = Probing({0.1: {"fp32": 1.0}, 0.2: {"fp32": 1.0}}, failures={"bf16 compiled": "InductorError: no C compiler"})
    made = make(rates(ask, 0.1, 0.2), executor, concurrent=1)
    assert made.failures == {"bf16 compiled": "lr=0.2: InductorError: no C compiler"}
    assert made.record("ray", 2)["failed_precisions"] == made.failures


def test_further_rounds_of_a_short_sweep_are_not_timed(ask, make):
    half = {lr: {"fp32": 0.5} for lr in (0.1, 0.2, 0.3)}
    short = make(rates(ask, 0.1, 0.2, seeds=1), Probing(half, probe_s=20.0), concurrent=1)
    assert list(short.probes) == ["lr=0.1"], "20 s to time a trial of 62 s"
    long = make(rates(ask, 0.1, 0.2, seeds=9), Probing(half, probe_s=20.0), concurrent=1)
    assert list(long.probes) == ["lr=0.1", "lr=0.2"]


def test_checkpoints_that_the_disk_cannot_hold_are_refused(ask, make, monkeypatch):
    trials, executor = rates(ask, 0.1, 0.2), Probing({0.1: {"fp32": 1.0}, 0.2: {"fp32": 1.0}})
    needed = make(trials, executor, concurrent=1).disk_bytes
    monkeypatch.setattr(choose_plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
    make(trials, executor, concurrent=1).check()
    monkeypatch.setattr(choose_plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(
        ConfigError, match=r"the checkpoints of the trials need about 108\.0 kB, but the disk of the runs has 108\.0 kB free"
    ):
        make(trials, executor, concurrent=1).check()


def test_the_duration_is_unknown_if_nothing_could_be_timed(ask, make):
    made = make(rates(ask, 0.1), Probing({0.1: {}}), concurrent=1)
    assert math.isnan(made.eta_s)
    assert made.record("inline", 2)["eta_s"] is None
    assert (made.precision, made.disk_bytes) == ("", 0)


def test_a_configuration_that_could_not_be_timed_gets_the_mean_of_the_others(ask, make):
    made = make(rates(ask, 0.1, 0.2, seeds=1), Probing({0.1: {"fp32": 1.0}, 0.2: {}}), concurrent=1)
    assert made.eta_s == 2 * 112.0
    assert made.precision == "fp32"
    assert made.disk_bytes == (2 * 2 + 1) * 1000 * choose_plan.BYTES_PER_PARAMETER


def test_trials_that_a_search_will_sample_get_the_mean(ask, make):
    made = make(rates(ask, 0.1, 0.2, seeds=1), Probing({0.1: {"fp32": 1.0}, 0.2: {"fp32": 3.0}}), concurrent=2, to_sample=4)
    assert made.eta_s == makespan([112.0, 312.0, *[212.0] * 4], 2)
    assert made.disk_bytes == (6 * 2 + 2) * 1000 * choose_plan.BYTES_PER_PARAMETER
    assert [made.seconds(trial) for trial in rates(ask, 0.1, 0.3, seeds=1)] == [112.0, 212.0]


def with_inference(ask, made: plan.Plan, trials, tmp_path: Path, later=(), to_add: int = 0, latency: str = "quick") -> plan.Plan:
    launch = ask(overrides=[f"latency={latency}", "stack=off"]).sweep.launch
    return choose_plan.with_stacks(made, Planned(trials, later, to_add), Probing({}), launch, tmp_path)


def test_the_first_trial_of_each_configuration_also_times_inference(ask, make, tmp_path):
    trials = rates(ask, 0.1, 0.2)
    made = make(trials, Probing({0.1: {"fp32": 1.0}, 0.2: {"fp32": 3.0}}, call_s=0.5), concurrent=1)
    # fp32 only, batches of 1 and 32, two rounds of four single calls and three in blocks, and two calls before.
    inference_s = 2 * (4 + 3) * 0.5 + 2 * 0.5 + 2 * (0.0625 + 0.046875) + 2 / 64
    assert with_inference(ask, made, trials, tmp_path).eta_s == pytest.approx(2 * (112 + 312) + 2 * inference_s, abs=0.1)
    timed = with_inference(ask, made, trials, tmp_path)
    assert [timed.seconds(trial) - made.seconds(trial) > 8.0 for trial in trials] == [True, True, False, False]
    assert [pack.seconds for pack in timed.packs(trials)] == [timed.seconds(trial) for trial in trials]
    assert with_inference(ask, made, trials, tmp_path, latency="none").eta_s == 2 * (112 + 312)
    third_seed = rates(ask, 0.1, 0.2, seeds=3)[4:]
    new = [dataclasses.replace(trial, configuration=f"sample {trial.configuration}") for trial in third_seed]
    sampled = with_inference(ask, made, trials, tmp_path, new, to_add=3)
    assert sampled.eta_s == pytest.approx(timed.eta_s + 3 * (212 + inference_s), abs=0.3), "each is a configuration of its own"
    raced = with_inference(ask, made, trials, tmp_path, third_seed, to_add=3)
    assert raced.eta_s == pytest.approx(timed.eta_s + 3 * 212), "further seeds do not time inference"


def test_without_a_model_no_inference_is_timed(ask, make, tmp_path):
    trials = rates(ask, 0.1)
    made = make(trials, Probing({0.1: {"fp32": 1.0}}), concurrent=1)
    assert with_inference(ask, made, trials, tmp_path).eta_s == made.eta_s == 2 * 112.0


def test_new_processes_start_once_more_slowly(ask, make):
    made = make(rates(ask, 0.1), Probing({0.1: {"fp32": 1.0}}, first_start_s=40.0), concurrent=1)
    on_gpus = dataclasses.replace(made, allocation=dataclasses.replace(made.allocation, gpus=1.0))
    on_cpus = dataclasses.replace(made, allocation=dataclasses.replace(made.allocation, gpus=0.0))
    assert on_gpus.eta(rates(ask, 0.1), 0) == 2 * 112.0 + 40.0
    assert on_cpus.eta(rates(ask, 0.1), 0) == 2 * 112.0, "the processes of the probes train the trials too"


def test_settling_the_precision_leaves_what_was_given(ask):
    (left_open,) = rates(ask, 0.1, seeds=1)
    assert with_precision(left_open.task, "bf16 channels_last").precision == "bf16 channels_last"
    (given,) = ask(overrides=["task.precision=fp32", "seeds=1"]).trials
    assert with_precision(given.task, "bf16") == given.task


# Several trials on a GPU


@dataclasses.dataclass
class Gpus(Probing):
    """Two GPUs with four cores each. A trial uses the fraction `memory` of its GPU; with `n` trials on it a step takes `slowdown[n]` times as long."""

    memory: float = 0.2
    slowdown: dict[int, float] = dataclasses.field(default_factory=lambda: {1: 1.0, 2: 2.0, 3: 3.0, 4: 2.0})

    def capacity(self) -> Capacity:
        return Capacity((Node(8, 2),))

    def probe(self, packs, precisions, window_s):
        per_gpu = round(1 / packs[0].first.gpus)
        assert window_s == (choose_plan.WINDOW_S if per_gpu == 1 else choose_plan.SHARING_WINDOW_S)
        memory = {"memory_bytes": self.memory * 10e9, "free_bytes": 10e9}
        return [
            Timings([dataclasses.replace(one, step_s=one.step_s * self.slowdown[per_gpu], **memory) for one in found.probes])
            for found in super().probe(packs, precisions, window_s)
        ]


@pytest.fixture
def settle(ask, tmp_path: Path):
    def settle(executor: Gpus, *overrides: str, rates: str = "0.1,0.2", seeds: int = 8) -> plan.Plan:
        asked = ask(overrides=[f"task.lr={rates}", f"seeds={seeds}", *overrides])
        assert asked.problems == []
        allocation = allocate(asked.sweep.launch, executor.capacity(), len(asked.trials), False, [])
        return choose_plan.choose_plan(Planned(asked.trials), allocation, executor, asked.sweep.launch, None, tmp_path)

    return settle


QUICK = {0.1: {"fp32": 1.0}, 0.2: {"fp32": 1.0}}


def test_small_trials_share_a_gpu_if_that_is_faster(settle):
    made = settle(Gpus(QUICK))
    assert (made.allocation.gpus, made.allocation.concurrent, made.allocation.cpus) == (0.25, 8, 1)
    assert made.eta_s == 2 * (10 + 100 * 2.0 + 2)


def test_sharing_that_is_slower_is_not_used(settle):
    made = settle(Gpus(QUICK, slowdown={1: 1.0, 2: 5.0, 3: 5.0, 4: 5.0}))
    assert (made.allocation.gpus, made.allocation.concurrent) == (1.0, 2)


def test_fewer_trials_share_a_gpu_if_as_many_as_fit_are_slower(settle):
    made = settle(Gpus(QUICK, slowdown={1: 1.0, 2: 1.1, 3: 1.3, 4: 9.0}))
    assert (made.allocation.gpus, made.allocation.concurrent) == (0.3333, 6)


@pytest.mark.parametrize(("memory", "per_gpu"), [(0.5, 1), (0.4, 2), (0.31, 2), (0.29, 3), (0.22, 4), (0.01, 4)])
def test_as_many_share_a_gpu_as_fit_its_memory_and_the_cores(settle, memory, per_gpu):
    made = settle(Gpus(QUICK, memory=memory, slowdown=dict.fromkeys(range(1, 9), 1.0)))
    assert round(1 / made.allocation.gpus) == per_gpu
    assert made.allocation.gpus * per_gpu <= 1


def test_a_requested_fraction_is_kept(settle):
    assert settle(Gpus(QUICK), "resources.gpus=1").allocation.gpus == 1


def test_trials_that_need_more_memory_together_do_not_share_a_gpu(settle):
    class Growing(Gpus):
        def probe(self, packs, precisions, window_s):
            self.memory = 0.2 if packs[0].first.gpus == 1 else 0.24
            return super().probe(packs, precisions, window_s)

    assert settle(Growing(QUICK, slowdown=dict.fromkeys(range(1, 9), 1.0))).allocation.gpus == 0.3333, "not 4 of 0.24 each"


def packs(ask, make, trial_s: float, seeds: int, bundles: bool = True) -> list[int]:
    trials = rates(ask, 0.1, seeds=seeds)
    made = make(trials, Probing({0.1: {"fp32": (trial_s - 12.0) / 100}}), concurrent=2)
    planned = dataclasses.replace(made, bundles=bundles).packs(trials)
    assert [trial for pack in planned for trial in pack.trials] == trials
    assert all(pack.seconds == pytest.approx(len(pack.trials) * trial_s) and not pack.stacked for pack in planned)
    return [len(pack.trials) for pack in planned]


def test_short_trials_share_packs_of_which_each_place_gets_several(ask, make, monkeypatch):
    monkeypatch.setattr(plan, "BUNDLE_S", 200.0)  # the trials of `Probing` start for 10 s and evaluate for 2 s
    assert packs(ask, make, trial_s=20.0, seeds=16) == [2] * 8, "4 for each of 2 places"
    assert packs(ask, make, trial_s=20.0, seeds=96) == [10] * 9 + [6], "200 s each"
    assert packs(ask, make, trial_s=300.0, seeds=96) == [1] * 96
    assert packs(ask, make, trial_s=20.0, seeds=16, bundles=False) == [1] * 16
