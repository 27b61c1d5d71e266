"""Campaign: damaged checkpoints and ledgers are refused or read as they were written, and never end in a traceback.

A checkpoint has a checksum, so a damaged one must never be used. So has each row of a ledger. Ledgers that are read with other values
nevertheless are counted.
"""

import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch

from ddl import checkpoints
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.run_folder import LEDGER
from ddl.trial_report import TrialReport

from .figures import write_figures

SEED = 20
IDENTITY = "trial"


def damage(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """`content` truncated, with some bits flipped, or with a part replaced by one of `other`."""
    changed = bytearray(content)
    match chance.randrange(3):
        case 0:
            return content[: chance.randrange(len(content))]
        case 1:
            for _ in range(chance.choice([1, 1, 2, 16])):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        case 2:
            at, length = chance.randrange(len(changed)), chance.randrange(1, 600)
            begin = chance.randrange(len(other))
            changed[at : at + length] = other[begin : begin + length]
    return bytes(changed)


def state(seed: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(seed)
    return {"weights": torch.randn(20, 5, generator=generator), "step": seed, "names": ["a", "b"], "optimiser": {0: torch.ones(3) * seed}}


def damaged_checkpoints(number: int, seed: int, folder: Path) -> Counter[str]:
    """Damage `number` checkpoints, and count how they are read. Raises AssertionError if a damaged one is used."""
    chance, outcomes = random.Random(seed), Counter[str]()
    for index in (1, 2):
        checkpoints.store(folder / "good" / str(index), IDENTITY, index, state(index))
    good, other = (folder / "good" / str(index) / f"step-{index:09d}" for index in (1, 2))
    original = {path.name: path.read_bytes() for path in good.iterdir()}
    place = folder / "damaged"
    shutil.copytree(good, place / good.name)
    assert checkpoints.newest(place, IDENTITY) is not None, "without damage it is read"
    for _ in range(number):
        shutil.rmtree(place, ignore_errors=True)
        (place / good.name).mkdir(parents=True)
        name = chance.choice(sorted(original))
        altered = damage(original[name], (other / name).read_bytes(), chance)
        for file, content in original.items():
            (place / good.name / file).write_bytes(altered if file == name else content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = checkpoints.newest(place, IDENTITY)
        if found is None:
            outcomes["refused"] += 1
            continue
        step, read = found
        assert step == 1
        assert torch.equal(read["weights"], state(1)["weights"]), (name, altered)
        assert {**read, "weights": 0} == {**state(1), "weights": 0, "optimiser": read["optimiser"]}, (name, altered)
        assert torch.equal(read["optimiser"][0], torch.ones(3))
        outcomes["read as written"] += 1
    return outcomes


def damaged_ledgers(number: int, seed: int, folder: Path) -> Counter[str]:
    """Damage `number` ledgers, and count how they are read. Raises if reading one raises anything but ValueError."""
    chance, outcomes = random.Random(seed), Counter[str]()
    contents = []
    for index in (1, 2):
        place = folder / f"ledger-{index}"
        place.mkdir()
        trials = [TrialRow(f"t{n}", n, f"lr={n / 10}", {"task.lr": n / 10}, {"lr": n / 10, "seed": n}, n) for n in range(4)]
        with Ledger.create(place, {"sweep": {"name": f"s{index}", "keys": ["task.lr"]}, "created": "now"}, trials) as ledger:
            for step in range(20):
                metrics = {"val/accuracy": step / 20 + index}
                ledger.record([TrialReport(f"t{n}", "measured", step=step, elapsed_s=step, metrics=metrics) for n in range(4)])
        contents.append((place / LEDGER).read_bytes())
    written = read_ledger(folder / "ledger-1")
    place = folder / "damaged-ledger"
    place.mkdir()
    for _ in range(number):
        (place / LEDGER).write_bytes(damage(*contents, chance))
        try:
            read = read_ledger(place)
        except ValueError as error:
            if not str(error).startswith(str(place)):
                raise AssertionError("the message does not name the file") from error
            outcomes["refused"] += 1
        else:
            outcomes["read as written" if read == written else "read with other values"] += 1
    return outcomes


def read_ledger(place: Path) -> list[object]:
    reader = LedgerReader(place)
    return [reader.run(), reader.trials(), reader.metrics().to_csv(), reader.events().to_csv()]


def main(n_checkpoints: int = 8000, n_ledgers: int = 2000) -> None:
    with tempfile.TemporaryDirectory(prefix="ddl-faults-") as scratch:
        of_checkpoints = damaged_checkpoints(n_checkpoints, SEED, Path(scratch))
        of_ledgers = damaged_ledgers(n_ledgers, SEED, Path(scratch))
    write_figures(
        "damaged_records",
        "Damaged checkpoints and ledgers",
        [
            ("seed", SEED),
            ("damaged checkpoints", n_checkpoints),
            *((f"checkpoints {what}", n) for what, n in sorted(of_checkpoints.items())),
            ("damaged checkpoints that were used", 0),
            ("damaged ledgers", n_ledgers),
            *((f"ledgers {what}", n) for what, n in sorted(of_ledgers.items())),
            ("tracebacks", 0),
        ],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
