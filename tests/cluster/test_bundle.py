"""cluster/bundle.sh and the installer in its archive: the messages on small bundles, and with a package registry the whole way."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ddl.ledger_reader import LedgerReader
from tests.sweeps.command import ROOT, launch, run_folder

CLUSTER = ROOT / "cluster"
BUNDLE, INSTALL = CLUSTER / "bundle.sh", CLUSTER / "bundle_install.py"
UNUSED = runpy.run_path(str(INSTALL))["UNUSED"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
LIMIT = 45 * 2**20

NAMES = """
absl-py annotated-doc anyio attrs certifi charset-normalizer click cloudpickle contourpy cycler filelock fonttools fsspec grpcio h5py
hf-xet huggingface-hub idna iniconfig jinja2 kiwisolver lightning-utilities markdown-it-py markupsafe matplotlib mdurl mpmath narwhals
networkx numpy nvidia-ml-py packaging pandas pillow pluggy protobuf psutil pyarrow pygments pyparsing pytest pytest-timeout pytest-xdist
python-dateutil pyyaml regex requests rich safetensors scipy setuptools six sympy tensorboard tokenizers torch torchmetrics torchvision
tqdm typing-extensions urllib3 xxhash yarl"""
IMAGE = set(NAMES.split())
"""Packages of a typical image with PyTorch and CUDA. The CUDA libraries and Triton come with PyTorch."""

TOO_OLD = {"packaging", "typing-extensions"}
"""Packages of the image that the bundle has in a newer version."""

SMOKE = ("--sweep", "augmentation", "--scale", "smoke", "seeds=1", "wandb.mode=disabled")
OLDEST = ("torch==2.9.1", "torchvision==0.24.1")


def bundled() -> set[str]:
    """The packages named in bundle.sh."""
    (names,) = re.findall(r"^packages=\(([^)]*)\)", BUNDLE.read_text(), re.MULTILINE)
    return set(names.split())


def lacking(package: str, requirements: Iterable[str], extra: str = "") -> Iterator[str]:
    """Packages that `package` needs, directly or not, and the image lacks."""
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name in IMAGE or (package, requirement.name) in UNUSED:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield name
            for each in ("", *requirement.extras):
                yield from lacking(name, metadata.requires(name) or [], each)


def test_the_bundle_has_what_the_image_lacks() -> None:
    assert bundled() == {*lacking("ddl", PROJECT["dependencies"]), *TOO_OLD}


def make_bundle(*arguments: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    return subprocess.run(["bash", str(BUNDLE), *map(str, arguments)], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no file: name the archive to write"),
        (["ddl.zip"], "ddl.zip: name the archive to write"),
        (["a.tar.xz", "b.tar.xz"], "two archives, a.tar.xz and b.tar.xz"),
        (["--phyton", "3.12", "a.tar.xz"], "unknown option --phyton"),
        (["a.tar.xz", "--with"], "--with needs a value"),
        (["--python", "3.9", "a.tar.xz"], "no bundle for Python 3.9. Name the other machine's: --python 3.11 or --python 3.12."),
        (["missing/a.tar.xz"], "missing/a.tar.xz: the folder does not exist"),
        (["--with", "numpyy", "a.tar.xz"], "numpyy is not in requirements.lock"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    done = make_bundle("--python", "3.12", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"bundle.sh: {message}")
    assert done.stdout == ""


def add_package(folder: Path, name: str, version: str, code: str = "", requires: Iterable[str] = ()) -> None:
    """Write an installed package with one module into `folder`."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
    (folder / f"{name}.py").write_text(code)


class Machine:
    """A machine with Python, in a virtual environment, and an unpacked bundle of a ddl that needs torch, colours and wandb."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "machine", symlinks=True)
        self.python = folder / "machine" / "bin" / "python"
        (self.site_packages,) = (folder / "machine").glob("lib/python*/site-packages")
        self.unpacked = folder / "ddl-bundle"
        self.packages = self.unpacked / "packages"
        (self.unpacked / "ddl" / "reports").mkdir(parents=True)
        for module in ("run", "reports/html"):
            (self.unpacked / "ddl" / f"{module}.py").touch()
        self.packages.mkdir()
        link_packages(self.packages, {"packaging"})
        (self.unpacked / "install").write_text(INSTALL.read_text())
        (self.unpacked / "python-version").write_text(f"{RUNNING}\n")
        (self.unpacked / "pyproject.toml").write_text('[project]\ndependencies = ["colours", "torch>=2.9", "wandb"]\n')

    def install(self, *arguments: object, exits: int = 0, python: Path | None = None) -> str:
        """Run the installer. Returns its output, or its errors if it fails."""
        return run(python or self.python, self.unpacked / "install", *arguments, exits=exits)


def link_packages(folder: Path, names: Iterable[str]) -> None:
    """Link this environment's packages into `folder`. It need not have all of them."""
    for package in (package for name in names for package in metadata.distributions(name=name)):
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))


def run(*command: object, exits: int = 0, **how: object) -> str:
    """Output of a command that sees no packages but its interpreter's, or its errors if `exits` is not 0."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, **how)
    assert done.returncode == exits, done.stdout + done.stderr
    return done.stderr if exits else done.stdout


TORCH = '__version__ = "2.9.0+cu128"\n\nclass cuda:\n    device_count = staticmethod(lambda: 2)\n'


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestInstall:
    def test_the_machines_packages_are_used_after_the_bundles(self, machine: Machine) -> None:
        add_package(machine.site_packages, "torch", "2.9.0+cu128", TORCH)
        add_package(machine.site_packages, "colours", "1.0", "mine = 'machine'")
        add_package(machine.packages, "colours", "2.0", "mine = 'bundle'")
        before = sorted(machine.site_packages.rglob("*.dist-info"))
        output = machine.install()
        assert f"ddl is installed for Python {sys.version.split()[0]} with torch 2.9.0+cu128; GPUs: 2." in output
        python = machine.unpacked / ".venv" / "bin" / "python"
        assert run(python, "-P", "-c", "import colours, ddl.run, torch; print(colours.mine, torch.__version__)") == "bundle 2.9.0+cu128\n"
        assert sorted(machine.site_packages.rglob("*.dist-info")) == before
        assert not list(machine.site_packages.glob("*.pth")), "the machine's Python is as it was"
        assert "installed" in machine.install("--check", python=python)

    def test_a_copy_in_another_folder_does_not_need_the_unpacked_one(self, machine: Machine, tmp_path: Path) -> None:
        add_package(machine.site_packages, "torch", "2.9.0", TORCH)
        add_package(machine.packages, "colours", "2.0")
        machine.install(tmp_path / "ddl")
        machine.unpacked.rename(tmp_path / "gone")
        assert "installed" in run(tmp_path / "ddl/.venv/bin/python", tmp_path / "ddl/install", "--check")

    def test_a_folder_with_something_in_it_is_left_alone(self, machine: Machine, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis").touch()
        assert "mine is not empty. Delete it, or name another folder." in machine.install(tmp_path / "mine", exits=1)
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis"]

    def test_another_python_is_refused(self, machine: Machine) -> None:
        (machine.unpacked / "python-version").write_text("3.10\n")
        errors = machine.install(exits=1)
        assert f"this bundle is for Python 3.10, and {machine.python} is {RUNNING}." in errors
        assert f"python3.10 {machine.unpacked}/install" in errors
        assert f"--python {RUNNING}" in errors
        assert not (machine.unpacked / ".venv").exists()

    def test_missing_and_outdated_packages_are_named(self, machine: Machine) -> None:
        add_package(machine.site_packages, "torch", "2.8.0", TORCH)
        add_package(machine.packages, "pydantic", "2.14", requires=["typing_extensions>=4.16", "email-validator; extra == 'email'"])
        add_package(machine.site_packages, "typing_extensions", "4.12")
        problems = [line.strip() for line in machine.install(exits=1).splitlines() if line.startswith("  ")]
        assert sorted(problems) == [
            "colours: missing. ddl needs colours.",
            "torch 2.8.0: ddl needs torch>=2.9.",
            "typing_extensions 4.12: pydantic needs typing_extensions>=4.16.",
        ]

    def test_a_package_that_cannot_be_imported_is_named_with_its_error(self, machine: Machine) -> None:
        add_package(machine.site_packages, "torch", "2.9.0", "raise OSError('libcudart.so.13: cannot open shared object file')")
        add_package(machine.packages, "colours", "2.0", "import os\n\nos.abort()")
        errors = machine.install(exits=1)
        assert "import torch: OSError: libcudart.so.13: cannot open shared object file" in errors
        assert "import colours: ended with code -6" in errors
        assert "cluster/bundle.sh --with PACKAGE" in errors
        assert f"{machine.unpacked}/install --check" in errors


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the archive for a Python version, once."""

    @cache
    def archive(python: str) -> Path:
        path = tmp_path_factory.mktemp("bundle") / "ddl.tar.xz"
        done = make_bundle("--python", python, path)
        assert done.returncode == 0, done.stderr
        return path

    return archive


@pytest.mark.network
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_archive_is_small_and_for_one_python(archive: Callable[[str], Path], python: str, tmp_path: Path) -> None:
    """Also for a Python that this machine does not have: a wheel's tags name the Python of its compiled files."""
    assert archive(python).stat().st_size <= LIMIT
    run("tar", "xf", archive(python), cwd=tmp_path)
    unpacked = tmp_path / "ddl-bundle"
    assert (unpacked / "python-version").read_text() == f"{python}\n"
    packages = list(metadata.distributions(path=[str(unpacked / "packages")]))
    assert {canonicalize_name(package.name) for package in packages} == bundled()
    tags = {tag for package in packages for tag in re.findall(r"^Tag: (.*)$", package.read_text("WHEEL") or "", re.MULTILINE)}
    compiled = {tag for tag in tags if not tag.endswith("-none-any")}
    assert compiled
    assert [tag for tag in compiled if not (tag.startswith(f"cp{python.replace('.', '')}-") or "-abi3-" in tag)] == []
    assert [tag for tag in compiled if not tag.endswith("_x86_64")] == []
    assert not [path for path in unpacked.rglob("*") if path.name in ("__pycache__", "jars")]


@pytest.mark.network
@pytest.mark.timeout(3600)
def test_sweeps_run_from_the_bundle(archive: Callable[[str], Path], tmp_path: Path) -> None:
    """With the packages of a typical image and nothing else, and with both executors."""
    venv.create(tmp_path / "machine", symlinks=True)
    (site_packages,) = (tmp_path / "machine").glob("lib/python*/site-packages")
    of_torch = {package.name for package in metadata.distributions() if package.name.startswith(("nvidia-", "cuda-", "triton"))}
    link_packages(site_packages, IMAGE | of_torch)
    run("tar", "xf", archive(RUNNING), cwd=tmp_path)
    run(tmp_path / "machine/bin/python", "ddl-bundle/install", cwd=tmp_path)
    folder = tmp_path / "ddl-bundle"
    python = folder / ".venv/bin/python"
    assert "No module named 'wandb'" in run(python, "-P", "-c", "import wandb", exits=1)
    assert run(folder / ".venv/bin/ray", "--version").startswith("ray, version ")
    for executor in ("inline", "ray"):
        output = run(python, "launch.py", *SMOKE, "--executor", executor, cwd=folder)
        assert run_folder(output, folder).is_relative_to(folder / "runs")


@pytest.mark.network
@pytest.mark.timeout(3600)
def test_sweeps_run_with_the_oldest_torch(tmp_path: Path) -> None:
    """With its own CUDA libraries, a download of 4 GB. All other packages are those of the lock."""
    assert f"torch>={OLDEST[0].partition('==')[2].rpartition('.')[0]}" in PROJECT["dependencies"]
    old = tmp_path / "old"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", old]
    run(*pip, *OLDEST)
    (torch,) = metadata.distributions(name="torch", path=[str(old)])
    run(*pip, *(each for each in torch.requires or () if each.startswith(("nvidia-", "triton"))))
    path = os.pathsep.join([str(old), str(ROOT)])
    for executor in ("inline", "ray"):
        output = launch(*SMOKE, "--executor", executor, cwd=tmp_path, PYTHONPATH=path).stdout
        folder = run_folder(output, tmp_path)
        assert LedgerReader(folder).run()["versions"]["torch"].startswith(OLDEST[0].removeprefix("torch=="))
        (trial, *_) = folder.glob("trials/*")
        launch("--reproduce", str(trial), cwd=tmp_path, PYTHONPATH=path)
