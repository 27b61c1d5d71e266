"""The object store of a run while a driver owns it."""

import contextlib
from collections.abc import Iterator

from rich.console import Console

from ddl.config import ConfigError
from ddl.storage.runs import RunStore


@contextlib.contextmanager
def claimed_store(console: Console, store: RunStore) -> Iterator[RunStore]:
    """The `store`, which uploads the run until the end. Raises ConfigError if another driver owns the run.

    If the run is interrupted or ends with an error, prints why its last upload failed.
    """
    try:
        store.claim()
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    try:
        with store:
            yield store
    except BaseException:  # Ctrl-C included; raised again
        if store.not_uploaded:
            console.print(f"not uploaded: {store.not_uploaded}", soft_wrap=True)
        raise
