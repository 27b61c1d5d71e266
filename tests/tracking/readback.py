"""W&B's offline folders, read back with its own tool."""

import json
import subprocess
from pathlib import Path
from typing import Any

from wandb.util import get_core_path


def inspect(folder: Path, *options: str) -> str:
    """What `wandb leet inspect --json` says of one W&B folder; its command line alone takes a second to load."""
    (file,) = folder.glob("run-*.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *options, "--run-file", file, folder]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def held(folder: Path) -> dict[str, dict[str, Any]]:
    """By trial: the summary that W&B makes of its run, with `rows` (its history) and `folder`."""
    found: dict[str, dict[str, Any]] = {}
    for made in sorted((folder / "wandb").glob("offline-run-*")):
        run = json.loads(inspect(made, "--summary"))
        records = [json.loads(line) for line in inspect(made).splitlines()]
        trial_id = run["config"]["trial_id"]
        assert trial_id not in found, "two folders of one trial"
        about = next(record["run"] for record in records if record["type"] == "run")
        rows = [record["history"]["item"] for record in records if record["type"] == "history"]
        found[trial_id] = run | {"about": about, "rows": rows, "folder": made}
    return found
