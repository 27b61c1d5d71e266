"""Several processes that train one trial, each with the whole model (ddp) or a part of it (fsdp): the numbers of one process."""

import copy
import math
import multiprocessing
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ddl import checkpoints
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.fit import FitSettings, Member, fit
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.running_mean import RunningMean
from ddl.learners.supervised import Classifier
from ddl.precision import Precision
from ddl.progress import Progress, State
from tests.tasks.steps import without_times

CPU = Device(torch.device("cpu"))
STRATEGIES = ("ddp", "fsdp")
TOLERANCE = 1e-5
"""Relative, of losses: sums are taken in another order, which rounds at 6e-8 (2^-24) an operation."""

CUT = 4
"""The step after which a trial is cut off: within its second epoch of three."""


class Blocks(nn.Module):
    """Residual blocks in a list, as transformers have them. `scale` is one number: less than there are processes."""

    def __init__(self, normalised: bool):
        super().__init__()
        self.entry = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6) if normalised else nn.Identity()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(1))
        self.exit = nn.Linear(6, 3)
        self.register_buffer("shift", torch.tensor([0.5]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.entry(images)).relu().mean((2, 3)) + self.shift
        for block in self.blocks:
            x = x + block(x).relu() * self.scale
        return self.exit(x)


def learner(device: Device, normalised: bool = False, precision: str = "fp32", weights: int = 0) -> Classifier:
    torch.manual_seed(weights)
    return Classifier(
        OptimisedModule(
            Blocks(normalised), lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True), Precision.parse(precision), device
        ),
        training=lambda images: images.float() / 255,
        evaluation=lambda images: images.float() / 255,
        device=device,
    )


def split(n: int) -> Split:
    images = torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    return Split(images, torch.arange(n) % 3)


def run(made: Classifier, device: Device, resume: State | None = None, train: int = 24, val: int = 65) -> Iterator[Progress]:
    # Validation cannot be shared equally, and the first process alone has a second batch of it if each splits its own share.
    return fit(Member(made, 7, {}, resume), FitSettings(split(train), split(val), 3, 8, device, "images"))


def measured(steps: Iterator[Progress]) -> list[dict[str, float]]:
    return [without_times(one.metrics) for one in steps if one.metrics]


def cut_off(device: Device, folder: Path) -> None:
    """Train up to `CUT` and store that."""
    for one in run(learner(device), device):
        if one.step == CUT:
            state = one.state()
            if device.rank == 0:
                checkpoints.store(folder, "trial", one.step, state)
            return


def gone_on(device: Device, folder: Path) -> list[dict[str, float]]:
    """What a trial measures that goes on from there; only the first process can read the folder."""
    found = checkpoints.newest(folder, "trial") if device.rank == 0 else (0, {"learner": None})
    step, state = device.broadcast(found)
    assert step == CUT
    return measured(run(learner(device, weights=99), device, state))


def work(rank: int, folder: Path) -> None:
    """One of two processes; the first one leaves what came of it in `folder`."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for strategy in STRATEGIES:
        device = Device(CPU.torch, rank, 2, strategy)
        found: dict[str, object] = {}
        made = learner(device)
        found["elements"] = sum(p.to_local().numel() if device.sharded else p.numel() for p in made._network.module.parameters())
        found["parameters"] = sum(parameter.numel() for parameter in made._network.module.parameters())
        found["metrics"] = measured(run(made, device))
        found["state"] = copy.deepcopy(device.gather(made.state_dict()))
        predictor = made.predictor()
        assert not any(isinstance(parameter, DTensor) for parameter in predictor.parameters())
        if rank == 0:  # alone, as what times or exports it does
            found["predictions"] = predictor(split(5).inputs).detach()
        found["after the predictor"] = measured(run(made, device))
        cut_off(device, folder / f"two {strategy}")
        found["from one"] = gone_on(device, folder / "one")
        found["from another"] = gone_on(device, folder / f"two {STRATEGIES[0]}")
        found["buffers"] = buffers_of_evaluation(device)
        found["normalised"] = measured(run(learner(device, normalised=True), device))
        found["bf16"] = measured(run(learner(device, precision="bf16 channels_last"), device))
        found["odd"] = [one.step for one in run(learner(device), device, train=25)]
        torch.save(found, folder / f"{strategy} {rank}.pt")
    torch.distributed.destroy_process_group()


def buffers_of_evaluation(device: Device) -> list[list[float]]:
    """The statistics of batch normalisation that a model, and the running mean of its weights, are evaluated with."""
    network = learner(device, normalised=True)._network
    network.train()
    images = split(8).inputs[device.rank :: 2].float() / 255
    network.minimise(network(images).square().mean())
    assert network.module.norm.running_mean.abs().min() > 0
    evaluated = [network.trained()]
    if not device.sharded:  # such a module cannot be copied
        mean = RunningMean(network, averaging=0.5)
        mean.update()
        evaluated.append(mean.module)
    return [module.norm.running_mean.tolist() for module in evaluated]


def reported(rank: int, folder: Path) -> None:
    try:
        work(rank, folder)
    except BaseException:  # noqa: BLE001  told where it can be read
        (folder / f"error {rank}").write_text(traceback.format_exc())
        os._exit(1)  # the other waits for it in vain


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have left what came of each strategy."""
    folder = tmp_path_factory.mktemp("two")
    cut_off(CPU, folder / "one")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=reported, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    errors = [path.read_text() for path in folder.glob("error *")]
    assert not errors, "\n".join(errors)
    return folder


@pytest.fixture(params=STRATEGIES)
def found(request: pytest.FixtureRequest, two: Path) -> dict:
    both = [torch.load(two / f"{request.param} {rank}.pt") for rank in range(2)]
    for name in ("metrics", "from one", "from another", "buffers", "normalised", "bf16", "odd"):
        assert both[0][name] == both[1][name], f"{name}: every process measures the same"
    return both[0] | {"strategy": request.param}


def assert_close(ours: list[dict[str, float]], theirs: list[dict[str, float]], tolerance: float = TOLERANCE) -> None:
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=tolerance)


def test_the_losses_are_those_of_one_process_at_the_same_global_batch(found):
    assert_close(found["metrics"], measured(run(learner(CPU), CPU)))
    assert [one["val/loss"] for one in found["metrics"]] != [found["metrics"][0]["val/loss"]] * 3, "it learns"


def test_fsdp_shares_the_parameters_out(found):
    whole = sum(parameter.numel() for parameter in learner(CPU)._network.module.parameters())
    assert found["parameters"] == whole
    if found["strategy"] == "ddp":
        assert found["elements"] == whole
    else:
        assert whole / 2 <= found["elements"] <= whole / 2 + 20, "the first process has the one that cannot be halved"


def test_a_state_is_that_of_one_process(found):
    alone = learner(CPU)
    list(run(alone, CPU))
    torch.testing.assert_close(found["state"], alone.state_dict(), rtol=1e-4, atol=1e-6)


def test_the_predictor_is_the_whole_model_and_training_goes_on_after_it(found):
    alone = learner(CPU)
    list(run(alone, CPU))
    torch.testing.assert_close(found["predictions"], alone.predictor()(split(5).inputs).detach(), rtol=1e-4, atol=1e-5)
    assert_close(found["after the predictor"], measured(run(alone, CPU)), 1e-4)


def test_two_go_on_where_one_was_cut_off(found):
    assert_close(found["from one"], measured(run(learner(CPU), CPU))[1:])
    assert_close(found["from another"], measured(run(learner(CPU), CPU))[1:])


def test_one_goes_on_where_two_were_cut_off(found, two):
    assert_close(gone_on(CPU, two / f"two {found['strategy']}"), measured(run(learner(CPU), CPU))[1:])


def test_a_checkpoint_has_the_same_names_and_shapes_whoever_wrote_it(found, two):
    def forms(state: object, name: str = "") -> dict[str, object]:
        if isinstance(state, dict):
            return {key: form for inner, value in state.items() for key, form in forms(value, f"{name}/{inner}").items()}
        return {name: (state.shape, state.dtype) if isinstance(state, Tensor) else type(state)}

    one, ours = (checkpoints.newest(two / name, "trial")[1] for name in ("one", f"two {found['strategy']}"))
    assert forms(one) == forms(ours)


def test_both_strategies_normalise_batches_alike(found, two):
    other = torch.load(two / "ddp 0.pt")
    assert_close(found["normalised"], other["normalised"])


def test_another_precision_is_as_near_as_alone(found):
    for mine, other in zip(found["bf16"], measured(run(learner(CPU), CPU)), strict=True):
        assert mine["val/loss"] == pytest.approx(other["val/loss"], rel=0.02)
        assert mine["val/loss"] != other["val/loss"]


def test_a_batch_that_cannot_be_shared_is_filled_up_so_that_steps_are_the_same(found):
    assert found["odd"] == [one.step for one in run(learner(CPU), CPU, train=25)]
    assert found["odd"][-1] == 3 * math.ceil(25 / 8)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_equal_shards_cover_the_batch(workers):
    for length in range(1, 9):
        shares = [Device(CPU.torch, rank, workers).equal_shard(torch.arange(length)).tolist() for rank in range(workers)]
        assert len({len(share) for share in shares}) == 1
        assert {item for share in shares for item in share} == set(range(length))
        assert sum(map(len, shares)) < length + workers
