"""The example sweep and the example task of the documentation, as their pages print them, at smoke scale."""

import pytest

from tests.docs import pages
from tests.sweeps.command import launch, run_folder

FAST = ("--scale", "smoke", "--executor", "inline", "seeds=1", "resources.cpus=1", "latency=none", "wandb.mode=disabled")


@pytest.mark.parametrize(
    ("page", "sweep", "more", "trials"),
    [
        ("adding-a-sweep.md", "my/dropout.yaml", ["task.precision=fp32"], 4),  # without the timing of precisions
        ("adding-a-task.md", "my/sine_loss.yaml", [], 2),
    ],
)
def test_example_runs(tmp_path, page, sweep, more, trials):
    for name, content in pages.files(pages.ROOT / "docs" / page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    result = launch("--sweep", sweep, *FAST, *more, cwd=tmp_path, PYTHONPATH=f"{pages.ROOT}:{tmp_path / 'my'}")
    assert result.returncode == 0, result.stderr
    assert (run_folder(result.stdout, tmp_path) / "results.csv").read_text().count("finished") == trials
