"""Capacity of a machine or cluster: the CPU cores and GPUs of each node."""

from dataclasses import dataclass, replace

from ddl.gpus import machine_gpus
from ddl.telemetry.describe import usable_cores


@dataclass(frozen=True)
class Node:
    """CPU cores and GPUs of one node."""

    cpus: int
    gpus: int = 0

    def slots(self, cpus: int, gpus: float) -> int:
        """Number of workers that fit if each needs `cpus` cores and `gpus` (0..1) of one GPU."""
        if not gpus:
            return self.cpus // cpus
        return min(self.cpus // cpus, self.gpus * int(1 / gpus + 1e-9))


@dataclass(frozen=True)
class Capacity:
    """The nodes that trials can use, and a sentence for each GPU that they cannot use."""

    nodes: tuple[Node, ...]
    unusable_gpus: tuple[str, ...] = ()

    @property
    def cpus(self) -> int:
        """CPU cores of all nodes together."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """GPUs of all nodes together."""
        return sum(node.gpus for node in self.nodes)

    def slots(self, cpus: int, gpus: float) -> int:
        """Number of workers that fit if each needs `cpus` cores and `gpus` (0..1) of one GPU."""
        return sum(node.slots(cpus, gpus) for node in self.nodes)

    def without_gpus(self) -> "Capacity":
        """The same nodes with their CPU cores only."""
        return replace(self, nodes=tuple(Node(node.cpus) for node in self.nodes))

    def idle(self, cpus: int, gpus: float) -> "Capacity":
        """The nodes that no such worker fits on."""
        return Capacity(tuple(node for node in self.nodes if not node.slots(cpus, gpus)))


def local_capacity() -> Capacity:
    """Capacity of this machine: the cores that this process may use, and the usable GPUs."""
    gpus = machine_gpus()
    return Capacity((Node(usable_cores(), len(gpus.usable)),), gpus.problems)
