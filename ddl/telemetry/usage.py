"""Device usage of a trial: readings accumulated into the metrics `device/...`."""

from dataclasses import asdict, dataclass, field

import torch

from ddl.devices import Device
from ddl.progress import State

MEANS = ("cpu_utilisation_percent", "gpu_utilisation_percent", "gpu_sm_activity_percent")
TOTALS = ("energy_wh",)
PEAKS = ("memory_peak_mb", "gpu_memory_peak_mb", "gpu_process_memory_peak_mb", "gpu_allocated_peak_mb", "gpu_temperature_max_celsius")

GAP_S, GAP = 2.0, 0.1
"""A figure is dropped if it misses more than GAP_S seconds and more than the fraction GAP of the trial."""


@dataclass
class Usage:
    """Usage over `seconds`: per figure, the accumulated amount (percent times seconds for means) and the seconds it covers."""

    seconds: float = 0.0
    amounts: dict[str, float] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State) -> "Usage":
        """Usage from the result of `state`."""
        return cls(state["seconds"], dict(state["amounts"]), dict(state["covered"]))

    def state(self) -> State:
        """State for a checkpoint."""
        return asdict(self)

    def add(self, reading: dict[str, float], seconds: float) -> None:
        """Add a reading that covers `seconds` since the previous one."""
        self.seconds += seconds
        for name, value in reading.items():
            if name in PEAKS:
                self.amounts[name] = max(self.amounts.get(name, value), value)
            else:
                self.amounts[name] = self.amounts.get(name, 0.0) + (value * seconds if name in MEANS else value)
            self.covered[name] = self.covered.get(name, 0.0) + seconds

    def plus(self, later: "Usage") -> "Usage":
        """The usage of this and of a `later` attempt together."""
        amounts = {
            name: max(self.amounts.get(name, value), value) if name in PEAKS else self.amounts.get(name, 0.0) + value
            for name, value in later.amounts.items()
        }
        covered = {name: self.covered.get(name, 0.0) + seconds for name, seconds in later.covered.items()}
        return Usage(self.seconds + later.seconds, self.amounts | amounts, self.covered | covered)

    def averaged(self, device: Device) -> "Usage":
        """Mean over the trial's workers, the same in each; all must call it. Peaks remain each worker's own."""
        if device.world_size == 1:
            return self
        names = MEANS + TOTALS
        own = [self.seconds, *(part.get(name, 0.0) for part in (self.amounts, self.covered) for name in names)]
        mean = device.sum(torch.tensor(own, dtype=torch.float64, device=device.torch)) / device.world_size
        seconds, *rest = mean.tolist()
        amounts, covered = rest[: len(names)], rest[len(names) :]
        return Usage(seconds, self.amounts | dict(zip(names, amounts, strict=True)), self.covered | dict(zip(names, covered, strict=True)))

    def metrics(self, workers: int) -> dict[str, float]:
        """Metrics of a trial with `workers` workers, without figures that have gaps in their readings."""
        gap = max(GAP_S, GAP * self.seconds)
        metrics = {}
        for name in (name for name, covered in self.covered.items() if covered > 0 and self.seconds - covered <= gap):
            amount = self.amounts[name]
            if name in MEANS:
                amount /= self.covered[name]
            elif name in TOTALS:
                amount *= workers
            metrics[name] = amount
        # The process's memory if the driver lists it, else the device's, which includes other processes.
        if metrics.get("gpu_process_memory_peak_mb"):
            metrics.pop("gpu_memory_peak_mb", None)
        else:
            metrics.pop("gpu_process_memory_peak_mb", None)
        if not metrics.get("gpu_allocated_peak_mb"):  # the trial's tensors are not in PyTorch's GPU allocator
            metrics.pop("gpu_allocated_peak_mb", None)
        return {f"device/{name}": value for name, value in metrics.items()}
