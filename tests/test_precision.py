"""Which number format and layout a sweep trains in: the fastest whose losses agree with plain fp32."""

import importlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import ddl
from ddl import precision_setup, timing_probe
from ddl.devices import Device
from ddl.latency.budget import EXAMPLES
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import make_optimiser
from ddl.precision import Precision
from ddl.precision_setup import candidates
from ddl.progress import Diverged, Predictor, Progress
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.timing_probe import time_candidates
from ddl.timings import TimingProbe

CPU = Device(torch.device("cpu"))
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The probe's clock, in seconds: its one item, which a trial moves on."""
    now = [0.0]
    monkeypatch.setattr(timing_probe.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def trials(now: list[float]) -> Callable[..., list[TimingProbe]]:
    """Probes trials under a clock of their own. `seconds` and `losses` are of each candidate's steps, by its name."""

    def trials(
        seconds: dict[str, list[float]], losses: dict[str, list], steps: int = 6, started: float = 5.0, evaluation: float = 3.0
    ) -> list[TimingProbe]:
        closed = []

        def trial(name: str) -> Iterator[Progress]:
            try:
                now[0] += started + evaluation
                metadata = {"evaluations": 4, "parameters": 9}
                yield Progress(0, 1000, dict, metrics={"time/evaluate_s": evaluation}, metadata=metadata)
                for step, (time, loss) in enumerate(zip(seconds[name], losses[name], strict=True)):
                    now[0] += time
                    if isinstance(loss, Exception):
                        raise loss
                    yield Progress(step + 1, 1000, dict, loss=None if loss is None else torch.tensor(loss))
            finally:
                closed.append(name)

        found = time_candidates(trial, list(seconds), CPU, steps)
        assert closed == [*seconds, *(seconds if len(seconds) == 1 else ())], "each trial is ended before the next"
        return found.probes

    return trials


def names(found: list[TimingProbe]) -> list[str]:
    return [one.precision for one in found]


def test_the_fastest_comes_first(trials):
    seconds = {"fp32": [1.0] * 6, "slow": [3.0] * 6, "fast": [0.5] * 6}
    found = trials(seconds, dict.fromkeys(seconds, [2.0] * 6))
    assert names(found) == ["fast", "fp32", "slow"]
    assert [one.step_s for one in found] == [0.5, 1.0, 3.0]


def test_warming_up_and_a_single_slow_step_do_not_count(trials):
    seconds = {"fp32": [1.0] * 6, "bf16": [90.0, 20.0, 0.5, 0.5, 30.0, 0.5]}
    assert [(one.precision, one.step_s) for one in trials(seconds, dict.fromkeys(seconds, [2.0] * 6))] == [("bf16", 0.5), ("fp32", 1.0)]


def test_compiling_costs_each_trial_its_own_time_and_the_first_one_more(now):
    attempts = []

    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 1000, dict, metadata={"evaluations": 0})
        attempts.append(name)
        compiling = {"fp32": 0.0, "fp32 compiled": 60.0 if attempts.count(name) == 1 else 8.0}[name]
        for step in range(6):
            now[0] += (compiling if step == 0 else 0.0) + 0.5
            yield Progress(step + 1, 1000, dict, loss=torch.tensor(1.0))

    compiled = time_candidates(trial, ["fp32", "fp32 compiled"], CPU, 6).probes[1]
    assert (compiled.step_s, compiled.compile_s, compiled.first_compile_s) == (0.5, 8.0, 52.0)
    assert compiled.trial_s == 1000 * 0.5 + 8.0


def test_what_a_probe_says_of_a_whole_trial(trials):
    (found,) = trials({"fp32": [1.0] * 6}, {"fp32": [2.0] * 6}, started=5.0, evaluation=3.0)
    assert (found.start_s, found.step_s, found.evaluate_s, found.total_steps, found.evaluations) == (5.0, 1.0, 3.0, 1000, 4)
    assert found.metadata == {"evaluations": 4, "parameters": 9}
    assert found.trial_s == 5.0 + 1000 * 1.0 + 4 * 3.0


@pytest.mark.parametrize(
    "losses",
    [
        [2.0, 2.0, 2.0, 2.0, 2.0, 2.05],
        [2.0, NAN, 2.0, 2.0, 2.0, 2.0],
        [2.0, INFINITY, 2.0, 2.0, 2.0, 2.0],
        [0.0] * 6,
        [-2.0] * 6,
        [2.0, Diverged("training loss nan"), 2.0, 2.0, 2.0, 2.0],
        [Diverged("training loss nan"), 2.0, 2.0, 2.0, 2.0, 2.0],
    ],
    ids=["apart", "nan", "infinite", "zero", "sign", "diverges", "diverges at once"],
)
def test_a_faster_one_whose_losses_disagree_is_left_out(trials, losses):
    found = trials({"fp32": [1.0] * 6, "wrong": [0.1] * 6}, {"fp32": [2.0] * 6, "wrong": losses})
    assert names(found) == ["fp32"]


def test_rounding_is_no_disagreement(trials):
    found = trials({"fp32": [1.0] * 6, "bf16": [0.1] * 6}, {"fp32": [2.0] * 6, "bf16": [2.0, 2.01, 1.99, 2.0, 2.0, 2.03]})
    assert names(found) == ["bf16", "fp32"]
    assert found[0].deviation == pytest.approx(0.015, abs=1e-5)
    assert found[1].deviation == 0.0


def test_a_configuration_that_diverges_in_fp32_says_nothing_against_the_others(trials):
    end = Diverged("training loss nan")
    seconds = {"fp32": [1.0] * 6, "bf16": [0.5] * 6}
    found = trials(seconds, {"fp32": [2.0, 3.0, 4.0, end, 0.0, 0.0], "bf16": [2.0, 3.0, 4.0, NAN, NAN, NAN]})
    assert names(found) == ["bf16", "fp32"]
    assert names(trials(seconds, {"fp32": [NAN] * 6, "bf16": [NAN] * 6})) == ["bf16", "fp32"]
    assert names(trials(seconds, {"fp32": [end] * 6, "bf16": [end] * 6})) == ["fp32", "bf16"]


def test_a_yield_that_is_many_steps_counts_as_many_and_an_evaluation_within_as_none(now):
    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 1000, dict, metrics={"time/evaluate_s": 0.0})
        for step in range(100, 1100, 100):
            now[0] += 5.0 + 70.0
            yield Progress(step, 1000, dict, metrics={"time/evaluate_s": 70.0})

    (found,) = time_candidates(trial, [""], CPU, 6).probes
    assert found.step_s == 0.05


def test_steps_that_a_trial_calls_untypical_are_not_timed(now):
    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 1000, dict, metadata={"untimed_steps": 50})
        for step in range(10, 1010, 10):
            now[0] += 1.0 if step <= 50 else 20.0
            yield Progress(step, 1000, dict)

    (found,) = time_candidates(trial, [""], CPU, 3).probes
    assert found.step_s == 2.0


def test_an_evaluation_that_was_not_seen_costs_what_the_trial_says_in_steps(now):
    def trial(name: str) -> Iterator[Progress]:
        now[0] += 5.0
        yield Progress(0, 1000, dict, metadata={"evaluations": 4, "evaluation_steps": 12.5})
        for step in range(1, 7):
            now[0] += 2.0
            yield Progress(step, 1000, dict)

    (found,) = time_candidates(trial, [""], CPU, 6).probes
    assert found.trial_s == 5.0 + 1000 * 2.0 + 4 * 12.5 * 2.0


@pytest.mark.parametrize("candidates", [["fp32"], ["fp32", "bf16"]])
def test_a_trial_starts_as_fast_as_in_a_process_that_has_started_one(now, candidates):
    started: list[str] = []

    def trial(name: str) -> Iterator[Progress]:
        started.append(name)
        now[0] += 30.0 if len(started) == 1 else 2.0
        yield Progress(0, 100, dict)
        for step in range(1, 7):
            now[0] += 1.0
            yield Progress(step, 100, dict, loss=torch.tensor(1.0))

    found = time_candidates(trial, candidates, CPU, 6).probes
    assert started == ["fp32", candidates[-1]]
    assert [(one.start_s, one.first_start_s, one.trial_s) for one in found] == [(2.0, 28.0, 102.0)] * len(candidates)


def evaluated(now: list[float], declared: float, steps: int, diverges: bool = False) -> TimingProbe:
    """The probe of a trial that declares how many of its steps, 1 s each, an evaluation takes. It takes 9 s, the first time 50 s."""
    evaluations: list[float] = []

    def evaluate() -> None:
        now[0] += 9.0 if evaluations else 50.0
        evaluations.append(now[0])
        if diverges:
            raise Diverged("an image is not finite")

    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, steps, dict, metadata={"evaluations": 3, "evaluation_steps": declared})
        for step in range(1, steps):
            now[0] += 1.0
            yield Progress(step, steps, dict, evaluate=evaluate)
        yield Progress(steps, steps, dict, metrics={"val/loss": 1.0})  # the epoch's last step has its evaluation behind it

    (found,) = time_candidates(trial, [""], CPU, 6).probes
    return found


def test_an_evaluation_is_measured_if_it_is_short_compared_with_the_trial(now):
    assert evaluated(now, declared=2.0, steps=6).evaluate_s == 9.0, "no longer than the timed steps; the first one is not typical"
    assert evaluated(now, declared=2.0, steps=6, diverges=True).evaluate_s == 9.0
    assert evaluated(now, declared=20.0, steps=1000).evaluate_s == 50.0, "2% of the trial: once"
    assert evaluated(now, declared=20.0, steps=900).evaluate_s == 20.0, "as declared"


def test_the_model_s_time_for_inference_is_that_of_a_second_call(now):
    class Slow(nn.Module):
        calls = 0

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            assert len(inputs) == EXAMPLES
            self.calls += 1
            now[0] += {1: 40.0, 2: 0.5}[self.calls]
            return inputs

    def probe(predictor: Callable[[], Predictor | None]) -> TimingProbe:
        (found,) = time_candidates(lambda name: iter_of(Progress(0, 1, dict, predictor=predictor)), [""], CPU, 6).probes
        return found

    def iter_of(progress: Progress) -> Iterator[Progress]:
        yield progress

    assert probe(lambda: Predictor(Slow(), torch.zeros(1, 2))).call_s == 0.5
    assert probe(lambda: None).call_s == 0.0
    assert probe(lambda: Predictor(nn.Linear(3, 1), torch.zeros(1, 2))).call_s == 0.0, "the trial will record its error"


def test_a_trial_shorter_than_the_probe(trials):
    seconds = {"fp32": [1.0, 1.0, 1.0], "bf16": [0.5, 0.5, 0.5]}
    assert names(trials(seconds, dict.fromkeys(seconds, [2.0] * 3), steps=6)) == ["bf16", "fp32"]
    assert names(trials({"fp32": [1.0], "bf16": [0.5]}, {"fp32": [2.0], "bf16": [2.0]}, steps=6)) == ["bf16", "fp32"]


def test_a_task_that_gives_no_losses_is_timed_all_the_same(trials):
    seconds = {"fp32": [1.0] * 6, "bf16": [0.5] * 6}
    assert names(trials(seconds, dict.fromkeys(seconds, [None] * 6))) == ["bf16", "fp32"]


def test_a_precision_that_fails_does_not_affect_the_others_and_is_named(now):
    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 10, dict)
        if name == "bf16":
            raise RuntimeError("no C compiler\nin any of these places")
        for step in range(6):
            now[0] += 1.0
            yield Progress(step + 1, 10, dict, loss=torch.tensor(2.0 if name != "fp16" else 3.0))

    found = time_candidates(trial, ["fp32", "bf16", "fp16", "fp32 channels_last"], CPU, 6)
    assert names(found.probes) == ["fp32", "fp32 channels_last"]
    assert found.failures == {"bf16": "RuntimeError: no C compiler", "fp16": "its losses deviate from fp32's by 50%"}


def test_an_error_of_the_reference_is_the_trials_own(now):
    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 10, dict)
        raise RuntimeError("a mistake in the task")

    with pytest.raises(RuntimeError, match="a mistake in the task"):
        time_candidates(trial, ["fp32", "bf16"], CPU, 6)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_reference_that_runs_out_of_memory_is_replaced_by_the_next_precision_that_is_not_compiled(now):
    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 10, dict)
        if name == "fp32":
            raise FULL
        for step in range(6):
            now[0] += 1.0
            yield Progress(step + 1, 10, dict, loss=torch.tensor(3.0 if name == "bf16 channels_last" else 2.0))

    found = time_candidates(trial, ["fp32", "tf32 channels_last", "bf16 channels_last", "bf16"], CPU, 6)
    assert names(found.probes) == ["tf32 channels_last", "bf16"]
    assert found.failures == {
        "fp32": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. The others are compared with tf32 channels_last",
        "bf16 channels_last": "its losses deviate from tf32 channels_last's by 50%",
    }
    assert names(time_candidates(trial, ["fp32", "tf32 channels_last"], CPU, 6).probes) == ["tf32 channels_last"]
    with pytest.raises(torch.OutOfMemoryError):
        time_candidates(trial, ["fp32", "bf16 compiled"], CPU, 6)


def test_only_the_first_start_of_a_process_is_slow_and_no_probe_counts_it_as_its_own(now):
    started = []

    def trial(name: str) -> Iterator[Progress]:
        started.append(name)
        now[0] += 2.0 if len(started) > 1 else 50.0
        for step in range(100):
            now[0] += 1.0
            yield Progress(step, 100, dict, loss=torch.tensor(1.0))

    found = {probe.precision: probe for probe in time_candidates(trial, ["fp32", "bf16"], CPU, 6).probes}
    assert {probe.first_start_s for probe in found.values()} == {48.0}
    assert found["fp32"].probe_s == found["bf16"].probe_s < 48.0


def test_timed_steps_fill_the_window_and_begin_when_the_other_probes_are_ready(now):
    steps, ready_at = [], []

    def trial(name: str) -> Iterator[Progress]:
        for step in range(100):
            steps.append(step)
            now[0] += 1.0
            yield Progress(step, 100, dict, loss=torch.tensor(1.0))

    def ready() -> None:
        ready_at.append(len(steps))
        now[0] += 300.0

    (probe,) = time_candidates(trial, ["fp32"], CPU, 6, window_s=20.0, ready=ready).probes
    assert ready_at == [1 + timing_probe.WARM_UP]
    assert probe.probe_s == pytest.approx(1 + timing_probe.WARM_UP + 20), "the time that it waited for the others is not its own"
    assert len(steps) == 1 + timing_probe.WARM_UP + 20 + 1, "and it is started once more"


def test_a_model_that_compiles_too_often_is_refused_instead_of_timed_as_eager():
    def trial(name: str) -> Iterator[Progress]:
        module = torch.compile(Sized(), backend="eager", dynamic=False) if "compiled" in name else Sized()
        for size in range(1, 20):
            yield Progress(size, 20, dict, loss=module(torch.ones(1), size).sum())

    class Sized(nn.Module):
        def forward(self, inputs: torch.Tensor, size: int) -> torch.Tensor:
            return inputs.expand(size) if size % 2 else inputs.expand(size) + 1

    found = time_candidates(trial, ["fp32", "fp32 compiled"], CPU, 18)
    assert names(found.probes) == ["fp32"]
    assert found.failures["fp32 compiled"].startswith("FailOnRecompileLimitHit")


def test_a_gpus_memory_is_that_of_the_process_with_its_evaluation_and_what_others_leave_free(monkeypatch):
    peak = [0.0]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6e9, 10e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1e9)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: peak[0])

    def use(n_bytes: float) -> None:
        peak[0] = max(peak[0], n_bytes)

    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 10, dict)
        for step in range(10):
            use(2e9)
            yield Progress(step + 1, 10, dict, loss=torch.tensor(1.0), evaluate=lambda: use(3e9))

    (found,) = time_candidates(trial, ["fp32"], Device(torch.device("cuda", 0)), 6).probes
    assert found.memory_bytes == 3e9 + timing_probe.CONTEXT_BYTES
    assert found.free_bytes == 6e9 + 1e9 + timing_probe.CONTEXT_BYTES, "not all 10 GB: another process uses 3"


def test_cuda_graphs_that_inductor_does_not_capture_are_refused_instead_of_timed_as_compiled(now):
    counters = importlib.import_module("torch._dynamo.utils").counters

    def trial(name: str) -> Iterator[Progress]:
        yield Progress(0, 10, dict)
        for step in range(6):
            now[0] += 1.0
            counters["inductor"]["cudagraph_skips"] += step == 0 and name in ("bf16 cuda_graphs", "bf16 compiled")
            yield Progress(step + 1, 10, dict, loss=torch.tensor(2.0))

    found = time_candidates(trial, ["fp32", "bf16 compiled", "bf16 cuda_graphs", "fp32 cuda_graphs"], CPU, 6)
    assert names(found.probes) == ["fp32", "bf16 compiled", "fp32 cuda_graphs"]
    assert found.failures == {
        "bf16 cuda_graphs": "RuntimeError: capture refused: 1 graphs would run as in `compiled` (TORCH_LOGS=cudagraphs shows why)"
    }


@pytest.mark.campaign
def test_an_operation_that_inductor_cannot_capture_is_counted():
    with InlineExecutor():
        precision_setup.prepare_process("fp32 cuda_graphs")
        assert precision_setup.skipped_captures() == 0
        assert Precision.parse("fp32 cuda_graphs").apply(nn.Linear(2, 2))(torch.ones(1, 2)).shape == (1, 2)
        assert precision_setup.skipped_captures() > 0, "the CPU has no CUDA graphs"


# Names


ALL = [
    "fp32",
    "tf32",
    "bf16",
    "fp16",
    "fp32 channels_last",
    "bf16 channels_last",
    "fp32 compiled",
    "bf16 channels_last compiled",
    "bf16 channels_last cuda_graphs",
]


@pytest.mark.parametrize("text", ALL)
def test_a_precisions_name_is_read_back(text):
    assert str(Precision.parse(text)) == text
    assert Precision.parse(str(Precision.parse(text))) == Precision.parse(text)


def test_each_name_is_another_precision():
    assert len({Precision.parse(text) for text in ALL}) == len(ALL)
    assert Precision.parse("bf16 compiled channels_last") == Precision.parse("bf16 channels_last compiled")


@pytest.mark.parametrize(
    "text",
    ["", "fp64", "bf16 channel_last", "channels_last", "fp32 fp32", "fp32 compiled compiled", "fp32 compiled cuda_graphs", "auto", "FP32"],
)
def test_unknown_words_are_refused(text):
    with pytest.raises(
        ValueError, match=r"is unknown\. Use auto, or fp32, tf32, bf16, fp16, then channels_last, and compiled or cuda_graphs\."
    ):
        Precision.parse(text)


@pytest.mark.parametrize("computes_in_bf16", [True, False])
@pytest.mark.parametrize("capability", [None, (6, 0), (7, 5), (8, 0), (9, 0)])
def test_candidates_begin_with_the_reference_and_are_formats_that_the_device_computes_in(capability, computes_in_bf16, monkeypatch):
    monkeypatch.setattr(precision_setup.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: computes_in_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    tried = candidates(Device(torch.device("cuda" if capability else "cpu")))
    assert tried[0] == "fp32"
    assert [str(Precision.parse(name)) for name in tried] == tried
    formats = {name.split()[0] for name in tried}
    assert (
        formats
        == {
            None: {"fp32", "bf16"} if computes_in_bf16 else {"fp32"},
            (6, 0): {"fp32"},
            (7, 5): {"fp32", "fp16"},
            (8, 0): {"fp32", "tf32", "bf16"},
            (9, 0): {"fp32", "tf32", "bf16"},
        }[capability]
    )
    assert candidates(Device(torch.device("cuda" if capability else "cpu")), ()) == list(dict.fromkeys(name.split()[0] for name in tried))
    assert any("compiled" in name for name in tried) == any("cuda_graphs" in name for name in tried) == (capability not in (None, (6, 0)))


# What they do


def test_bf16_rounds_the_work_and_not_the_weights():
    chosen = Precision.parse("bf16")
    module = chosen.apply(nn.Linear(4, 4))
    with chosen.autocast(CPU):
        assert module(torch.ones(1, 4)).dtype == torch.bfloat16
    assert module.weight.dtype == torch.float32
    with Precision.parse("fp32").autocast(CPU):
        assert module(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "asked"),
    [("fp32", []), ("bf16 compiled", [{}]), ("bf16 channels_last cuda_graphs", [{"mode": "reduce-overhead"}])],
)
def test_cuda_graphs_are_a_mode_of_the_compiler(name, asked, monkeypatch):
    found: list[dict] = []
    monkeypatch.setattr(torch, "compile", lambda module, **options: found.append(options) or module)
    Precision.parse(name).apply(nn.Conv2d(3, 4, 3))
    assert found == asked


def test_channels_last_is_the_layout_of_weights_and_images():
    chosen, images = Precision.parse("fp32 channels_last"), torch.rand(2, 3, 5, 5)
    module = chosen.apply(nn.Conv2d(3, 4, 3))
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert chosen.layout(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(chosen.layout(images), images)
    assert Precision.parse("fp32").layout(images) is images


@pytest.mark.parametrize(("name", "tf32"), [("fp32", False), ("tf32 channels_last", True), ("bf16", False), ("", False)])
def test_only_the_format_tf32_uses_it(name, tf32):
    with InlineExecutor():  # restores the settings
        precision_setup.prepare_process(name)
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32


def test_a_scoring_classifier_computes_in_fp32_in_a_trial_of_another_format():
    with InlineExecutor():
        precision_setup.prepare_process("tf32")
        with precision_setup.without_tf32():
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32


def test_an_inline_run_leaves_no_setting_behind():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with InlineExecutor():
        precision_setup.prepare_process("tf32" if not before[0] else "fp32")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_numbers_too_small_for_a_normal_float_are_zero_in_a_trial_and_nowhere_else(tmp_path):
    smallest = torch.full((4,), torch.finfo(torch.float32).tiny)
    run = ddl.sweep(lambda x: {"half": (smallest / 2).sum().item()}, {"x": [1, 2]}, metric="half", seeds=1, executor="inline", out=tmp_path)
    assert run.results["best half"].tolist() == [0, 0]
    assert (smallest / 2).sum() > 0


def test_adams_moments_vanish_where_gradients_do():
    """Otherwise they are denormal after some hundred steps without a gradient, and each step takes several times as long."""
    with InlineExecutor():
        precision_setup.prepare_process("")
        weight = nn.Parameter(torch.ones(100))
        optimiser = torch.optim.Adam([weight])
        for step in range(900):
            weight.grad = torch.full((100,), float(step == 0))
            optimiser.step()
        assert optimiser.state[weight]["exp_avg"].count_nonzero() == 0


def test_fp16_scales_the_loss_so_that_small_gradients_survive_and_a_checkpoint_keeps_the_scale():
    def optimised() -> OptimisedModule:
        torch.manual_seed(0)
        return OptimisedModule(nn.Linear(4, 1), make_optimiser("sgd", 1.0), Precision.parse("fp16"), CPU)

    trained = optimised()
    before = trained.module.weight.detach().clone()
    trained.minimise(trained(torch.full((2, 4), 1e-5)).sum() * 1e-4)  # a gradient of 2e-9 is 0 in fp16
    assert (before - trained.module.weight).abs().max().item() > 0
    trained.minimise(trained(torch.full((2, 4), 1e30)).sum())  # overflows: the step is skipped and the scale halved
    assert torch.isfinite(trained.module.weight).all()
    state = trained.state_dict()
    assert state["scaler"]["scale"] == 32768.0
    again = optimised()
    again.load_state_dict(state)
    assert again.state_dict()["scaler"] == state["scaler"]
    assert "scaler" not in OptimisedModule(nn.Linear(4, 1), make_optimiser("sgd", 1.0), Precision.parse("bf16"), CPU).state_dict()


def test_an_old_pytorch_has_no_cuda_graphs_in_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    names = candidates(Device(torch.device("cuda")))
    assert any("compiled" in name for name in names)
    assert not any("cuda_graphs" in name for name in names)
