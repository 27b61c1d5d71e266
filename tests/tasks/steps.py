"""Tiny configurations of every task, and a check that their training steps do not make the host wait for the device.

Nothing here needs pytest, so benchmarks can use it too.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ddl import yamlfile
from ddl.devices import Device
from ddl.fit import CHECK_EVERY
from ddl.progress import Progress
from ddl.tasks.loading import load_task_class
from ddl.tasks.task import Task

ROOT = Path(__file__).resolve().parents[2]

TABLE = str(Path(__file__).with_name("table.npz"))
"""80 rows of four features, with means and deviations of different sizes, and a number that depends on two of them."""

CPU = Device(torch.device("cpu"))

CARTPOLE = {
    "hidden": [8],
    "env_steps": 320,
    "envs": 4,
    "learning_starts": 40,
    "replay_size": 200,
    "batch_size": 8,
    "evaluate_every": 80,
    "evaluation_episodes": 2,
}
IMAGES = {"content": "sample", "train_limit": 40, "val_limit": 20, "batch_size": 16, "epochs": 2}
DIGITS = {"widths": [2, 3], "dense": 8, "generated": 20, "judge_epochs": 1}
TINY = {
    "classification": {
        "content": "sample",
        "train_limit": 40,
        "val_limit": 20,
        "widths": [4],
        "convolutions": 1,
        "dense": 8,
        "dropout": 0.1,
        "augmentation": "light",
        "batch_size": 16,
        "epochs": 2,
    },
    "strong_baseline": IMAGES | {"widths": [4]},
    "forecasting": {"window": 4, "hidden": 4, "passes": 5, "dropout": 0.1, "epochs": 2},
    "sentiment": {
        "content": "sample",
        "train_limit": 60,
        "val_limit": 30,
        "longest": 12,
        "hidden": 4,
        "batch_size": 16,
        "epochs": 2,
        "model": "lstm",
    },
    "text_generation": {
        "content": "sample",
        "limit": 5000,
        "embedding": 8,
        "hidden": 8,
        "layers": 2,
        "dropout": 0.1,
        "length": 16,
        "batch_size": 32,
        "epochs": 2,
        "temperatures": [0.5, 1.5],
        "texts": 2,
        "text_length": 30,
        "references": 2,
    },
    "tabular": {"path": TABLE, "hidden": [6], "dropout": 0.1, "batch_size": 16, "epochs": 2},
    "transfer": {
        "data_set": "cifar10",
        "content": "sample",
        "train_limit": 12,
        "val_limit": 6,
        "size": 32,
        "network": "efficientnet_lite0",
        "weights": "none",
        "batch_size": 6,
        "epochs": 2,
        "augmentation": "light",
    },
    "cartpole": CARTPOLE,
    "cartpole_rllib": CARTPOLE,
    "cartpole_table": {"env_steps": 320, "envs": 4, "evaluate_every": 80, "evaluation_episodes": 2},
    "representation": IMAGES | {"size": 16, "latent": 3, "dense_down": [12], "dense_up": [12]},
    "representation: convolutional": IMAGES
    | {
        "size": 16,
        "latent": 3,
        "method": "convolutional",
        "convolutional_widths": [2, 3],
        "convolutional_up": [8],
        "convolutional_epochs": 2,
    },
    "generation": IMAGES | DIGITS,
    "generation: gan": IMAGES | DIGITS | {"model": "gan", "convolutions": 1, "dense": 0, "discriminator_dense": 8},
    "colouring": IMAGES | {"widths": [2, 3]},
    "colouring: cgan": IMAGES | {"widths": [2, 3], "model": "cgan", "discriminator_width": 2},
    "denoising": IMAGES | {"widths": [2, 3]},
}
"""Values that make a trial small, by the name of the task's YAML; the name of a variant follows a colon."""

TASKS = {path.stem for path in (yamlfile.FOLDER / "task").glob("*.yaml")}


def make_task(name: str, **changed) -> Task:
    """The task of the YAML `name`, with some of its values changed."""
    values = yaml.safe_load((yamlfile.FOLDER / "task" / f"{name}.yaml").read_text())
    return load_task_class(values.pop("class"))(**values | changed)


def without_times(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that a repeated training reproduces."""
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def build(name: str, **changed) -> Task:
    """The task of a configuration in `TINY`, with some of its values changed."""
    return make_task(name.partition(":")[0], **TINY[name] | {"seed": 3} | changed)


MANY_STEPS = {"train_limit": 92, "batch_size": 2, "epochs": 1}
CARTPOLE_STEPS = {"env_steps": 800, "evaluate_every": 800}
NETWORK_STEPS = CARTPOLE | CARTPOLE_STEPS | {"updates": 5}
SENTIMENT_STEPS = TINY["sentiment"] | MANY_STEPS
LONGER = {name: values | MANY_STEPS for name, values in TINY.items() if "train_limit" in values} | {
    "sentiment: average": SENTIMENT_STEPS | {"model": "average"},
    "sentiment: bidirectional": SENTIMENT_STEPS | {"bidirectional": True, "pooling": "max"},
    "transfer: head": TINY["transfer"] | MANY_STEPS | {"trained": "head", "augmentation": "none"},
    "denoising: ssim": TINY["denoising"] | MANY_STEPS | {"loss": "ssim"},
    "denoising: psnr": TINY["denoising"] | MANY_STEPS | {"loss": "psnr"},
    "forecasting": TINY["forecasting"] | {"batch_size": 10, "epochs": 1},
    "tabular": TINY["tabular"] | {"batch_size": 2, "epochs": 2},
    "text_generation": TINY["text_generation"] | {"batch_size": 6, "epochs": 1},
    "cartpole": NETWORK_STEPS,
    "cartpole: sarsa": NETWORK_STEPS | {"agent": "sarsa", "policy": "softmax", "rollout_steps": 2},
    "cartpole_rllib": NETWORK_STEPS,
    "cartpole_table": TINY["cartpole_table"] | CARTPOLE_STEPS,
    "cartpole_table: sarsa": TINY["cartpole_table"] | CARTPOLE_STEPS | {"agent": "sarsa", "policy": "softmax"},
}
"""Some tens of steps without an evaluation, of every task and of the variants whose steps differ."""

STEPPED = TINY | LONGER
"""Configurations whose steps are checked. A task that is not in `LONGER` takes the few steps of its tiny configuration. The algorithm
of `cartpole_rllib` is ddl's own: RLlib's have their own training loop."""


def build_stepped(name: str) -> Task:
    """The task of a configuration in `STEPPED`."""
    return make_task(name.partition(":")[0], **STEPPED[name] | {"seed": 3})


LOOKS_APART = CHECK_EVERY
"""Fewest steps from one look at the device to the next. A look is a step that may synchronise: `fit` and the CartPole tasks read the
loss, or what has been collected on the device, every so many steps."""

Watch = Callable[[], AbstractContextManager[list[str]]]
"""Context that lists what has synchronised the device in it, with the place in the code."""


def stray_synchronisations(run: Generator[Progress], watch: Watch, steps: int = 2 * LOOKS_APART + 2) -> tuple[int, list[str]]:
    """(number of steps checked, synchronisations in them that are no looks) of a trial, which ends after `steps` checked steps.

    Not checked: the start, evaluations, and the first step of an epoch, which takes the epoch's order to the device. Raises TypeError
    if a step's loss is not a tensor: then reading it has synchronised the device.
    """
    next(run)
    number, checked, last, stray, new_epoch = 0, 0, -LOOKS_APART, [], True
    while checked < steps:
        number += 1
        with watch() as found:
            progress = next(run, None)
        if progress is None:
            break
        if progress.loss is not None and not isinstance(progress.loss, Tensor):
            raise TypeError(f"step {progress.step}: the loss is {progress.loss!r}. Leave it on the device, as a tensor.")
        skipped, new_epoch = new_epoch or bool(progress.metrics), bool(progress.metrics)
        if skipped:
            continue
        checked += 1
        if found:
            if number - last < LOOKS_APART:
                stray += [f"step {progress.step}: {text}" for text in found]
            last = number
    run.close()
    return checked, stray


@contextlib.contextmanager
def watch_cpu() -> Iterator[list[str]]:
    """Lists the operations that would synchronise a GPU, although tensors are on the CPU.

    It does not see copies between host and device by `Tensor.to` and `copy_`, since both are the CPU. `watch_cuda` does.
    """
    found: list[str] = []
    with _Calls(found), _Operations(found):
        yield found


@contextlib.contextmanager
def watch_cuda() -> Iterator[list[str]]:
    """Lists the operations that synchronise the GPU, by PyTorch's own account (`torch.cuda.set_sync_debug_mode`)."""
    found: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # "error" would end the trial at its first look
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found += [f"{one.filename}:{one.lineno}" for one in caught if "synchronizing CUDA operation" in str(one.message)]


READS = {
    *("_local_scalar_dense", "equal", "is_nonzero"),  # item(), bool(), int(), float()
    *("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),  # shapes that depend on values
    *("bincount", "multinomial"),  # they check the values
}
"""Names of operations whose results, or whose shapes or checks, the host reads from the device."""

INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}

CALLS = {"cpu", "tolist", "numpy", "__array__", "__dlpack__"}
"""Names of methods that bring a tensor to the host."""


class _Operations(TorchDispatchMode):
    def __init__(self, found: list[str]):
        super().__init__()
        self._found = found
        self._batch_sizes: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in INDEXING and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if masked or (name in READS and not self._on_host(args[0])):
            self._found.append(f"{name}{' with a mask' if masked else ''} in {_place()}")
        results = func(*args, **(kwargs or {}))
        if name == "_pack_padded_sequence":
            self._batch_sizes.append(results[1])
        return results

    def _on_host(self, tensor: Tensor) -> bool:
        """True for the batch sizes of a packed sequence, which are always on the CPU and which `nn.LSTM` reads."""
        return any(tensor.untyped_storage().data_ptr() == sizes.untyped_storage().data_ptr() for sizes in self._batch_sizes)


class _Calls(TorchFunctionMode):
    def __init__(self, found: list[str]):
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        # Values on the host that become a tensor on the trial's device: the host waits for the copy.
        made = name in ("tensor", "as_tensor") and not isinstance(args[0], Tensor)
        copies = name == "new_tensor" or (made and isinstance(kwargs.get("device"), torch.device))
        index = args[1] if name in ("__getitem__", "__setitem__") else ()
        listed = any(isinstance(part, list) for part in (index if isinstance(index, tuple) else (index,)))
        if name in CALLS or copies or listed:
            self._found.append(f"{name}{' with a list' if listed else ''} in {_place()}")
        return func(*args, **kwargs)


def _place() -> str:
    """File and line of the innermost frame in this repository, this file and a virtual environment in it aside."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path != Path(__file__) and "site-packages" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
