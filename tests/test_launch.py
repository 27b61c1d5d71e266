"""The command answers a simple question without importing what only a sweep needs."""

import os
import subprocess
import sys

import pytest

from tests.sweeps.command import ROOT

SCRIPT = "import sys; from ddl.launch import main; code = main(sys.argv[1:]); print(code, *sorted(sys.modules))"


@pytest.mark.parametrize(
    ("arguments", "code", "heavy"),
    [
        (["--list"], 0, ("torch", "pydantic", "hydra", "ray", "pandas")),
        (["--report"], 2, ("torch", "pydantic", "hydra", "ray", "pandas")),
        (
            ["--sweep", "augmentation", "task.lrr=1"],
            2,
            (
                "torch.distributed.fsdp",
                "torch.utils.flop_counter",
                "torch._dynamo",
                "optuna",
                "requests",
                "ray",
                "pandas",
                "wandb",
                "plotly",
            ),
        ),
    ],
    ids=["list", "nothing to report", "mistake"],
)
def test_heavy_imports_wait_until_they_are_needed(arguments: list[str], code: int, heavy: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    returned, *modules = done.stdout.splitlines()[-1].split()
    assert int(returned) == code, done.stderr
    assert set(heavy).isdisjoint(modules)
