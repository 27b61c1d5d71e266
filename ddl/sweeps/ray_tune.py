"""The executor that runs trials in parallel on Ray: Ray Tune places and stops them."""

import contextlib
import functools
import logging
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ddl import ray_private
from ddl.config import ConfigError
from ddl.gpus import machine_gpus
from ddl.sweeps import RAY_SETTINGS, ray_probe
from ddl.sweeps.capacity import Capacity, Node, local_capacity
from ddl.sweeps.executor_died import ExecutorDied
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import repeat_if_died
from ddl.sweeps.ray_controller import our_controller
from ddl.sweeps.ray_handover import Handover, HandoverCallback, HandoverSearcher, HandoverStopper, trial_name
from ddl.sweeps.ray_schedulers import CHANGED
from ddl.sweeps.ray_trainable import find_pack, train
from ddl.timings import Timings
from ddl.trial_errors import error_line
from ddl.trial_report import TrialReport
from ddl.units import size

LEADER = "trial_leader"
"""Placeholder resource for the process that coordinates a trial's workers: it must hold some resource, but no CPU core or GPU."""

DATA_SETTINGS = ("DDL_CACHE", "DDL_DATA_MIRROR")
"""Environment variables for the location of data (docs/data.md). If set here, a cluster's workers get the same values."""

CONNECT_S = 5
"""Timeout for the first connection to a cluster."""

logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
"""Tune warns that it has no metrics in files of its own, which nobody reads."""

LARGEST_TASK = 100_000_000
"""Most bytes of a serialised task. The driver holds several copies of each waiting one, and Ray refuses functions above 100 MB too."""

WATCH_S = 1
"""Time between two looks at Ray's processes."""

STOP_S = 10
"""Time for Tune to end its trials when a sweep is stopped. After that their processes are killed."""


class RayExecutor:
    """Runs packs of trials on a running cluster at `address`, or on a private one on this machine, for `PrivateExecutor`. A pack is one
    of Tune's trials.

    A worker process runs one pack after another, so imports and data stay in memory. If its process dies, a pack's trials restart
    from their newest checkpoints, up to `retries` times, on another node if theirs is gone.
    """

    def __init__(
        self,
        address: str | None,
        retries: int,
        scratch: Path,
        scheduler: TrialScheduler,
        packages: Set[str],
        setup_worker: Path | None,
        probe_stall_s: float,
    ):
        """`scratch` is an existing folder for Tune's files. `packages` are the packages of the tasks' classes, which are sent to the
        workers of a running cluster. `setup_worker` is the script that starts the workers of a private cluster (`fork_server`).
        `probe_stall_s` as `stall_s` in `time_pack`."""
        self._address, self._retries, self._scratch = address, retries, scratch
        self._scheduler, self._packages, self._setup_worker = scheduler, packages, setup_worker
        self._probe_stall_s = probe_stall_s
        self._contexts = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._address is not None:
            _connect(self._address, self._packages)
            return self
        machine = local_capacity()
        with contextlib.ExitStack() as contexts:
            folder = contexts.enter_context(ray_private.session_folder())
            try:
                ray_private.start(folder, machine.cpus, machine.gpus, {LEADER: machine.cpus}, setup_worker=self._setup_worker)
            except BaseException as error:
                if type(error) is not Exception:  # the class of what Ray raises after 30 s
                    raise
                raise ExecutorDied("Ray did not start within 30 s, perhaps because this machine is too busy") from error
            self._contexts = contexts.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        died = str(error) if isinstance(error, ExecutorDied) else isinstance(error, Exception) and ray_private.dead_process()
        ray_private.stop()
        self._contexts.close()
        if died:
            raise ExecutorDied(f"{died}, and all running trials with it") from error

    def get_ready(self) -> None:
        """See `Executor.get_ready`. The cluster runs already."""

    def capacity(self) -> Capacity:
        """The resources of all nodes that are alive."""
        resources = [node["Resources"] for node in ray_probe.alive_nodes()]
        nodes = tuple(Node(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in resources)
        return Capacity(nodes, machine_gpus().problems if self._address is None else ())

    def gpu_problems(self) -> list[str]:
        """See `Executor.gpu_problems`. A private cluster has usable GPUs only."""
        if self._address is None:
            return []
        nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray_probe.alive_nodes() if node["Resources"].get("GPU")}
        look = ray.remote(num_cpus=0, max_calls=1)(machine_gpus)  # without GPUs of its own it sees all, unless Ray hides them
        pending = [look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes]
        problems = []
        for host, reference in zip(nodes.values(), pending, strict=True):
            with contextlib.suppress(*ray_probe.PROCESS_DIED, ray.exceptions.TaskUnschedulableError):  # a node that has left has no GPUs
                problems += [f"{host}: {problem}" for problem in ray_probe.get(reference).problems]
        return problems

    def probe(self, packs: Sequence[Pack], precisions: list[str] | None, window_s: float) -> list[Timings]:
        """See `Executor.probe`. All run at once. A probe whose process dies has no timings, like one that raises."""
        return repeat_if_died(
            packs, precisions, functools.partial(ray_probe.probe_on_cluster, window_s=window_s, stall_s=self._probe_stall_s)
        )

    def run(self, packs: Iterable[Pack], concurrent: int | None) -> Iterator[Sequence[TrialReport]]:
        """See `Executor.run`."""
        is_population = isinstance(self._scheduler, PopulationBasedTraining)
        population = {pack.first.trial_id: pack for pack in packs} if is_population else {}
        handover = Handover(_check_first(packs))
        tuner = self._tuner(concurrent, handover, population)

        def fit() -> None:
            try:
                with our_controller():
                    tuner.fit()
                handover.finish(None)
            except BaseException as error:  # noqa: BLE001  raised in the driver's thread by the handover
                handover.finish(error)

        def watch() -> None:
            while not ended.wait(WATCH_S):
                if died := ray_private.dead_process():
                    handover.finish(ExecutorDied(died))
                    return

        ended = threading.Event()
        thread = threading.Thread(target=fit, name="ray-tune", daemon=True)
        thread.start()
        threading.Thread(target=watch, name="watch-ray", daemon=True).start()
        try:
            yield from handover
        finally:
            ended.set()
            handover.stop()
            thread.join(timeout=STOP_S)

    def _tuner(self, concurrent: int | None, handover: Handover, population: Mapping[str, Pack]) -> tune.Tuner:
        """A tuner that takes packs from `handover`, or all of `population` at once: Tune must know a population from the start."""
        changed = {trial_id: dict(pack.first.changed) for trial_id, pack in population.items()}
        members = {"trial_id": tune.grid_search(list(population)), CHANGED: tune.sample_from(lambda config: changed[config["trial_id"]])}
        return tune.Tuner(
            tune.with_resources(
                tune.with_parameters(train, population=dict(population)),
                functools.partial(_resources, population=population, private=self._address is None),
            ),
            param_space=members if population else {},
            tune_config=tune.TuneConfig(
                scheduler=self._scheduler,
                search_alg=None if population else HandoverSearcher(handover),
                num_samples=1 if population else -1,  # -1: until the searcher is finished
                max_concurrent_trials=concurrent,
                reuse_actors=True,
                trial_dirname_creator=trial_name,
                trial_name_creator=trial_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._scratch),
                failure_config=tune.FailureConfig(max_failures=self._retries),
                callbacks=[HandoverCallback(handover, self._retries)],
                stop=HandoverStopper(handover),
                verbose=0,
            ),
        )


def _check_first(packs: Iterable[Pack]) -> Iterator[Pack]:
    """`packs`. Raises ConfigError if the first one's task cannot be sent to workers: a function that refers to an open file, or to much data."""
    for number, pack in enumerate(packs):
        if number == 0:
            name = type(pack.first.task).__name__
            try:
                n_bytes = len(ray.cloudpickle.dumps(pack.first.task))
            except (TypeError, AttributeError, ValueError, RecursionError, pickle.PicklingError) as error:
                refused = f"{name} cannot be sent to worker processes ({error_line(error)})"
                raise ConfigError([f"{refused}. Create what it refers to inside it, or use --executor inline."]) from error
            if n_bytes > LARGEST_TASK:
                refused = f"{name} refers to {size(n_bytes)} of data, which each trial would send to a worker process"
                raise ConfigError([f"{refused}. Load the data inside it, from a file, or use --executor inline."])
        yield pack


def _resources(config: dict[str, Any], population: Mapping[str, Pack], private: bool) -> tune.PlacementGroupFactory:
    """The resources that Tune reserves for a pack."""
    assignment = find_pack(config, population).first
    if assignment.num_workers > 1:
        # Only the private cluster has the placeholder resource.
        return tune.PlacementGroupFactory([{LEADER: 1} if private else {"CPU": 0.01}])
    return tune.PlacementGroupFactory([{"CPU": assignment.cpus} | ({"GPU": assignment.gpus} if assignment.gpus else {})])


def _connect(address: str, packages: Set[str]) -> None:
    """Join the cluster at `address`. Raises ConfigError if there is none, or if it rejects this process's token."""
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal():
            # Ray's own timeout is several minutes.
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        # Send the packages, so that nodes need neither ddl nor the same version of it. As paths: in a job of the cluster, Ray
        # cannot send module objects.
        modules = [_module_path(sys.modules[name]) for name in sorted(packages)]
        variables = RAY_SETTINGS | {name: os.environ[name] for name in DATA_SETTINGS if name in os.environ}
        with ray_private.our_settings():
            ray.init(address=address, runtime_env={"py_modules": modules, "env_vars": variables})
    except (OSError, ValueError, ray.exceptions.AuthenticationError) as error:  # ValueError: not an address
        # A rejected token may only be named in the text of the error's cause.
        if "AuthenticationError" in "".join(traceback.format_exception(error)):
            problem = "the cluster refuses this process's token. Set RAY_AUTH_TOKEN, or ~/.ray/auth_token, to the cluster's token"
            raise ConfigError([f"--address {address}: {problem}, or RAY_AUTH_MODE=disabled if it has none."]) from error
        reason = str(error).strip().rstrip(".")
        raise ConfigError([f"--address {address}: no cluster answers ({reason}). Start one with: ray start --head."]) from error


def _module_path(module: ModuleType) -> str:
    """The folder of a package, or the file of a module."""
    return next(iter(module.__path__)) if hasattr(module, "__path__") else str(module.__file__)
