"""Device utilisation by a sweep of many trials, and the speedup of two devices over one.

    python benchmarks/schedule.py [--trials 300] [--nodes 4] [--devices 4] [--shortest 5] [--longest 35]
    python benchmarks/schedule.py --speedup 3 --trials 3 --seeds 4 [--shortest 18 --longest 22]

The cluster is simulated on this machine (`ray.cluster_utils.Cluster`): its devices are CPU cores that are only declared, and trials sleep. The
results are computed from the times in the ledger: the fraction of device time in which a trial was running, from the first
trial's start to the last one's end; the same for the ideal schedule, which starts trials in the sweep's order without pauses, so
that it has gaps only at the end; their ratio; the largest number of concurrent trials; and the peak memory of all processes of
the cluster. `--seeds` repeats each length: as in a real sweep, the plan then times a few configurations, not every trial.

With `--speedup ROUNDS` the same sweep runs alternately on one node with one device and on one with two, ROUNDS times each. The
speedup is the time on one device divided by that on two. An odd number n of equal trials cannot be divided equally, so the ideal
schedule's speedup is 2n / (n + 1): 1.8 for 9 trials, and at least 1.9 from 19 on.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.sweeps.plan import makespan

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "tests" / "sweeps" / "plugin"
STEPS = 10


@dataclass(frozen=True)
class Utilisation:
    """Use of devices by a sweep.

    took_s, ideal_s: seconds from the first trial's start to the last one's end, measured and in the ideal schedule.
    busy, ideal_busy: fraction of device time in which a trial was running, measured and in the ideal schedule.
    concurrent: largest number of trials that ran at once.
    """

    took_s: float
    ideal_s: float
    busy: float
    ideal_busy: float
    concurrent: int


def main() -> None:
    """Run the benchmark and print its results."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--trials", type=int, default=300, help="number of lengths")
    parse.add_argument("--seeds", type=int, default=1, help="trials of each length")
    parse.add_argument("--nodes", type=int, default=4)
    parse.add_argument("--devices", type=int, default=4, help="devices per node")
    parse.add_argument("--shortest", type=float, default=5.0, help="length of the shortest trial in seconds")
    parse.add_argument("--longest", type=float, default=35.0, help="length of the longest trial in seconds")
    parse.add_argument("--speedup", type=int, default=0, metavar="ROUNDS", help="compare one device with two, this many times")
    given = parse.parse_args()
    draw = random.Random(0)
    lengths = sorted({round(draw.uniform(given.shortest, given.longest), 4) for _ in range(given.trials)}, key=lambda _: draw.random())
    print(f"{len(lengths) * given.seeds} trials of {min(lengths):g} to {max(lengths):g} s, {time.strftime('%Y-%m-%d')}")
    if not given.speedup:
        used, memory = run(lengths, given.seeds, given.nodes, given.devices)
        print_results(used, given.nodes * given.devices)
        print(f"peak memory of all processes of the cluster: {memory / 2**30:.1f} GiB")
        return
    rounds = []
    for _ in range(given.speedup):
        one, _ = run(lengths, given.seeds, 1, 1)
        print_results(one, 1)
        two, _ = run(lengths, given.seeds, 1, 2)
        print_results(two, 2)
        rounds.append((one, two))
    print_speedup(rounds)


def run(lengths: list[float], seeds: int, nodes: int, devices: int) -> tuple[Utilisation, int]:
    """Run a sweep with `seeds` trials per entry of `lengths` (seconds) on a cluster. Returns its use of the devices and the peak memory."""
    # Imported after ddl.sweeps, which sets the variables that Ray reads on import.
    from ray.cluster_utils import Cluster

    from ddl.ray_private import keep_token

    keep_token(Path.home() / ".ray" / "auth_token")  # its processes require one
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
        )
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=devices, object_store_memory=80_000_000)
            cluster.wait_for_nodes()
            stopped, memory = threading.Event(), [0]
            threading.Thread(target=sample_memory, args=(stopped, memory), daemon=True).start()
            sweep(cluster.address, lengths, seeds, Path(folder))
            stopped.set()
        finally:
            cluster.shutdown()
        (run,) = Path(folder).glob("race/*")
        return utilisation(LedgerReader(run).trials(), lengths * seeds, nodes * devices), max(memory)


def sweep(address: str, lengths: list[float], seeds: int, out: Path) -> None:
    """Run a sweep with `seeds` trials per entry of `lengths` (seconds) on the cluster at `address`."""
    pauses = ",".join(str(seconds / STEPS) for seconds in lengths)
    command = [sys.executable, str(ROOT / "launch.py"), "--sweep", str(PLUGIN / "race.yaml"), "--scale", "smoke", "--address", address]
    command += ["--out", str(out), f"task.pause_s={pauses}", f"task.steps={STEPS}", "task.speed=1.0", "resources.cpus=1", f"seeds={seeds}"]
    path = os.pathsep.join([str(ROOT), str(PLUGIN)])
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL)


def sample_memory(stopped: threading.Event, totals: list[int]) -> None:
    """Append the memory of all of Ray's processes (proportional set size, in bytes) to `totals` every two seconds."""
    while not stopped.wait(2.0):
        totals.append(0)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if "ray" in process.name() or "ray" in " ".join(process.cmdline()[:4]):
                    totals[-1] += process.memory_full_info().pss


def utilisation(trials: Sequence[TrialRow], lengths: Sequence[float], devices: int) -> Utilisation:
    """Use of `devices` devices by trials that slept for `lengths` seconds. Raises ValueError if a trial did not finish at once."""
    for trial in trials:
        if trial.status != "finished" or trial.attempts != 1:
            raise ValueError(f"trial {trial.trial_id} is {trial.status} after {trial.attempts} attempts. Run the benchmark again.")
    spans = [(trial.started_at, trial.ended_at) for trial in trials if trial.started_at is not None and trial.ended_at is not None]
    took_s = max(end for _, end in spans) - min(begin for begin, _ in spans)
    ideal_s = makespan(lengths, devices)
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    concurrent = most = 0
    for _, change in changes:
        concurrent += change
        most = max(most, concurrent)
    busy = sum(end - begin for begin, end in spans) / (devices * took_s)
    return Utilisation(took_s, ideal_s, busy, sum(lengths) / (devices * ideal_s), most)


def print_results(used: Utilisation, devices: int) -> None:
    """Print the use of `devices` devices."""
    print(f"{devices} devices: {used.took_s:.1f} s, ideal {used.ideal_s:.1f} s ({used.ideal_s / used.took_s:.1%} of the time)")
    print(
        f"  busy {used.busy:.1%} of the time, ideal schedule {used.ideal_busy:.1%}, ratio {used.busy / used.ideal_busy:.1%}; "
        f"at most {used.concurrent} concurrent trials",
        flush=True,
    )


def print_speedup(rounds: Sequence[tuple[Utilisation, Utilisation]]) -> None:
    """Print the speedup of two devices over one, from rounds of (one device, two devices)."""
    speedups = [one.took_s / two.took_s for one, two in rounds]
    one, two = rounds[0]
    ratios = [two.busy / two.ideal_busy for _, two in rounds]
    print(
        f"speedup of two devices: {spread(speedups, '.3f')}, ideal schedule {one.ideal_s / two.ideal_s:.3f}; "
        f"busy / ideal on two devices: {spread(ratios, '.1%')}; n = {len(rounds)}"
    )


def spread(values: Sequence[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
