from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from .synthetic import MakeRun, create


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`create` in a fresh folder."""
    made: list[Path] = []

    def make(*arguments: Any, **options: Any) -> Path:
        made.append(create(tmp_path / "runs" / "augmentation" / f"2026-03-0{len(made) + 1}", *arguments, **options))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium as installed on the machine. Skips the test if there is none."""
    binary = which("chromium") or which("chromium-browser") or which("google-chrome")
    if binary is None:
        pytest.skip("no chromium on this machine: install it (apt-get install chromium) to test the report in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
