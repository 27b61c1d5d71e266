"""What a trial has used of its devices: readings added up into the figures that stand in its record."""

from dataclasses import asdict, dataclass, field

import torch

from ddl.devices import Device
from ddl.progress import State

MEANS = ("cpu_utilisation_percent", "gpu_utilisation_percent", "gpu_sm_activity_percent")
TOTALS = ("energy_wh",)
PEAKS = ("memory_peak_mb", "gpu_memory_peak_mb", "gpu_process_memory_peak_mb", "gpu_temperature_max_celsius")

GAP_S, GAP = 2.0, 0.1
"""A figure may miss so many seconds of the trial, or this share of it. A part that is smaller would pass for the whole."""


@dataclass
class Usage:
    """Of `seconds`: per figure what was added up (a mean's sum is in percent times seconds) and how many seconds that covers."""

    seconds: float = 0.0
    amounts: dict[str, float] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State) -> "Usage":
        """What `state` gave."""
        return cls(state["seconds"], dict(state["amounts"]), dict(state["covered"]))

    def state(self) -> State:
        return asdict(self)

    def add(self, reading: dict[str, float], seconds: float) -> None:
        """A reading, and the seconds since the one before."""
        self.seconds += seconds
        for name, value in reading.items():
            if name in PEAKS:
                self.amounts[name] = max(self.amounts.get(name, value), value)
            else:
                self.amounts[name] = self.amounts.get(name, 0.0) + (value * seconds if name in MEANS else value)
            self.covered[name] = self.covered.get(name, 0.0) + seconds

    def averaged(self, device: Device) -> "Usage":
        """The mean over the trial's workers, the same in each; all have to ask. Peaks stay each worker's own."""
        if device.world_size == 1:
            return self
        names = MEANS + TOTALS
        mine = [self.seconds, *(part.get(name, 0.0) for part in (self.amounts, self.covered) for name in names)]
        together = device.sum(torch.tensor(mine, dtype=torch.float64, device=device.torch)) / device.world_size
        seconds, *rest = together.tolist()
        amounts, covered = rest[: len(names)], rest[len(names) :]
        return Usage(seconds, self.amounts | dict(zip(names, amounts, strict=True)), self.covered | dict(zip(names, covered, strict=True)))

    def figures(self, workers: int) -> dict[str, float]:
        """By metric name, of a trial that so many `workers` trained; without what was not measured all the time."""
        gap = max(GAP_S, GAP * self.seconds)
        found = {}
        for name in (name for name, covered in self.covered.items() if covered > 0 and self.seconds - covered <= gap):
            amount = self.amounts[name]
            if name in MEANS:
                amount /= self.covered[name]
            elif name in TOTALS:
                amount *= workers
            found[name] = amount
        # Of the process, where the driver tells; else of the device, with all that others hold there.
        if found.get("gpu_process_memory_peak_mb"):
            found.pop("gpu_memory_peak_mb", None)
        else:
            found.pop("gpu_process_memory_peak_mb", None)
        return {f"device/{name}": value for name, value in found.items()}
