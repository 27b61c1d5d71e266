#!/usr/bin/env python3
"""Installs ddl on a machine without internet: `ddl-bundle/install [FOLDER]`. cluster/bundle.sh puts this file into its archive.

ddl stays in the unpacked folder, or is copied to FOLDER. Its `.venv/bin/python` is the Python that runs this script, with the
packages of the bundle and then the machine's own (PyTorch, NumPy, ...). Nothing is written outside the folder: delete it to
uninstall ddl. Afterwards every requirement of ddl is imported once.

Exit code 1: the bundle is for another Python, or a requirement is missing, too old or cannot be imported. The message names it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent

UNUSED = {("ddl", "wandb"), ("ddl", "wandb-workspaces"), ("optuna", "alembic"), ("optuna", "sqlalchemy"), ("ray", "tensorboardX")}
"""(package, its requirement) that a sweep with wandb.mode=disabled does not import: W&B, Optuna's databases, a logger of Ray."""

MODULES = {
    "hydra-core": "hydra.core.override_parser.overrides_parser",
    "nvidia-ml-py": "pynvml",
    "pillow": "PIL.Image",
    "plotly": "plotly.offline",
    "pyyaml": "yaml",
    "ray": "ray.tune, ray.train.torch, ray.rllib.algorithms.ppo, ray.rllib.algorithms.dqn",
}
"""What ddl imports of a requirement, if it is not the module of the same name."""


def main() -> int:
    """Install and check, or only check. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="install", description="Install ddl for the Python that runs this script.")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE, help="copy ddl to this folder (default: install it where it is)")
    parser.add_argument("--check", action="store_true", help="only repeat the check; run it with .venv/bin/python")
    given = parser.parse_args()
    if given.check:
        return check()
    bundled, running = (HERE / "python-version").read_text().strip(), "{}.{}".format(*sys.version_info)
    if running != bundled:
        return fail(
            f"this bundle is for Python {bundled}, and {sys.executable} is {running}.",
            f"Run it with the other Python: python{bundled} {HERE / 'install'}. Or make a bundle for this one: --python {running}.",
        )
    folder = given.folder.resolve()
    if folder != HERE:
        if folder.exists() and any(folder.iterdir()):
            return fail(f"{folder} is not empty. Delete it, or name another folder.")
        shutil.copytree(HERE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".venv"))
    python = make_environment(folder)
    return subprocess.run([python, folder / "install", "--check"]).returncode


def fail(*lines: str) -> int:
    """Print an error. Returns the exit code."""
    print("install:", "\n".join(lines), file=sys.stderr)
    return 1


def make_environment(folder: Path) -> Path:
    """Create `.venv` in `folder`, and return the path of its Python."""
    environment = folder / ".venv"
    venv.create(environment, clear=True, symlinks=True)
    python = environment / "bin" / "python"
    # A virtual environment can share the packages of the Python installation it is based on, but not those of another virtual
    # environment. So its .pth file names the machine's folders, after the bundle's. addsitedir also reads their .pth files.
    own = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    lines = [str(folder / "packages"), str(folder), *(f"import site; site.addsitedir({path!r})" for path in own)]
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "ddl.pth").write_text("\n".join(lines) + "\n")
    ray = environment / "bin" / "ray"
    ray.write_text(f"#!{python}\nimport sys\n\nfrom ray.scripts.scripts import main\n\nsys.exit(main())\n")
    ray.chmod(0o755)
    return python


def check() -> int:
    """Check what ddl needs, in the installed Python, and print the result. Returns the exit code."""
    import tomllib  # here, so that an older Python still prints which version the bundle is for

    requirements = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["dependencies"]
    bundled = [(each.name, each.requires or []) for each in metadata.distributions(path=[str(HERE / "packages")])]
    problems = [problem for name, needed in [("ddl", requirements), *bundled] for problem in unmet(name, needed)]
    if not problems:
        with ThreadPoolExecutor() as threads:
            problems = [problem for problem in threads.map(failed_import, imports(requirements)) if problem]
    if problems:
        return fail(
            f"ddl does not run with {sys.executable} yet.",
            *(f"  {problem}" for problem in dict.fromkeys(problems)),
            "Install these packages in the machine's Python, or add them to the bundle: cluster/bundle.sh --with PACKAGE ... OUT.tar.xz",
            f"(but not PyTorch, which must suit the machine's driver). Then repeat the check: {sys.executable} {HERE / 'install'} --check",
        )
    import torch

    print(f"ddl is installed for Python {sys.version.split()[0]} with torch {torch.__version__}; GPUs: {torch.cuda.device_count()}. Try:")
    print(f"  cd {HERE} && .venv/bin/python launch.py --sweep augmentation --scale smoke wandb.mode=disabled")
    return 0


def unmet(package: str, requirements: Iterable[str], extra: str = "") -> Iterator[str]:
    """Requirements of a package, or of one of its extras, that are missing or have a version it does not allow: a line each."""
    from packaging.requirements import Requirement  # part of the bundle

    for requirement in map(Requirement, requirements):
        name = requirement.name
        if (package, name) in UNUSED or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield f"{name}: missing. {package} needs {name}{requirement.specifier}."
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{name} {version}: {package} needs {name}{requirement.specifier}."
        for each in sorted(requirement.extras):
            yield from unmet(name, metadata.requires(name) or [], each)


def imports(requirements: Iterable[str]) -> Iterator[str]:
    """What to import for ddl's requirements: the operands of `import` statements."""
    from packaging.requirements import Requirement

    for name in (Requirement(requirement).name for requirement in requirements):
        if ("ddl", name) not in UNUSED:
            yield MODULES.get(name, name.replace("-", "_"))
    yield "ddl.run, ddl.reports.html"


def failed_import(modules: str) -> str:
    """The error of `import modules`, or "". In a process of its own, because a library for another CUDA or NumPy can crash it."""
    done = subprocess.run([sys.executable, "-P", "-c", f"import {modules}"], capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
    return f"import {modules}: {lines[-1]}"


if __name__ == "__main__":
    sys.exit(main())
