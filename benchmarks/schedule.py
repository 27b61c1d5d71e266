"""How busy a sweep of many short, uneven trials keeps a cluster: python benchmarks/schedule.py

A cluster of 4 nodes with 4 devices each, simulated on this machine (`ray.cluster_utils.Cluster`; the devices are declared and
trials only sleep), runs 300 trials. Printed, from the ledger's own times: the share of the devices' time in which a trial was
running, from the first one's start to the last one's end; the same of the ideal schedule, which has no gap but at the end;
their ratio; how many trials ran at once at most; and the memory of all processes of the cluster at its greatest.
"""

import argparse
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
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--trials", type=int, default=300)
    parse.add_argument("--nodes", type=int, default=4)
    parse.add_argument("--devices", type=int, default=4, help="of each node")
    parse.add_argument("--shortest", type=float, default=5.0, help="seconds of the shortest trial")
    parse.add_argument("--longest", type=float, default=35.0, help="seconds of the longest trial")
    given = parse.parse_args()
    # After ddl.sweeps, which says how Ray is to be used: Ray reads that when it is imported.
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
            memory = Memory()
            memory.start()
            sweep(cluster.address, lengths, Path(folder))
            memory.over.set()
        finally:
            cluster.shutdown()
        (run,) = Path(folder).glob("race/*")
        trials = LedgerReader(run).trials()
    show(trials, lengths, given.nodes * given.devices)
    print(f"memory of all of the cluster's processes at its greatest: {memory.most / 2**30:.1f} GiB")


def sweep(address: str, lengths: list[float], out: Path) -> None:
    pauses = ",".join(str(seconds / STEPS) for seconds in lengths)
    command = [sys.executable, str(ROOT / "launch.py"), "--sweep", str(PLUGIN / "race.yaml"), "--scale", "smoke", "--address", address]
    command += ["--out", str(out), f"task.pause_s={pauses}", f"task.steps={STEPS}", "task.speed=1.0", "resources.cpus=1"]
    path = os.pathsep.join([str(ROOT), str(PLUGIN)])
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL)


class Memory(threading.Thread):
    """Watches the proportional share of memory of all of Ray's workers and services, every two seconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(2.0):
            total = 0
            for process in psutil.process_iter():
                try:
                    if "ray" in process.name() or "ray" in " ".join(process.cmdline()[:4]):
                        total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.most = max(self.most, total)


def show(trials: list[TrialRow], lengths: list[float], devices: int) -> None:
    assert all(trial.status == "finished" and trial.attempts == 1 for trial in trials), "a trial did not finish, or began twice"
    spans = [(trial.started_at, trial.ended_at) for trial in trials if trial.started_at is not None and trial.ended_at is not None]
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    busy = sum(end - begin for begin, end in spans) / (devices * took)
    ideal = sum(lengths) / (devices * makespan(lengths, devices))
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    at_once = most = 0
    for _, change in changes:
        at_once += change
        most = max(most, at_once)
    print(
        f"{len(trials)} trials of {min(lengths):g} to {max(lengths):g} s on {devices} devices took {took:.0f} s, {time.strftime('%Y-%m-%d')}"
    )
    print(
        f"devices busy {busy:.1%} of the time, in the ideal schedule {ideal:.1%}: {busy / ideal:.1%} of it; {most} trials at once at most"
    )
    print(f"of the time the trials themselves need, without their overhead: {makespan(lengths, devices) / took:.1%}")


if __name__ == "__main__":
    main()
