"""Sections of the check on a GPU. Each returns its measurements and what passed or failed."""

import contextlib
import itertools
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks.throughput import Images, speed
from ddl import checkpoints, config
from ddl.data import sources
from ddl.devices import Device
from ddl.latency.measure import measure_or_explain
from ddl.ledger_reader import LedgerReader
from ddl.models.cnn import ConvNet
from ddl.precision_setup import candidates, prepare_process
from ddl.sweeps import space
from ddl.tasks.classification import Classification
from ddl.tasks.task import with_precision
from ddl.telemetry.describe import describe_device
from ddl.telemetry.gpu import find_gpu
from ddl.telemetry.nvml import gpu_uuid, nvml_devices
from ddl.timing_probe import time_candidates
from tests.tasks.steps import STEPPED, build_stepped, stray_synchronisations, watch_cpu, watch_cuda

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CPU = Device(torch.device("cpu"))

STUDY_SIZE = 9 * 40 * 50_000
"""Images that the augmentation sweep trains on at the study's size: 9 trials, 40 epochs, 50,000 images."""


@dataclass
class Section:
    """Rows of measurements (name, value, unit), checks (name, passed, detail) and the device. `rehearsal`: tiny, on the CPU."""

    device: Device
    out: Path
    rehearsal: bool
    rows: list[tuple[str, float | str, str]] = field(default_factory=list)
    checks: list[tuple[str, bool, str]] = field(default_factory=list)

    def row(self, name: str, value: float | str, unit: str = "") -> None:
        """Add a measurement."""
        self.rows.append((name, value, unit))

    def check(self, name: str, passed: bool, detail: str) -> None:
        """Add a check. In a rehearsal, checks of speed are not made."""
        self.checks.append((name, bool(passed), detail))

    def reach(self, name: str, passed: bool, detail: str) -> None:
        """Add a check of speed, which a rehearsal on the CPU cannot pass."""
        if not self.rehearsal:
            self.check(name, passed, detail)


def device(section: Section) -> None:
    """The device, and NVML's account of it next to PyTorch's."""
    for name, value in describe_device(section.device.torch).items():
        section.row(name, value if isinstance(value, int | float) else str(value))
    if section.rehearsal:
        return
    for seen in nvml_devices():
        section.row(f"NVML: {seen.name}", (seen.used_bytes or 0) / 1e9, "GB used")
    gpu = find_gpu(gpu_uuid(section.device.torch) or "", 1.0)
    section.check("NVML finds the device by PyTorch's UUID", gpu is not None, str(gpu_uuid(section.device.torch)))
    if gpu is None:
        return
    gpu.read(time.monotonic())
    matrix = torch.randn(8192, 8192, device=section.device.torch, dtype=torch.bfloat16)
    allocated = torch.cuda.memory_allocated()
    began = time.monotonic()
    readings = []
    while time.monotonic() - began < 4:
        for _ in range(100):
            matrix @ matrix
        section.device.synchronise()
        readings.append(gpu.read(time.monotonic()))
    section.row("bf16 matrix product", _tflops(matrix, section.device), "TFLOP/s")
    for name in sorted({name for reading in readings for name in reading}):
        section.row(f"NVML: {name} under load", statistics.median(reading[name] for reading in readings if name in reading))
    last = readings[-1]
    process_mb = last.get("gpu_process_memory_peak_mb") or last.get("gpu_memory_peak_mb", 0.0)
    section.check(
        "NVML sees the memory that PyTorch allocated", process_mb * 1e6 >= allocated, f"{process_mb:.0f} MB of {allocated / 1e6:.0f}"
    )
    section.check("the GPU is utilised under load", last.get("gpu_utilisation_percent", 100) > 50, str(last.get("gpu_utilisation_percent")))


def _tflops(matrix: torch.Tensor, device: Device) -> float:
    device.synchronise()
    began = time.perf_counter()
    for _ in range(20):
        matrix @ matrix
    device.synchronise()
    return 20 * 2 * matrix.shape[0] ** 3 / (time.perf_counter() - began) / 1e12


RANDOM = (
    "generation",
    "colouring: cgan",
    "cartpole",
    "classification",
    "denoising",
    "transfer",
    "sentiment",
    "text_generation",
    "forecasting",
)
"""Tasks that draw random numbers on the device in a step (dropout, noise, augmentation, actions), which differ between devices."""


LOSS_STEPS = 40
"""Steps of each task whose losses are compared."""


def tasks(section: Section) -> None:
    """Losses of the first steps of every task on the device, against the CPU's."""
    without = []
    for name in sorted(STEPPED):
        with _failure(section, f"{name} trains on the device"):
            prepare_process("fp32")
            here, there = _losses(name, section.device), _losses(name, CPU)
            if not there:
                without.append(name)
                continue
            first, mean = _difference(here[:1], there[:1]), _difference(here, there)
            random = name.startswith(RANDOM)
            section.row(name, f"first {first:.2e}, mean {mean:.2e}", "relative difference of the losses")
            section.check(f"{name} has as many losses as on the CPU", len(here) == len(there), f"{len(here)} and {len(there)}")
            section.check(f"{name} agrees with the CPU", mean < (0.5 if random else 0.02), f"mean of {len(here)} losses: {mean:.3g}")
    section.row("trained, but without losses to compare", ", ".join(without) or "none")


def _difference(values: list[float], reference: list[float]) -> float:
    """Relative difference of the means."""
    return abs(statistics.fmean(values) - statistics.fmean(reference)) / max(abs(statistics.fmean(reference)), 1e-12)


def _losses(name: str, device: Device) -> list[float]:
    """The losses of the first `LOSS_STEPS` yields after the start; fewer if some have none."""
    with contextlib.closing(build_stepped(name).run(device)) as run:  # type: ignore[type-var]
        taken = list(itertools.islice(run, 1, 1 + LOSS_STEPS))
    assert len(taken) == LOSS_STEPS, f"it ends after {len(taken)} steps"
    return [progress.loss.item() for progress in taken if progress.loss is not None]


def syncs(section: Section) -> None:
    """Synchronisations of the device in the training steps of every task."""
    for name in sorted(STEPPED):
        if name.startswith("cartpole_rllib"):
            continue
        with _failure(section, f"{name} does not synchronise"):
            checked, stray = stray_synchronisations(
                build_stepped(name).run(section.device),  # type: ignore[arg-type]
                watch_cpu if section.rehearsal else watch_cuda,
            )
            section.row(name, checked, "steps")
            section.check(f"{name} does not synchronise", not stray, "; ".join(stray[:3]))


def precision(section: Section) -> None:
    """The timing probe of every precision on the study's classifier."""
    prepare_process("fp32")
    task = replace(_classifier("none"), train_limit=512) if section.rehearsal else _study_task(section, "none")
    timings = time_candidates(
        lambda name: with_precision(task, name).run(section.device),
        list(dict.fromkeys([*candidates(section.device), *([] if section.rehearsal else ["fp16 channels_last"])])),
        section.device,
        8,
        0.0 if section.rehearsal else 2.0,
    )
    for probe in timings.probes:
        section.row(f"{probe.precision}: speed", task.batch_size / probe.step_s, "images/s")
        section.row(f"{probe.precision}: compile, first compile", f"{probe.compile_s:.1f}, {probe.first_compile_s:.1f}", "s")
        section.row(f"{probe.precision}: evaluation, deviation", f"{probe.evaluate_s:.3f} s, {probe.deviation:.4f}")
        section.row(f"{probe.precision}: memory", probe.memory_bytes / 1e9, "GB")
    for name, reason in timings.failures.items():
        section.row(f"{name}: failed", reason)
    section.check("fp32 could be timed", any(probe.precision == "fp32" for probe in timings.probes), str(timings.failures))
    section.check("every precision could be timed", not timings.failures, str(dict(timings.failures)))


def baselines(section: Section) -> None:
    """One trial's images/s in ddl, and in a naive and in a tuned training loop with a DataLoader on all cores."""
    workers = len(os.sched_getaffinity(0))
    naive_s = 0.0
    for augmentation, fraction in (("none", 1 / 3), ("aggressive", 2 / 3)):  # `light` costs what `aggressive` costs
        naive = _loop_speed(section, augmentation, workers, tuned=False)
        tuned = _loop_speed(section, augmentation, workers, tuned=True)
        own, chosen = _own_speed(section, augmentation)
        section.row(f"naive loop, {augmentation} augmentation", naive, "images/s")
        section.row(f"tuned loop, {augmentation} augmentation", tuned, "images/s")
        section.row(f"ddl, {augmentation} augmentation, {chosen}", own, "images/s")
        section.row(f"ddl / naive loop, {augmentation} augmentation", own / naive, "times as fast")
        section.row(f"ddl / tuned loop, {augmentation} augmentation", own / tuned, "times as fast")
        naive_s += fraction * STUDY_SIZE / naive
    section.row("the sweep's trials in the naive loop, one after another", naive_s, "s, without evaluations")
    makespan = _earlier_row(section, "sweep", "makespan")
    gain = naive_s / makespan if isinstance(makespan, float) else math.nan
    section.row("the sweep compared with them", gain, "times as fast")
    section.reach("the sweep is at least 10 times as fast as naive trials", gain >= 10, f"{gain:.1f}; nan: the sweep has not ended")


def _own_speed(section: Section, augmentation: str) -> tuple[float, str]:
    """(images/s, precision) of one trial of ddl, compiled if the device has a compiler."""
    task = _study_task(section, augmentation)
    chosen = next((name for name in candidates(section.device) if name.endswith(" compiled")), "fp32")
    start = lambda name: with_precision(task, name).run(section.device)  # noqa: E731
    timings = time_candidates(start, [chosen], section.device, 8, 0.0 if section.rehearsal else 2.0)
    return task.batch_size / timings.probes[0].step_s, chosen


def _earlier_row(section: Section, name: str, row: str) -> Any:
    """The value of a row of an earlier section; None if that has not ended."""
    result = section.out / f"{name}.json"
    rows = json.loads(result.read_text())["rows"] if result.exists() else []
    return next((value for found, value, _ in rows if found == row), None)


def _loop_speed(section: Section, augmentation: str, workers: int, tuned: bool) -> float:
    task, device = _study_task(section, augmentation), section.device.torch
    data = sources.load_data_set("cifar10", "sample")
    moves = [v2.RandomAffine(30, (0.2, 0.2), (0.8, 1.2)), v2.RandomHorizontalFlip()] if augmentation != "none" else []
    transform = v2.Compose([*moves, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)])
    loader = DataLoader(
        Images(data.train.inputs, data.train.targets, transform),
        task.batch_size,
        shuffle=True,
        num_workers=0 if section.rehearsal else workers,
        persistent_workers=not section.rehearsal,
        pin_memory=tuned and not section.rehearsal,
        drop_last=True,
    )
    model: torch.nn.Module = ConvNet(3, 32, 10, task.widths, task.convolutions, task.dense, task.dropout, 0, "glorot").to(device)
    optimiser = torch.optim.Adam(model.parameters(), task.lr, fused=tuned)
    if tuned and not section.rehearsal:
        model = torch.compile(model.to(memory_format=torch.channels_last))  # type: ignore[assignment]
    criterion = torch.nn.CrossEntropyLoss()

    def steps() -> Iterator[int]:
        while True:
            for images, targets in loader:
                images, targets = images.to(device, non_blocking=tuned), targets.to(device, non_blocking=tuned)
                optimiser.zero_grad()
                with torch.autocast(device.type, torch.bfloat16, enabled=tuned):
                    loss = criterion(model(images), targets)
                loss.backward()
                optimiser.step()
                if not tuned:
                    loss.item()
                yield len(images)

    return speed(steps())


def sweep(section: Section) -> None:
    """The augmentation sweep at the study's size: makespan, utilisation, memory, energy, and the plan next to reality."""
    began = time.monotonic()
    folder = _launch(section, "sweep", "--sweep", _augmentation(), "--scale", "smoke" if section.rehearsal else "paper")
    command_s = time.monotonic() - began
    reader = LedgerReader(folder)
    elapsed, expected = _durations(reader)
    section.row("makespan", elapsed, "s")
    section.row("expected by the plan", expected, "s")
    section.row("the whole command, with start, plan and report", command_s, "s")
    _show_plan(section, reader)
    _show_device_metrics(section, reader)
    images = STUDY_SIZE if not section.rehearsal else 9 * 64
    section.row("training speed over the sweep", images / elapsed, "images/s")
    sm = _metric(reader, "device/gpu_sm_activity_percent")
    fraction = reader.run()["plan"]["gpus_per_trial"] or 1.0
    active = statistics.fmean(sm) / fraction if sm else math.nan
    section.row("SM active", active if sm else "not available", "percent" if sm else "")
    section.reach("makespan at most 3 minutes", elapsed <= 180, f"{elapsed:.0f} s")
    section.reach("SM active at least 0.8", active >= 80, f"{active:.0f}%" if sm else "not available: NVML gave no SM activity")
    section.reach("the plan is right within a third", 0.67 <= elapsed / max(expected, 1e-9) <= 1.5, f"{elapsed / max(expected, 1e-9):.2f}")


SLACK = 1.2
"""Factor by which the plan's sharing may miss the best: the makespans of short sweeps vary by some percent."""


def packing(section: Section) -> None:
    """The sweep with 1, 2, 4 and 8 trials on the GPU, for a few epochs and in one precision."""
    chosen = "fp32" if section.rehearsal else "bf16 channels_last"
    makespans = {}
    for together in (1, 2) if section.rehearsal else (1, 2, 4, 8):
        share = f"resources.gpus={math.floor(10_000 / together) / 10_000}" if not section.rehearsal else "resources.cpus=1"
        scale = "smoke" if section.rehearsal else "sample"
        arguments = (share, f"task.precision={chosen}", "latency=none")
        folder = _launch(section, f"packing-{together}", "--sweep", _augmentation(), "--scale", scale, *arguments)
        reader = LedgerReader(folder)
        makespans[together], _ = _durations(reader)
        section.row(f"{together} on the GPU: makespan", makespans[together], "s")
        _show_device_metrics(section, reader, f"{together} on the GPU: ")
    best = min(makespans, key=lambda together: makespans[together])
    section.row("best", best, "trials on the GPU")
    gpus = _earlier_row(section, "sweep", "plan: gpus_per_trial")
    planned = round(1 / gpus) if gpus else 0
    nearest = min(makespans, key=lambda together: abs(together - planned))
    section.row("chosen by the plan of the section sweep", planned or "unknown", "trials on the GPU")
    section.reach(
        f"the plan's choice takes at most {SLACK:g} times as long as the best",
        planned > 0 and makespans[nearest] <= SLACK * makespans[best],
        f"{planned} planned (0: the sweep has not ended), {nearest} takes {makespans[nearest]:.1f} s, {best} {makespans[best]:.1f} s",
    )


def memory(section: Section) -> None:
    """Two trials that do not fit on the GPU together: one runs out of memory, starts again with more of the GPU, and both finish."""
    share = "resources.gpus=0" if section.rehearsal else "resources.gpus=0.5"
    scale = "smoke" if section.rehearsal else "sample"
    folder = _launch(section, "memory", "--sweep", str(HERE / "memory.yaml"), "--scale", scale, share)
    reader = LedgerReader(folder)
    events = reader.events()
    retried = list(events[events.kind == "out_of_memory"].detail)
    section.row("trials started again after they ran out of memory", len(retried))
    section.check("both trials finished", all(trial.status == "finished" for trial in reader.trials()), str(retried))
    section.reach("a trial ran out of memory and was started again", bool(retried), str(retried))


def resume(section: Section) -> None:
    """A sweep that is killed and resumed: every trial finishes, no step is measured twice."""
    scale = ("--scale", "smoke") if section.rehearsal else ("--scale", "sample", "task.epochs=10")
    command = [sys.executable, str(ROOT / "launch.py"), "--sweep", _augmentation(), *scale, "--out", str(section.out / "killed"), *QUIET]
    process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    ends = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(ValueError, IndexError):
            (ledger,) = (section.out / "killed").glob("*/*/ledger.sqlite")
            if len(LedgerReader(ledger.parent).metrics().query("name == 'val/accuracy'")) >= 2:
                break
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)
    (ledger,) = (section.out / "killed").glob("*/*/ledger.sqlite")
    before = {trial.trial_id for trial in LedgerReader(ledger.parent).trials() if trial.status == "finished"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--resume", str(ledger.parent)], env=_environment(), capture_output=True, text=True
    )
    reader = LedgerReader(ledger.parent)
    section.row("finished before the kill", len(before), "trials")
    section.check("the resumed sweep ends well", done.returncode == 0, done.stderr[-300:])
    section.check("every trial finished", all(trial.status == "finished" for trial in reader.trials()), "")
    per_step = reader.metrics().query("name == 'val/accuracy'").groupby("trial_id").step
    section.check("no step is measured twice", bool((per_step.nunique() == per_step.size()).all()), "")


def latency(section: Section) -> None:
    """Inference times in all variants, and a trial exported and read back."""
    scale = ("--scale", "smoke", "task.augmentation=none", "seeds=1")
    folder = _launch(section, "latency", "--sweep", _augmentation(), *scale)
    (trial,) = LedgerReader(folder).trials()
    command = [sys.executable, str(ROOT / "launch.py"), "--export", str(folder), trial.trial_id]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    section.check("the trained model is exported and agrees when read back", done.returncode == 0, done.stderr[-300:])
    found = checkpoints.newest(folder / "trials" / trial.trial_id / "checkpoints", trial.trial_id)
    section.check("the newest checkpoint can be read", found is not None, "")
    task = with_precision(_repeated("none"), "fp32")
    run = task.run(section.device)
    last = next(run)
    results = measure_or_explain(last.predictor, section.device, "quick" if section.rehearsal else "full", "bf16 channels_last")
    for name, value in results.metrics.items():
        section.row(name.removeprefix("latency/"), value)
    section.check("the model was timed", "not_measured" not in results.metadata, str(results.metadata.get("not_measured")))
    for variant, reason in results.metadata.get("left_out", {}).items():
        section.row(f"left out: {variant}", reason)


SECTIONS = {
    one.__name__: (one, seconds)
    for one, seconds in (
        (device, 15), (tasks, 40), (syncs, 20), (precision, 45), (sweep, 215), (baselines, 40), (packing, 45), (memory, 20),
        (resume, 25), (latency, 15),
    )
}  # fmt: skip
"""Sections in order, with the seconds that are reserved for each. A section may also use what earlier ones have left."""

QUIET = ("wandb.mode=disabled",)


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _launch(section: Section, name: str, *arguments: str) -> Path:
    """Run the command to its end, and return the run's folder. Its output is kept in a log next to it."""
    log = section.out / f"{name}.log"
    with log.open("w") as file:
        command = [sys.executable, str(ROOT / "launch.py"), *arguments, "--out", str(section.out / name), *QUIET]
        done = subprocess.run(command, env=_environment(), stdout=file, stderr=subprocess.STDOUT)
    section.check(f"{name}: the sweep ends well", done.returncode == 0, log.read_text()[-500:] if done.returncode else "")
    return Path(re.findall(r"^report: (.*)$", log.read_text(), re.MULTILINE)[-1]).parent


def _augmentation() -> str:
    """The study's sweep where its data are there, else the same on the bundled sample, repeated to the same size."""
    try:
        complete = sources.load_data_set("cifar10", "full").origin.complete
    except (OSError, ValueError):
        complete = False
    return "augmentation" if complete else str(HERE / "augmentation.yaml")


def _classifier(augmentation: str) -> Classification:
    return _composed("augmentation", augmentation, "sample")


def _study_task(section: Section, augmentation: str) -> Classification:
    """The study's classifier on as many images as it has, so that its steps fill the window of a timing."""
    return _composed(str(HERE / "augmentation.yaml"), augmentation, "smoke" if section.rehearsal else "sample")


def _repeated(augmentation: str) -> Classification:
    return _composed(str(HERE / "augmentation.yaml"), augmentation, "smoke")


def _composed(sweep: str, augmentation: str, scale: str) -> Classification:
    problems: list[str] = []
    composed = config.compose_sweep(sweep, [f"task.augmentation={augmentation}", "seeds=1"], scale, problems)
    assert composed is not None, problems
    (trial,) = space.expand_trials(composed, problems)
    assert isinstance(trial.task, Classification)
    return trial.task


def _durations(reader: LedgerReader) -> tuple[float, float]:
    """(elapsed, expected) seconds of all trials, from the event at their end."""
    events = reader.events()
    elapsed, expected = re.findall(r"([\d.]+|nan) s", events[events.kind == "trained"].detail.iloc[-1])
    return float(elapsed), float(expected)


def _metric(reader: LedgerReader, name: str) -> list[float]:
    metrics = reader.metrics()
    return list(metrics[metrics.name == name].value)


def _show_plan(section: Section, reader: LedgerReader) -> None:
    plan: dict[str, Any] = reader.run()["plan"]
    for key in ("precision", "concurrent", "cpus_per_trial", "gpus_per_trial"):
        section.row(f"plan: {key}", plan[key])
    for name, reason in plan["failed_precisions"].items():
        section.row(f"plan: not used: {name}", reason)


def _show_device_metrics(section: Section, reader: LedgerReader, prefix: str = "") -> None:
    metrics = reader.metrics()
    for name, values in metrics[metrics.name.str.startswith(("device/", "time/"))].groupby("name").value:
        total = name == "device/energy_wh"
        section.row(f"{prefix}{name}", values.sum() if total else values.mean(), "in all" if total else "mean over trials")
    best = metrics[metrics.name == "val/accuracy"].groupby("trial_id").value.max()
    section.row(f"{prefix}best val/accuracy", best.mean() if len(best) else math.nan, "mean over trials")


@contextlib.contextmanager
def _failure(section: Section, name: str) -> Iterator[None]:
    """Turn an error of one task into a failed check, so that the others are still checked."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  it fails the check
        section.check(name, False, f"{type(error).__name__}: {error}"[:300])
