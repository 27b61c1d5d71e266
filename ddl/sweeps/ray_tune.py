"""Trials side by side on Ray. Ray Tune places and stops them; what they report is handed to the one that owns the ledger."""

import functools
import json
import math
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from ddl import checkpoints, ray_private
from ddl.config import ConfigError
from ddl.precision import TimingProbe
from ddl.sweeps import RAY_SETTINGS, ray_preemption
from ddl.sweeps.executors import Capacity, local_capacity
from ddl.sweeps.handover import Handover
from ddl.sweeps.ray_schedulers import CHANGED, PERCENT
from ddl.sweeps.ray_train import run_together
from ddl.sweeps.worker import Assignment, device_of, run_trial, time_trial
from ddl.trial_report import TrialReport

LEADER = "trial_leader"
"""What the process holds that waits for a trial's workers: it must hold something, and must not hold what they need."""

DATA_SETTINGS = ("DDL_CACHE", "DDL_DATA_MIRROR")
"""What says where data are (docs/data.md): where this process was told, a cluster's workers are; else each node's own holds."""

POINTER = "trial.json"
"""In a checkpoint of Tune's: [trial id, folder] of the trial whose newest checkpoint is meant."""

CONNECT_S = 5
"""Until a host that does not answer is taken not to be there."""

STOP_S = 10
"""How long Tune may take to end its trials when a sweep is stopped; then their processes are ended all the same."""


class RayExecutor:
    """A private cluster on this machine, or a running one at `address`.

    A worker process goes on to the next trial when one ends, its imports and data still there. A trial whose process is
    lost starts again from its newest checkpoint, `retries` times; on another node, where its own is lost.
    """

    def __init__(self, address: str | None, retries: int, scratch: Path, scheduler: TrialScheduler | None, packages: Set[str]):
        """`scratch` is an existing folder for Tune's own files, which nothing reads afterwards. `packages` names those that
        the tasks' classes are in, as they were imported here: a cluster's workers get them from this process."""
        self._address, self._retries, self._scratch = address, retries, scratch
        self._scheduler, self._packages = scheduler, packages

    def __enter__(self) -> Self:
        if self._address is not None:
            _connect(self._address, self._packages)
            return self
        here = local_capacity()
        ray_private.start(here.cpus, here.gpus, {LEADER: here.cpus})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ray.shutdown()

    def capacity(self) -> Capacity:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
        return Capacity(len(nodes), sum(cpus), sum(gpus), max(cpus, default=0), max(gpus, default=0))

    def probe(self, assignments: Sequence[Assignment], precisions: list[str] | None) -> list[list[TimingProbe]]:
        remote = ray.remote(max_retries=0)(time_trial)
        pending = [remote.options(num_cpus=a.cpus, num_gpus=a.gpus).remote(a, precisions) for a in assignments]
        found: list[list[TimingProbe]] = []
        for reference in pending:
            try:
                found.append(ray.get(reference))
            except ray.exceptions.WorkerCrashedError:
                found.append([])  # as for a trial that raises
        return found

    def run(self, assignments: Iterable[Assignment], concurrent: int | None) -> Iterator[TrialReport]:
        whole = isinstance(self._scheduler, PopulationBasedTraining)
        population = {assignment.trial_id: assignment for assignment in assignments} if whole else {}
        handover = Handover(assignments)
        tuner = self._tuner(concurrent, handover, population)

        def fit() -> None:
            try:
                tuner.fit()
                handover.finish(None)
            except BaseException as error:  # noqa: BLE001  carried to the consumer's thread, which raises it
                handover.finish(error)

        thread = threading.Thread(target=fit, name="ray-tune", daemon=True)
        thread.start()
        try:
            yield from handover
        finally:
            handover.stop()
            thread.join(timeout=STOP_S)

    def _tuner(self, concurrent: int | None, handover: Handover, population: Mapping[str, Assignment]) -> tune.Tuner:
        """Trials come one by one from `handover`, or are a whole `population`, which Tune wants to know from the start."""
        changed = {trial_id: dict(assignment.changed) for trial_id, assignment in population.items()}
        members = {"trial_id": tune.grid_search(list(population)), CHANGED: tune.sample_from(lambda config: changed[config["trial_id"]])}
        return tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_train, population=dict(population)),
                functools.partial(_share, population=population, private=self._address is None),
            ),
            param_space=members if population else {},
            tune_config=tune.TuneConfig(
                scheduler=self._scheduler,
                search_alg=None if population else _NextTrial(handover),
                num_samples=1 if population else -1,  # as many as there are
                max_concurrent_trials=concurrent,
                reuse_actors=True,
                trial_dirname_creator=_name,
                trial_name_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._scratch),
                failure_config=tune.FailureConfig(max_failures=self._retries),
                callbacks=[_ReportCallback(handover)],
                stop=_StopOnRequest(handover),
                verbose=0,
            ),
        )


def _share(config: dict[str, Any], population: Mapping[str, Assignment], private: bool) -> tune.PlacementGroupFactory:
    """What Tune sets aside for a trial."""
    assignment = _given(config, population)
    if assignment.num_workers > 1:
        # A cluster that others started has no such resource; there it takes a hundredth of a core.
        return tune.PlacementGroupFactory([{LEADER: 1} if private else {"CPU": 0.01}])
    return tune.PlacementGroupFactory([{"CPU": assignment.cpus} | ({"GPU": assignment.gpus} if assignment.gpus else {})])


def _connect(address: str, packages: Set[str]) -> None:
    """Join the cluster at `address`. Raises ConfigError where there is none, or it does not let this process in."""
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal():
            # Ray itself asks for some minutes.
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        # Sent along, so that a node needs what ddl needs, but neither ddl itself nor the same version of it.
        # By its place: the module itself is more than Ray can hand on where this process is a job of the cluster.
        modules = [_place(sys.modules[name]) for name in sorted(packages)]
        sent = RAY_SETTINGS | {name: os.environ[name] for name in DATA_SETTINGS if name in os.environ}
        with ray_private.our_settings():
            ray.init(address=address, runtime_env={"py_modules": modules, "env_vars": sent})
    except (OSError, ValueError, ray.exceptions.AuthenticationError) as error:  # a ValueError: no address at all
        # Ray hands the refusal on as text, in what caused its error.
        if "AuthenticationError" in "".join(traceback.format_exception(error)):
            said = "the cluster refuses this process's token. Set RAY_AUTH_TOKEN, or ~/.ray/auth_token, to the cluster's own"
            raise ConfigError([f"--address {address}: {said}; RAY_AUTH_MODE=disabled where it has none."]) from error
        said = str(error).strip().rstrip(".")
        raise ConfigError([f"--address {address}: no cluster answers ({said}). Start one with: ray start --head."]) from error


def _place(module: ModuleType) -> str:
    """A package's folder, a module's file."""
    return next(iter(module.__path__)) if hasattr(module, "__path__") else str(module.__file__)


class _NextTrial(Searcher):
    """Gives Tune the next trial when it asks for one: few wait in Tune, however many a sweep has."""

    def __init__(self, handover: Handover) -> None:
        super().__init__()
        self._handover = handover

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled for Tune's own restore, which is not used

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        assignment = self._handover.take()
        if assignment is None:
            return Searcher.FINISHED
        return {"trial_id": assignment.trial_id, "assignment": assignment, CHANGED: dict(assignment.changed)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _ReportCallback(tune.Callback):
    """Tune's events as reports."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._ended: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled for Tune's own restore, which is not used

    def on_trial_result(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any) -> None:
        # A trial that is stopped at once repeats its last result.
        if "report" in result and _name(trial) not in self._ended:
            if result["report"].kind == "ended":
                self._ended.add(_name(trial))
            self._handover.give(result["report"])

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        report = (trial.last_result or {}).get("report")
        done = f" at step {report.step} of {report.total_steps}" if report else ""
        self._end(trial, "stopped", f"by the scheduler{done}")

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        said = str(trial.get_error() or "").strip().splitlines()
        self._end(trial, "failed", f"its process was lost more often than retries allow ({said[-1] if said else 'no message'})")

    def _end(self, trial: TuneTrial, status: str, reason: str) -> None:
        """Only for trials that have not said themselves how they ended; what they had used by then is in their last report."""
        if _name(trial) not in self._ended:
            self._ended.add(_name(trial))
            last = (trial.last_result or {}).get("report") or TrialReport(_name(trial), "ended")
            self._handover.give(replace(last, kind="ended", status=status, reason=reason, metrics=last.usage))


class _StopOnRequest(tune.Stopper):
    def __init__(self, handover: Handover) -> None:
        self._handover = handover

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._handover.stopped


def _name(trial: TuneTrial) -> str:
    return trial.config["trial_id"]


def _given(config: Mapping[str, Any], population: Mapping[str, Assignment]) -> Assignment:
    return population[config["trial_id"]] if population else config["assignment"]


def _train(config: dict[str, Any], population: Mapping[str, Assignment]) -> None:
    """Runs in a worker. Each report waits until the driver has recorded it."""
    assignment = _as_changed(_given(config, population), config[CHANGED])
    if assignment.num_workers > 1:
        _report(assignment, run_together(assignment))
        return
    with ray_preemption.preemption_notice() as leaving:
        _report(assignment, run_trial(assignment, device_of(assignment), leaving))


def _report(assignment: Assignment, reports: Iterator[TrialReport]) -> None:
    for report in reports:
        seen = report.metrics if report.kind == "stored" or not assignment.store_measured else {}
        # Metrics stand at the top level too, where schedulers look for them: never one that is no number.
        finite = {name: value for name, value in seen.items() if math.isfinite(value)}
        result = {**finite, PERCENT: 100 * report.step / max(report.total_steps, 1), "report": report}
        if report.kind == "stored":
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / POINTER).write_text(json.dumps([assignment.trial_id, str(assignment.folder)]))
                tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))
        else:
            tune.report(result)
    # Not before: where workers were placed is given back when the last report has been taken.
    if report.kind == "preempted":
        raise ray_preemption.preempted(report.reason)


def _as_changed(assignment: Assignment, changed: Mapping[str, Any]) -> Assignment:
    """The assignment as population based training has changed it, its checkpoint the one that it is to go on from.

    Tune's own checkpoints only name a trial; states stay where they are.
    """
    if not changed:
        return assignment
    if (given := tune.get_checkpoint()) is not None:
        with given.as_directory() as folder:
            other, place = json.loads((Path(folder) / POINTER).read_text())
        if other != assignment.trial_id:
            checkpoints.take_over(assignment.folder / "checkpoints", assignment.trial_id, Path(place) / "checkpoints", other)
    return replace(assignment, task=replace(assignment.task, **changed), changed=dict(changed))
