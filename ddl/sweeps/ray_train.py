"""Trains one trial with several workers. Ray Train starts them from the trial's process under Ray Tune."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from ddl.devices import Device
from ddl.sweeps import ray_preemption
from ddl.sweeps.assignment import Assignment, prepare_for_training
from ddl.sweeps.worker import run_trial
from ddl.trial_report import TrialReport


@ray.remote(num_cpus=0)
class _Mailbox:
    """Passes reports from the worker of rank 0 to the trial's process. `give` returns when the report is recorded."""

    def __init__(self) -> None:
        self._reports: asyncio.Queue[TrialReport | None] = asyncio.Queue()
        self._taken = False

    async def give(self, report: TrialReport | None) -> None:
        await self._reports.put(report)
        await self._reports.join()

    async def take(self) -> TrialReport | None:
        """The next report. Asking for it confirms that the last one is recorded."""
        if self._taken:
            self._reports.task_done()
        self._taken = True
        return await self._reports.get()


def run_together(assignment: Assignment) -> Iterator[TrialReport]:
    """Run `worker.run_trial` in `num_workers` processes and yield the reports of rank 0. Tensors on GPUs use NCCL, those on CPUs gloo.

    Raises the error that ended the workers if the trial did not cause it, so that Tune restarts the trial.
    """
    mailbox = _Mailbox.remote()  # type: ignore[attr-defined]
    storage = assignment.folder / "train"
    fixed = assignment.min_workers == assignment.num_workers
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"assignment": assignment, "mailbox": mailbox},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if assignment.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=assignment.num_workers if fixed else (assignment.min_workers, assignment.num_workers),
            use_gpu=assignment.gpus > 0,
            resources_per_worker={"CPU": assignment.cpus} | ({"GPU": assignment.gpus} if assignment.gpus else {}),
        ),
        run_config=ray.train.RunConfig(name="train", storage_path=str(storage)),
    )
    failure: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001  raised in the consumer's thread
            failure.append(error)
        mailbox.give.remote(None)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    ended = False
    while (report := ray.get(mailbox.take.remote())) is not None:
        # After a preemption, Ray Train restarts the workers itself.
        ended = report.kind in ("ended", "preempted")
        yield report
    ray.kill(mailbox)
    shutil.rmtree(storage, ignore_errors=True)
    if failure and not ended:
        raise failure[0]


def _run_worker(config: dict[str, Any]) -> None:
    """Run the trial in one of its workers."""
    assignment: Assignment = config["assignment"]
    prepare_for_training(assignment.cpus)
    context = ray.train.get_context()
    device = Device(get_device(), context.get_world_rank(), context.get_world_size(), assignment.strategy)
    with ray_preemption.preemption_notice() as preemption_requested:
        for report in run_trial(assignment, device, preemption_requested):
            if device.rank == 0:
                ray.get(config["mailbox"].give.remote(report))
            if report.status == "failed":
                # If only this worker failed, the others would wait for it for ever.
                raise RuntimeError(f"worker {device.rank} of {device.world_size}: {report.reason}")
            if report.kind == "preempted":
                raise ray_preemption.restart(report.reason)
