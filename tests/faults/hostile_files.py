"""Campaign: files of a run that comes from elsewhere run no code, show no file outside the run, and change none.

Each case changes a copy of one trained run as a stranger could, and gives it to the commands that read runs. Reports that are written
nevertheless are opened in Chromium, if there is one.
"""

import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddl import checkpoints
from ddl.launch import main as command
from ddl.ledger_reader import LedgerReader
from ddl.run_folder import LEDGER
from tests.ledgers import edited_ledger

from .figures import write_figures

SECRET = "canary0outside"
SWEEP = (
    "--sweep", "augmentation", "--scale", "smoke", "--executor", "inline", "task.augmentation=none", "seeds=1", "latency=none", "wandb.mode=disabled",
    "task.precision=fp32", "task.train_limit=32", "task.val_limit=16", "task.widths=[4]", "task.convolutions=1", "task.dense=4", "resources.cpus=1",
)  # fmt: skip
PAGE = "<script>document.title='ran'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='ran'\">"


class Touch:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.path),)


@dataclass(frozen=True)
class Case:
    """A copy of the trained run that a stranger may change, a folder `outside` it with a secret, and a file that his code would create."""

    run: Path
    trial: str
    outside: Path
    ran: Path

    @property
    def trial_folder(self) -> Path:
        return self.run / "trials" / self.trial

    @property
    def checkpoint(self) -> Path:
        return next((self.trial_folder / "checkpoints").glob("step-*"))

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file of the trial."""
        path = self.trial_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)

    def link(self, name: str, target: Path | str) -> None:
        path = self.trial_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def sql(self, statement: str, *values: Any) -> None:
        with edited_ledger(self.run) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(statement, values)

    def record(self, key: str, value: Any) -> None:
        """Change an entry of the run's record; "sweep.title" is the entry `title` of `sweep`."""
        name, _, part = key.partition(".")
        if part:
            value = LedgerReader(self.run).run()[name] | {part: value}
        self.sql("INSERT OR REPLACE INTO run (key, value) VALUES (?, ?)", name, json.dumps(value))

    def tensors(self, content: bytes, **manifest: Any) -> None:
        """Replace the tensors of the checkpoint and parts of its manifest, with the right checksum."""
        path = self.checkpoint / "manifest.json"
        changed = json.loads(path.read_text()) | manifest
        (self.checkpoint / "state.safetensors").write_bytes(content)
        path.write_text(json.dumps(changed | {"sha256": checkpoints._checksum(changed, content)}))


def _header(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _png(width: int, height: int, data: bytes, after: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    begin = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return begin + chunk(b"IDAT", data) + chunk(b"IEND", b"") + after


def _evil_module(case: Case, name: str = "evil") -> None:
    (case.run / f"{name}.py").write_text(f"import os\nos.mknod({str(case.ran)!r})\nclass Evil: pass\ndef train(lr): return {{}}\n")


def _evil_class(case: Case, path: str) -> None:
    _evil_module(case)
    case.record("task_class", path)
    case.sql("UPDATE trials SET task = ?", json.dumps({"args": f"touch {case.ran}", "path": str(case.outside), "shell": True, "lr": 0.1}))


def _super_journal(case: Case) -> None:
    name = str(case.outside / "secret.txt").encode()
    header = (bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 0, 0, (case.run / LEDGER).stat().st_size // 4096, 512, 4096)).ljust(
        512, b"\0"
    )
    named = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + header[:8]
    (case.run / f"{LEDGER}-journal").write_bytes(header + named)


def _svg(inner: str, attributes: str = "", before: str = "") -> str:
    return f'{before}<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" {attributes}>{inner}</svg>'


def _ledger_is(case: Case, make: Callable[[Path], object]) -> None:
    (case.run / LEDGER).unlink()
    make(case.run / LEDGER)


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(12))
CLASSES = ("os.system", "subprocess.Popen", "builtins.exec", "pickle.loads", "ddl.export.shutil.rmtree", "ddl.tracking.follower_process.subprocess", "evil.Evil", "__main__.Evil", "../evil.Evil")  # fmt: skip
TEXTS = ("sweep.title", "sweep.name", "command", "resume", "created", "commit", "host", "versions", "scale", "url", "code_folder")
LINKS = ("figures/a.svg", "samples/a.txt", "checkpoints", "samples", "export", "secret.txt")

CASES: Mapping[str, Callable[[Case], object]] = {
    "checkpoint: a pickle": lambda c: c.write(f"checkpoints/{c.checkpoint.name}/state.safetensors", pickle.dumps(Touch(c.ran))),
    "checkpoint: a pickle with the right checksum": lambda c: c.tensors(pickle.dumps(Touch(c.ran))),
    "checkpoint: a header longer than the file": lambda c: c.tensors(_header(b"{}", 2**62)),
    "checkpoint: a shape that overflows": lambda c: c.tensors(_header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}')),
    "checkpoint: tensors outside the file": lambda c: c.tensors(_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}')),
    "checkpoint: deep JSON": lambda c: c.write(f"checkpoints/{c.checkpoint.name}/manifest.json", "[" * 200_000),
    "checkpoint: other tensors": lambda c: c.tensors(_header(b"{}"), state={"items": {"task": {"tensor": "../../secret.txt"}}}),
    "checkpoint: a step that is a path": lambda c: c.tensors(_header(b"{}"), step=str(c.outside)),
    "checkpoint: an endless number": lambda c: c.tensors(_header(b"{}"), step=10**4000),
    "checkpoint: a pipe": lambda c: os.mkfifo(c.checkpoint / "pipe"),
    "ledger: a super-journal outside": _super_journal,
    "ledger: a trigger": lambda c: c.sql("CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM metrics; END"),
    "ledger: a view that reads a file": lambda c: c.sql("CREATE VIEW v AS SELECT readfile('/etc/passwd')"),
    "ledger: a table that is an endless view": lambda c: c.sql(
        "UPDATE sqlite_master SET type='view', sql='CREATE VIEW events AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n' WHERE name='events'"
    ),
    "ledger: a write-ahead log": lambda c: c.sql("PRAGMA journal_mode = WAL"),
    "ledger: a folder": lambda c: _ledger_is(c, Path.mkdir),
    "ledger: a pipe": lambda c: _ledger_is(c, os.mkfifo),
    "ledger: empty": lambda c: _ledger_is(c, Path.touch),
    "ledger: a link outside": lambda c: _ledger_is(c, lambda path: path.symlink_to(c.outside / "secret.txt")),
    "ledger: a device": lambda c: _ledger_is(c, lambda path: path.symlink_to("/dev/zero")),
    "ledger: a hyperparameter that names a file": lambda c: c.sql("UPDATE trials SET task = json_set(task, '$.weights', ?)", str(c.outside / "secret.txt")),
    "ledger: a hyperparameter with an interpolation": lambda c: c.sql("UPDATE trials SET task = json_set(task, '$.lr', '${oc.env:DDL_CANARY}')"),
    "ledger: a hyperparameter with a target": lambda c: c.sql("UPDATE trials SET task = ?", json.dumps({"_target_": "os.mknod", "path": str(c.ran)})),
    "ledger: plugins": lambda c: (_evil_module(c), c.record("packages", ["evil"]), c.record("plugins", ["evil"])),
    "ledger: a place to upload to": lambda c: c.record("url", f"file://{c.outside}"),
    "ledger: code elsewhere": lambda c: (_evil_module(c), c.record("code_folder", str(c.run)), c.record("code", {"evil.py": "0"}), c.record("task_class", "evil.train")),
    **{f"ledger: the class {path}": lambda c, path=path: _evil_class(c, path) for path in CLASSES},
    **{f"ledger: the trial {trial!r}": lambda c, trial=trial: c.sql("UPDATE trials SET trial_id = ?", trial) for trial in ("../../outside", "/etc", ".", "..", "a\0b", "a/../../../outside", PAGE)},
    **{f"ledger: HTML in {key}": lambda c, key=key: c.record(key, PAGE) for key in TEXTS},
    **{f"ledger: HTML in trials.{column}": lambda c, column=column: c.sql(f"UPDATE trials SET {column} = ?", PAGE) for column in ("configuration", "reason", "place")},
    "ledger: HTML in a metric": lambda c: c.sql("UPDATE metrics SET name = ? WHERE name = 'train/loss'", f"train/{PAGE}"),
    "ledger: HTML in metadata": lambda c: c.sql("UPDATE trials SET metadata = ?", json.dumps({"data": {"name": PAGE, "source": PAGE, "complete": True, "train": 1, "val": 1}})),
    "ledger: a formula": lambda c: c.sql("UPDATE trials SET configuration = ?", "=HYPERLINK(\"http://127.0.0.1:9\")"),
    "ledger: a terminal's commands": lambda c: c.sql("UPDATE trials SET configuration = ?, reason = ?, status = 'failed'", "\x1b]0;ran\x07", "\x1b[2J\x9b31m"),
    "figure: SVG with a script": lambda c: c.write("figures/a.svg", _svg("<script>parent.document.title='ran'</script>")),
    "figure: SVG with an event": lambda c: c.write("figures/a.svg", _svg("", "onload=\"parent.document.title='ran'\"")),
    "figure: SVG with an image elsewhere": lambda c: c.write("figures/a.svg", _svg('<image href="http://127.0.0.1:9/x"/>')),
    "figure: SVG with HTML": lambda c: c.write("figures/a.svg", _svg(f'<foreignObject><body xmlns="http://www.w3.org/1999/xhtml">{PAGE}</body></foreignObject>')),
    "figure: SVG with a file": lambda c: c.write("figures/a.svg", _svg("<text>&x;</text>", before=f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file://{c.outside}/secret.txt">]>')),
    "figure: SVG with a billion laughs": lambda c: c.write("figures/a.svg", _svg("<text>&a11;</text>", before=f"<!DOCTYPE svg [{LAUGHS}]>")),
    "figure: SVG that is HTML": lambda c: c.write("figures/a.svg", f"<html>{PAGE}</svg>"),
    "figure: a PNG bomb": lambda c: c.write("figures/a.png", _png(60_000, 60_000, zlib.compress(bytes(10_000_000), 9))),
    "figure: PNG of a false size": lambda c: c.write("figures/a.png", _png(2**31 - 1, 2**31 - 1, b"")),
    "figure: HTML after a PNG": lambda c: c.write("figures/a.png", _png(1, 1, zlib.compress(bytes(4)), PAGE.encode() + b"IEND\xaeB`\x82")),
    "figure: HTML in a name": lambda c: c.write("figures/a\"><script>document.title='ran'<\x7fscript>.svg", _svg("")),
    "figure: 2 GB": lambda c: (c.write("figures/a.png", b"\x89PNG\r\n\x1a\n"), os.truncate(c.trial_folder / "figures" / "a.png", 2 << 30)),
    "sample: HTML": lambda c: c.write("samples/a.txt", f"</pre></script>{PAGE}"),
    "sample: 2 GB": lambda c: (c.write("samples/a.txt", "a"), os.truncate(c.trial_folder / "samples" / "a.txt", 2 << 30)),
    "sample: bytes that are no text": lambda c: c.write("samples/a.txt", bytes(range(256)) * 9),
    "sample: reversed text": lambda c: c.write("samples/a.txt", "\u202e" + PAGE + "\u2066"),
    "sample: HTML in a name": lambda c: c.write("samples/<img src=x onerror=document.title='ran'>.txt", "a"),
    "YAML with Python": lambda c: c.write("../../sweep.yaml", f"!!python/object/apply:os.mknod [{str(c.ran)!r}]"),
    "modules of known names": lambda c: [_evil_module(c, name) for name in ("torch", "sitecustomize", "usercustomize", "conftest", "yaml", "ddl")],
    **{f"link: {name} to the outside": lambda c, name=name: c.link(name, c.outside / "secret.txt" if "." in name else c.outside) for name in LINKS},
    "link: the trial to the outside": lambda c: (shutil.rmtree(c.trial_folder), c.trial_folder.symlink_to(c.outside)),
    "link: the report to the outside": lambda c: ((c.run / "report.html").unlink(), (c.run / "report.html").symlink_to(c.outside / "secret.txt")),
    "link: the results to the outside": lambda c: ((c.run / "results.csv").unlink(), (c.run / "results.csv").symlink_to(c.outside / "secret.txt")),
    "link: the log to the outside": lambda c: ((c.run / "launch.log").unlink(), (c.run / "launch.log").symlink_to(c.outside / "secret.txt")),
    "link: the folder for W&B to the outside": lambda c: (c.run / "wandb").symlink_to(c.outside),
    "link: the lock of W&B to the outside": lambda c: ((c.run / "wandb").mkdir(), (c.run / "wandb" / ".lock").symlink_to(c.outside / "secret.txt")),
    "link: the lock of the ledger to the outside": lambda c: ((c.run / "ledger.lock").unlink(missing_ok=True), (c.run / "ledger.lock").symlink_to(c.outside / "secret.txt")),
    "link: the confirmation to the outside": lambda c: (c.run / "confirmed").symlink_to(c.outside),
    "lock of the ledger: a pipe": lambda c: ((c.run / "ledger.lock").unlink(missing_ok=True), os.mkfifo(c.run / "ledger.lock")),
    "ledger: a W&B project that is a path": lambda c: c.record("launch", LedgerReader(c.run).run()["launch"] | {"wandb": {"mode": "offline", "project": "../../../outside"}}),
    "ledger: measurements with a terminal's commands": lambda c: c.sql("UPDATE metrics SET name = ? WHERE name = 'val/accuracy'", "val/\x1b[2Jaccuracy"),
    "ledger: a title with a terminal's commands": lambda c: c.record("sweep.title", "\x1b[2Ja title"),
    "ledger: a command with a terminal's commands": lambda c: (c.record("command", "\x1b[2J"), c.record("resume", "\x1b[2J"), c.record("host", "\x1b[2J")),
    "ledger: a metric with a terminal's commands": lambda c: c.record("sweep.metric", {"name": "val/\x1b[2Jaccuracy", "mode": "max"}),
    "link: the environment of the process": lambda c: c.link("samples/a.txt", "/proc/self/environ"),
    "link: a loop": lambda c: c.link("samples/a.txt", "a.txt"),
}  # fmt: skip


def train_run(folder: Path) -> Path:
    """Train a run in `folder`, and remove the mark of its owner."""
    assert _run([*SWEEP, "--out", str(folder / "runs")])[0] == 0
    (run,) = (folder / "runs" / "augmentation").iterdir()
    with edited_ledger(run) as db:
        db.execute("DELETE FROM run WHERE key = 'mark'")
    return run


def check(name: str, trained: Path, folder: Path) -> tuple[list[int], Path]:
    """Give the run of a case to the commands. Returns their exit codes, and the report. Raises AssertionError if something ran or escaped."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    (place / "outside" / "samples").mkdir(parents=True)
    for path in ("secret.txt", "samples/a.txt"):
        (place / "outside" / path).write_text(SECRET)
    shutil.copytree(trained, place / "run")
    case = Case(place / "run", LedgerReader(trained).trials()[0].trial_id, place / "outside", place / "ran")
    CASES[name](case)
    before = _contents(place / "outside")
    codes = []
    for arguments in (
        ["--report", str(case.run)],
        ["--report", str(case.run), "--format", "markdown"],
        ["--export", str(case.run), case.trial],
        ["--reproduce", f"{case.run}/trials/{case.trial}", "--steps", "1"],
        ["--confirm", str(case.run), "--executor", "inline", "--out", str(case.run / "confirmed")],
        ["--resume", str(case.run)],
        ["--publish", str(case.run)],
    ):
        code, said = _run(arguments)
        assert code in (0, 1, 2), (name, arguments, code, said)
        assert "Traceback" not in said, (name, arguments, said)
        assert SECRET not in said, (name, arguments, said)
        assert all(character.isprintable() or character == "\n" for character in said), (name, arguments, said)
        codes.append(code)
    assert not case.ran.exists(), (name, "its code ran")
    assert _contents(place / "outside") == before, (name, "a file outside was changed")
    assert sorted(path.name for path in place.iterdir()) == ["outside", "run"], name
    for path in case.run.rglob("*"):
        if path.is_file() and path.resolve().is_relative_to(case.run.resolve()) and path.stat().st_size < 1 << 30:
            content = path.read_bytes()
            assert SECRET.encode() not in content, (name, path)
            assert b"DDL_CANARY=" not in content, (name, path)
    return codes, case.run / "report.html"


def _contents(folder: Path) -> dict[str, tuple[float, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


def _run(arguments: Sequence[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return command(arguments), said.getvalue()


def look(browser: Any, report: Path) -> None:
    """Open a report in a browser. Raises AssertionError if a script of the run ran, or anything but the page was requested."""
    requests: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: requests.append(dialog.message))
    page.goto(report.as_uri())
    page.wait_for_load_state("networkidle")
    assert page.title() != "ran", report
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()], report
    page.close()


def campaign(names: Sequence[str], folder: Path, browser: Any = None) -> Counter[str]:
    """Check the cases with these names, and count what happened."""
    os.environ["DDL_CANARY"] = SECRET
    outcomes = Counter[str]()
    trained = train_run(folder)
    for name in names:
        codes, report = check(name, trained, folder)
        outcomes["commands that read the run without its hostile part"] += codes.count(0)
        outcomes["commands that refused it"] += len(codes) - codes.count(0)
        if browser and 0 in codes[:1]:
            look(browser, report)
            outcomes["reports opened in a browser"] += 1
    return outcomes


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="ddl-faults-") as scratch, contextlib.ExitStack() as contexts:
        browser = None
        if chromium:
            playwright = contexts.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        outcomes = campaign(list(CASES), Path(scratch), browser)
    rows = [
        ("hostile files and records", len(CASES)),
        *sorted(outcomes.items()),
        ("ran code", 0),
        ("showed or changed a file outside the run", 0),
    ]
    write_figures("hostile_files", "Hostile files", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
