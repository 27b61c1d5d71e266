"""The design's rules, held over the source itself: imports go one way, and each outside library has one owner."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from .codebase import duplicate_names

ROOT = Path(__file__).resolve().parents[1]

LAYERS = [
    {"allocator", "python_path", "redaction", "scratch"},
    {
        "sharding",
        "trial_report",
        "durable",
        "timings",
        "units",
        "counter_random",
        "fork_client",
        "hints",
        "run_folder",
        "trial_errors",
        "ledger_checks",
        "ledger_checksums",
        "ledger_tables",
        "program",
        "power",
        "metric_direction",
        "standard_streams",
        "strategy",
    },
    {"ledger_reader", "machine_use"},
    {"fork_server", "progress", "devices", "yamlfile", "ledger", "figures", "ownership", "ray_private"},
    {"checkpoints", "precision", "precision_setup", "data", "models", "metrics", "telemetry", "latency"},
    {"timed_trial"},
    {"timing_probe"},
    {"storage", "gpus"},
    {"provenance"},
    {"learners", "rl"},
    {"model_selection", "evaluation", "epoch_orders"},
    {"fit", "integrations"},
    {"scoring_classifier"},
    {"tasks"},
    {"schema"},
    {"overrides", "task_file", "sweep_file", "composed_sweep"},
    {"config"},
    {"function_sweep"},
    {"sweeps"},
    {"open_run", "plan_lines"},
    {"terminal", "console", "command_line", "reproduce", "export", "claimed_store"},
    {"again", "driver", "fetched_runs", "open_executor", "run_plans", "run_results", "prepared_runs"},
    {"run_report"},
    {"run_training"},
    {"run"},
    {"confirmation"},
    {"launch"},
]
"""Rooms of `ddl/`, a file or a folder each: each may import itself and those above it in this list, none beside or below it."""

READERS = {"reports", "tracking"}
"""Rooms that read the ledger and nothing else of a run. Only the driver, the command and its library import them."""

READ = {
    "ledger_reader",
    "ledger_tables",
    "durable",
    "run_folder",
    "units",
    "program",
    "power",
    "redaction",
    "metric_direction",
    "standard_streams",
}
"""What those rooms may import besides themselves."""

OWNERS = {
    "ray": ["ddl/ray_private.py", "ddl/sweeps/ray_*.py", "ddl/rl/*"],
    "wandb": ["ddl/tracking/*", "ddl/reports/wandb_report.py"],
    "optuna": ["ddl/sweeps/search.py"],
    "wandb_workspaces": ["ddl/reports/wandb_report.py"],
    "pynvml": ["ddl/telemetry/*"],
    "matplotlib": ["ddl/figures.py"],
    "tokenizers": ["ddl/data/*"],
    "hydra": ["ddl/overrides.py"],
    "lightning": ["ddl/integrations/lightning.py"],
    "fsspec": ["ddl/storage/*"],
    "omegaconf": ["ddl/overrides.py"],
}

JUNK_DRAWERS = {"util", "utils", "common", "helper", "helpers", "misc"}


def imports(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, wherever it stands; `from a import b` is `a.b`. `package` is what a dot means."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            for name in node.names:
                yield node.lineno, ".".join([*start, *filter(None, [node.module]), name.name])


def may_import(room: str, other: str) -> bool:
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    if room == other or other == "":
        return True
    if room in READERS:
        return other in READ
    if other in READERS:
        return room in {"driver", "run", "run_results", "run_report", "run_training", "confirmation", "launch"}
    return other in level and level[other] < level[room]


def problems(root: Path) -> list[str]:
    """What in the tree at `root` is against the rules, a line each."""
    found = []
    for path in sorted(
        [*root.glob("*.py"), *(path for folder in ("ddl", "tests", "benchmarks", "experiments") for path in (root / folder).rglob("*.py"))]
    ):
        place = path.relative_to(root)
        inside = place.parts[0] == "ddl"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if junk := JUNK_DRAWERS & {Path(part).stem for part in place.parts}:
            found.append(f"{place}: a file or folder named {junk.pop()} says nothing about what is in it")
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                found.append(f"{place}:{node.lineno}: a bare except")
        if not inside and place != Path("launch.py"):
            continue
        room = "launch" if not inside else Path(place.parts[1]).stem.replace("__init__", "")
        if inside and room and room not in READERS.union(*LAYERS):
            found.append(f"{place}: {room} is a room that the design does not know")
            continue
        for line, name in imports(tree, list(place.parent.parts)):
            top, _, rest = name.partition(".")
            if top == "ddl" and room and not may_import(room, rest.partition(".")[0]):
                found.append(f"{place}:{line}: {room} imports {name}")
            if top in OWNERS and not any(fnmatch(place.as_posix(), owner) for owner in OWNERS[top]):
                found.append(f"{place}:{line}: {top} belongs to {' and '.join(OWNERS[top])}")
    return found


def test_the_source_keeps_the_rules():
    assert problems(ROOT) == []


def test_the_architecture_page_has_the_order_of_imports():
    chain = " → ".join(f"`{', '.join(sorted(names))}`" for names in LAYERS)
    assert chain in " ".join((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split())


def test_every_public_name_has_one_home():
    assert duplicate_names(ROOT / "ddl") == {}


LONGEST_FILE, LONGEST_FUNCTION = 250, 60
"""Bounds in lines, comments and docstrings included."""


def too_long(root: Path) -> Iterator[tuple[str, int]]:
    """Files and functions of `root`/ddl above the bounds, with their number of lines."""
    for path in sorted((root / "ddl").rglob("*.py")):
        place, source = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        if (lines := len(source.splitlines())) > LONGEST_FILE:
            yield place, lines
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION:
                yield f"{place}: {node.name}", lines


def test_files_and_functions_are_short():
    assert dict(too_long(ROOT)) == {}


def test_a_long_file_and_a_long_function_are_found(tmp_path: Path):
    (tmp_path / "ddl").mkdir()
    (tmp_path / "ddl/a.py").write_text("class A:\n    def f(self):\n" + "        pass\n" * 60 + "\n" * 188)
    (tmp_path / "ddl/b.py").write_text("def f():\n" + "    pass\n" * 59 + "\n" * 191)
    assert list(too_long(tmp_path)) == [("ddl/a.py: f", 61), ("ddl/b.py", 251)]


def test_a_name_with_two_homes_is_found(tmp_path: Path):
    for module in ("a", "b"):
        (tmp_path / f"ddl/{module}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"ddl/{module}.py").write_text("class Reader:\n    pass\n\n\ndef _private():\n    pass\n\n\ndef main():\n    pass\n")
    assert duplicate_names(tmp_path / "ddl") == {"Reader": ["ddl/a.py", "ddl/b.py"]}


def test_every_rule_is_about_something_that_there_is():
    assert all((ROOT / "ddl" / f"{room}.py").is_file() or (ROOT / "ddl" / room).is_dir() or room == "rl" for room in READERS.union(*LAYERS))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree that keeps the rules."""
    files = {
        "launch.py": "from ddl.launch import main\n",
        "ddl/__init__.py": "def later():\n    from ddl import run\n",
        "ddl/progress.py": "import torch\n",
        "ddl/ledger.py": "import sqlite3\n",
        "ddl/fit.py": "from ddl.progress import Progress\nfrom ddl.learners.learner import Learner\n",
        "ddl/learners/__init__.py": "",
        "ddl/learners/learner.py": "from ddl.progress import State\n",
        "ddl/models/cnn.py": "from torch import nn\n",
        "ddl/sweeps/ray_tune.py": "import ray\nfrom ray import tune\n",
        "ddl/sweeps/space.py": "from ddl.config import build\n",
        "ddl/reports/html.py": "from ddl.ledger_reader import Reader\nfrom ddl.reports import model\n",
        "ddl/run.py": "from ddl import config\ndef go():\n    from ddl.reports import html\n",
        "tests/test_a.py": "import ray\nimport ddl.run\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert problems(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ddl/progress.py", "from ddl.fit import fit", "ddl/progress.py:1: progress imports ddl.fit.fit"),
        ("ddl/models/cnn.py", "import os, ddl.data.splits", "ddl/models/cnn.py:1: models imports ddl.data.splits"),
        ("ddl/fit.py", "def go():\n    from ddl import tasks", "ddl/fit.py:2: fit imports ddl.tasks"),
        ("ddl/fit.py", "if True:\n    import ddl.sweeps.space as s", "ddl/fit.py:2: fit imports ddl.sweeps.space"),
        ("ddl/learners/learner.py", "from ..fit import fit", "ddl/learners/learner.py:1: learners imports ddl.fit.fit"),
        ("ddl/learners/learner.py", "from .. import config", "ddl/learners/learner.py:1: learners imports ddl.config"),
        ("ddl/tasks/a.py", "from ddl.config import compose", "ddl/tasks/a.py:1: tasks imports ddl.config.compose"),
        ("ddl/reports/html.py", "from ddl import schema", "ddl/reports/html.py:1: reports imports ddl.schema"),
        ("ddl/tracking/a.py", "from ddl.reports import model", "ddl/tracking/a.py:1: tracking imports ddl.reports.model"),
        ("ddl/sweeps/space.py", "from ddl.reports import model", "ddl/sweeps/space.py:1: sweeps imports ddl.reports.model"),
        ("ddl/sweeps/space.py", "from ddl.nothing import a", "ddl/sweeps/space.py:1: sweeps imports ddl.nothing.a"),
        (
            "ddl/sweeps/executors.py",
            "import ray.tune",
            "ddl/sweeps/executors.py:1: ray belongs to ddl/ray_private.py and ddl/sweeps/ray_*.py and ddl/rl/*",
        ),
        ("ddl/run.py", "def go():\n    import wandb", "ddl/run.py:2: wandb belongs to ddl/tracking/* and ddl/reports/wandb_report.py"),
        ("ddl/devices.py", "from pynvml import nvmlInit", "ddl/devices.py:1: pynvml belongs to ddl/telemetry/*"),
        ("launch.py", "from hydra import main", "launch.py:1: hydra belongs to ddl/overrides.py"),
        ("ddl/schema.py", "from omegaconf import DictConfig", "ddl/schema.py:1: omegaconf belongs to ddl/overrides.py"),
        ("ddl/sweeps/utils.py", "", "ddl/sweeps/utils.py: a file or folder named utils says nothing about what is in it"),
        ("tests/helpers/a.py", "", "tests/helpers/a.py: a file or folder named helpers says nothing about what is in it"),
        ("ddl/fit.py", "try:\n    go()\nexcept:\n    pass", "ddl/fit.py:3: a bare except"),
        ("tests/test_a.py", "try:\n    go()\nexcept:\n    pass", "tests/test_a.py:3: a bare except"),
        ("ddl/cellar/a.py", "", "ddl/cellar/a.py: cellar is a room that the design does not know"),
        ("ddl/attic.py", "", "ddl/attic.py: attic is a room that the design does not know"),
    ],
)
def test_a_planted_violation_is_found(tree, file, content, said):
    (tree / file).parent.mkdir(parents=True, exist_ok=True)
    (tree / file).write_text(content)
    assert problems(tree) == [said]
