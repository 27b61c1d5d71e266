"""Device utilisation of a cluster by a sweep of many short trials of different lengths.

    python benchmarks/schedule.py [--trials 300] [--nodes 4] [--devices 4] [--shortest 5] [--longest 35]

The cluster is simulated on this machine (`ray.cluster_utils.Cluster`): its devices are only declared, and trials sleep. The
results are computed from the times in the ledger: the fraction of device time in which a trial was running, from the first
trial's start to the last one's end; the same for the ideal schedule, which has gaps only at the end; their ratio; the largest
number of concurrent trials; and the peak memory of all processes of the cluster.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from ddl.ledger import LedgerReader, TrialRow
from ddl.sweeps.plan import makespan

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "tests" / "sweeps" / "plugin"
STEPS = 10


def main() -> None:
    """Run the benchmark and print its results."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--trials", type=int, default=300)
    parse.add_argument("--nodes", type=int, default=4)
    parse.add_argument("--devices", type=int, default=4, help="devices per node")
    parse.add_argument("--shortest", type=float, default=5.0, help="length of the shortest trial in seconds")
    parse.add_argument("--longest", type=float, default=35.0, help="length of the longest trial in seconds")
    given = parse.parse_args()
    # Imported after ddl.sweeps, which sets the variables that Ray reads on import.
    from ray.cluster_utils import Cluster

    draw = random.Random(0)
    lengths = sorted({round(draw.uniform(given.shortest, given.longest), 4) for _ in range(given.trials)}, key=lambda _: draw.random())
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
        )
        try:
            for _ in range(given.nodes):
                cluster.add_node(num_cpus=given.devices, num_gpus=given.devices, object_store_memory=80_000_000)
            cluster.wait_for_nodes()
            stopped, memory = threading.Event(), [0]
            threading.Thread(target=sample_memory, args=(stopped, memory), daemon=True).start()
            sweep(cluster.address, lengths, Path(folder))
            stopped.set()
        finally:
            cluster.shutdown()
        (run,) = Path(folder).glob("race/*")
        trials = LedgerReader(run).trials()
    print_results(trials, lengths, given.nodes * given.devices)
    print(f"peak memory of all processes of the cluster: {max(memory) / 2**30:.1f} GiB")


def sweep(address: str, lengths: list[float], out: Path) -> None:
    """Run a sweep with one trial per entry of `lengths` (seconds) on the cluster at `address`."""
    pauses = ",".join(str(seconds / STEPS) for seconds in lengths)
    command = [sys.executable, str(ROOT / "launch.py"), "--sweep", str(PLUGIN / "race.yaml"), "--scale", "smoke", "--address", address]
    command += ["--out", str(out), f"task.pause_s={pauses}", f"task.steps={STEPS}", "task.speed=1.0", "resources.cpus=1"]
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


def print_results(trials: list[TrialRow], lengths: list[float], devices: int) -> None:
    """Print the utilisation of `devices` devices by trials that slept for `lengths` seconds."""
    assert all(trial.status == "finished" and trial.attempts == 1 for trial in trials), "a trial did not finish, or started twice"
    spans = [(trial.started_at, trial.ended_at) for trial in trials if trial.started_at is not None and trial.ended_at is not None]
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    busy = sum(end - begin for begin, end in spans) / (devices * took)
    ideal = sum(lengths) / (devices * makespan(lengths, devices))
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    concurrent = most = 0
    for _, change in changes:
        concurrent += change
        most = max(most, concurrent)
    print(
        f"{len(trials)} trials of {min(lengths):g} to {max(lengths):g} s on {devices} devices took {took:.0f} s, {time.strftime('%Y-%m-%d')}"
    )
    print(f"devices busy {busy:.1%} of the time, ideal schedule {ideal:.1%}, ratio {busy / ideal:.1%}; at most {most} concurrent trials")
    print(f"ideal time of the trials without overhead / measured time: {makespan(lengths, devices) / took:.1%}")


if __name__ == "__main__":
    main()
