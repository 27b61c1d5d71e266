"""PyTorch Lightning in a function that is swept (`pip install -e '.[lightning]'`): a `Trainer.fit` that yields its measurements."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from ddl.progress import Progress, State
from ddl.scratch import scratch_folder


class _Stopped(Exception):
    """The measurements are no longer read."""


class _EpochReporter(Checkpoint):
    """Hands a `Progress` to another thread after each epoch, and waits until the next one is asked for.

    Lightning calls a `Checkpoint` after the other callbacks and the module, so all metrics of the epoch are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.measured: SimpleQueue[Progress | None] = SimpleQueue()
        self.asked: SimpleQueue[bool] = SimpleQueue()
        self.stopped = self.validated = False

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.stopped:
            raise _Stopped

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.validated or not trainer.enable_validation:
            self.validated = False
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            epoch, last = trainer.current_epoch + 1, max(trainer.max_epochs or 0, 0)
            self.measured.put(Progress(epoch, last, lambda: self._state(trainer), epoch, metrics))
            if not self.asked.get():
                raise _Stopped

    def _state(self, trainer: Trainer) -> State:
        trainer.save_checkpoint(self.path)
        return {"checkpoint": torch.frombuffer(bytearray(self.path.read_bytes()), dtype=torch.uint8)}


def lightning_measurements(trainer: Trainer, model: LightningModule, resume: State | None = None, **data: Any) -> Iterator[Progress]:
    """Call `trainer.fit(model, **data)`, and yield the logged metrics after each epoch with validation, or each if there is none.

    The state of a measurement is Lightning's own checkpoint, and `resume` such a state to continue from, or None. Training happens in a
    thread, which waits between epochs until the next measurement is asked for. data: loaders or a data module, as `fit` has them.
    Raises what `fit` raises.
    """
    with scratch_folder("lightning") as folder, ThreadPoolExecutor(1, "lightning") as executor:
        path = folder / "state.ckpt"
        if resume:
            path.write_bytes(resume["checkpoint"].cpu().numpy().tobytes())
        reporter = _EpochReporter(path)
        trainer.callbacks.append(reporter)
        training = executor.submit(trainer.fit, model, ckpt_path=str(path) if resume else None, weights_only=True, **data)
        training.add_done_callback(lambda _: reporter.measured.put(None))
        try:
            while (progress := reporter.measured.get()) is not None:
                yield progress
                reporter.asked.put(True)
            training.result()
        finally:
            reporter.stopped = True
            reporter.asked.put(False)
