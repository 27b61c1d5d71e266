"""For the tasks' tests: a cache of their own, so that what a task trains and keeps does not come from an earlier version of it."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
