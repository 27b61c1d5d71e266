"""Several learners that are trained as one model, of which each remains an ordinary learner."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddl.devices import Device, seed_step
from ddl.learners.learner import Batch, Learner, SeveralNetworksLearner, SingleNetworkLearner, StackableLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.stacked_optimiser import StackedOptimiser
from ddl.models.dropout import DropoutKeys

LARGE = 2**16
"""Elements from which a parameter gets a block of its own: under `torch.vmap` an embedding copies a weight whose members are not adjacent."""


class StackedLearner:
    """Learners of one kind, each of its own trial (a member), that take their steps together. A single one is trained as it is.

    Several are `StackableLearner`s. Each keeps its methods: its network and its optimiser hold views of the stack's tensors, so that it
    is evaluated and checkpointed like a learner alone. `seeds` are the trials' seeds, on which all random numbers depend.
    """

    def __init__(self, learners: Sequence[Learner], seeds: Sequence[int], device: Device):
        assert len(learners) == 1 or device.world_size == 1, "several processes train no stack"
        self._learners, self._seeds, self._device = list(learners), list(seeds), device
        self._stack: _StackedNetwork | None = None
        self._build()

    def _build(self) -> None:
        if not all(isinstance(learner, SingleNetworkLearner) for learner in self._learners):
            several = [learner.modules for learner in self._learners if isinstance(learner, SeveralNetworksLearner)]
            self._keys = DropoutKeys(several, self._seeds, self._device.rank)
            return
        networks = [learner.network for learner in self._learners if isinstance(learner, SingleNetworkLearner)]
        if len(networks) == 1 and self._stack:
            self._stack = None
            _own_tensors(networks[0])
        self._keys = DropoutKeys([network.module for network in networks], self._seeds, self._device.rank)
        if len(networks) > 1:
            self._stack = _StackedNetwork(networks, self._keys.stacked())

    def remove(self, positions: Collection[int]) -> None:
        """Remove the members at these positions from the stack. At least one must remain."""
        self._learners = [learner for position, learner in enumerate(self._learners) if position not in positions]
        self._seeds = [seed for position, seed in enumerate(self._seeds) if position not in positions]
        self._build()

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Take the step number `step` on each member's batch: its tensors are [k, n, ...], those of a single member [n, ...].

        Returns the loss and its named parts of each member: detached, [k], on the device.
        """
        self._keys.advance(step)
        if self._stack is None:
            seed_step(self._seeds[0], step, self._device.rank)
            return {name: value.view(1) for name, value in self._learners[0].step(batch).items()}
        learners = [learner for learner in self._learners if isinstance(learner, StackableLearner)]
        assert len(learners) == len(self._learners)
        if learners[0].augments:
            prepared = []
            for position, learner in enumerate(learners):
                seed_step(self._seeds[position], step)
                prepared.append(learner.prepared(tuple(part[position] for part in batch)))
            batch = tuple(torch.stack(parts) for parts in zip(*prepared, strict=True))
        return self._stack.step(learners[0], batch)


class _StackedNetwork:
    """The tensors of several `OptimisedModule`s with equal modules, and their common step.

    Trainable parameters lie in blocks [k, n] of one or several parameters; the members' parameters, buffers and optimiser states are
    views of the stack's. Frozen parameters, which are equal in all members, are shared.
    """

    def __init__(self, networks: Sequence[OptimisedModule], keys: Mapping[str, Tensor]):
        """`keys` are buffers that are stacked already."""
        self._networks = networks
        modules = [network.module for network in networks]
        trainable = [[(name, value) for name, value in module.named_parameters() if value.requires_grad] for module in modules]
        self._parameters = [[parameter for _, parameter in member] for member in trainable]
        self._names = [name for name, _ in trainable[0]]
        self._shapes = [parameter.shape for parameter in self._parameters[0]]
        self._blocks: list[Tensor] = []
        self._contents = _grouped([shape.numel() for shape in self._shapes])
        for block in self._contents:
            values = [[member[number].detach().reshape(-1) for number in block] for member in self._parameters]
            self._blocks.append(torch.stack([torch.cat(parts) for parts in values]))
        lrs = [network.initial_lrs[0] for network in networks]
        self._optimiser = StackedOptimiser([network.optimiser for network in networks], lrs, self._blocks, len(self._names))
        self._attached = False
        self._load_optimisers()
        for parameters, views in zip(self._parameters, self._views(self._blocks), strict=True):
            for parameter, view in zip(parameters, views, strict=True):
                parameter.data = view
        self._share_frozen(modules)
        self._buffers = dict(keys)
        for name, _ in modules[0].named_buffers():
            if name not in keys:
                self._buffers[name] = torch.stack([module.get_buffer(name) for module in modules])
                for module, value in zip(modules, self._buffers[name], strict=True):
                    path, _, leaf = name.rpartition(".")
                    setattr(module.get_submodule(path), leaf, value)

    def _share_frozen(self, modules: Sequence[nn.Module]) -> None:
        for name, parameter in modules[0].named_parameters():
            if not parameter.requires_grad:
                for module in modules[1:]:
                    other = module.get_parameter(name)
                    assert torch.equal(other, parameter), f"{name}: frozen, and different in two members"
                    other.data = parameter.data

    def _views(self, blocks: Sequence[Tensor]) -> list[list[Tensor]]:
        """For each member, the views of its parameters in `blocks`, in the parameters' order."""
        views: list[list[Tensor]] = []
        for position in range(len(self._networks)):
            own: dict[int, Tensor] = {}
            for numbers, block in zip(self._contents, blocks, strict=True):
                parts = block[position].split([self._shapes[number].numel() for number in numbers])
                own |= {number: part.view(self._shapes[number]) for number, part in zip(numbers, parts, strict=True)}
            views.append([own[number] for number in range(len(self._names))])
        return views

    def _load_optimisers(self) -> None:
        """Copy the states of the members' optimisers into the stack's; a state that does not exist yet equals zeros."""
        for name in self._optimiser.slots[0]:
            views = self._views([slot[name] for slot in self._optimiser.slots])
            for network, parameters, own in zip(self._networks, self._parameters, views, strict=True):
                for parameter, view in zip(parameters, own, strict=True):
                    if (value := network.optimiser.state.get(parameter, {}).get(name)) is not None:
                        view.copy_(value)
        for network, parameters, steps in zip(self._networks, self._parameters, self._optimiser.steps, strict=True):
            for parameter, step in zip(parameters, steps, strict=True):
                if "step" in (state := network.optimiser.state.get(parameter, {})):
                    step.copy_(state["step"])

    def _attach_optimisers(self) -> None:
        """Make the states of the members' optimisers views of the stack's. Before the first step, they have none."""
        self._attached = True
        views = {name: self._views([slot[name] for slot in self._optimiser.slots]) for name in self._optimiser.slots[0]}
        for position, (network, parameters) in enumerate(zip(self._networks, self._parameters, strict=True)):
            if not views or network.optimiser.param_groups[0].get("momentum") == 0:
                continue  # SGD without momentum has no state
            for number, parameter in enumerate(parameters):
                state = network.optimiser.state[parameter]
                if "exp_avg" in views:
                    state["step"] = self._optimiser.steps[position, number]
                state.update({name: own[position][number] for name, own in views.items()})

    def step(self, learner: StackableLearner, batch: Batch) -> dict[str, Tensor]:
        """One step of all members on batches of tensors [k, n, ...], with the losses of `learner`, which is the first member's."""
        self._networks[0].train()
        leaves = [block.detach().requires_grad_() for block in self._blocks]
        parameters: dict[str, Tensor] = {}
        for numbers, leaf in zip(self._contents, leaves, strict=True):
            sizes = [self._shapes[number].numel() for number in numbers]
            parts = leaf.split(sizes, dim=1) if len(sizes) > 1 else [leaf]
            for number, part in zip(numbers, parts, strict=True):
                parameters[self._names[number]] = part.view(len(self._networks), *self._shapes[number])
        losses = torch.vmap(partial(self._losses, learner))(parameters, self._buffers, batch)
        first = self._networks[0]
        gradients = torch.autograd.grad(losses["loss"].sum(), leaves)
        self._optimiser.step(gradients, first.schedule(), first.clip)
        for network in self._networks:
            network.steps += 1
        if not self._attached:
            self._attach_optimisers()
        return {name: value.detach() for name, value in losses.items()}

    def _losses(self, learner: StackableLearner, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Batch) -> Any:
        network = self._networks[0]

        def call(*inputs: Any) -> Any:
            return functional_call(network.module, {**parameters, **buffers}, inputs)

        return learner.losses(partial(network.autocast, call), batch)


def _grouped(sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of the parameters in each block: a large one for itself, and all others together."""
    small = [number for number, size in enumerate(sizes) if size < LARGE]
    return [group for group in (small, *([number] for number, size in enumerate(sizes) if size >= LARGE)) if group]


def _own_tensors(network: OptimisedModule) -> None:
    """Replace views of a stack that no longer exists by tensors of the network's own."""
    module = network.module
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    for name, value in list(module.named_buffers()):
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, value.clone())
    for state in network.optimiser.state.values():
        state.update({name: value.clone() for name, value in state.items() if isinstance(value, Tensor)})
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
