"""Which trials of a pack the scheduler has stopped, for the worker that trains them. Tune itself can only stop a whole pack.

A key of Ray's own key-value store holds them, since a worker has no other way to ask. It reads it after a report: Tune lets a worker
continue only when the scheduler has seen its report.
"""

import json
from collections.abc import Iterable

from ray.experimental import internal_kv

NAMESPACE = "ddl"


def stop_members(tune_trial_id: str, trial_ids: Iterable[str]) -> None:
    """Stop these trials of the pack that runs as Tune's trial `tune_trial_id`."""
    internal_kv._internal_kv_put(f"stopped/{tune_trial_id}", json.dumps(sorted(trial_ids)), namespace=NAMESPACE)


def stopped_members(tune_trial_id: str) -> frozenset[str]:
    """The trials of the pack that are stopped."""
    return frozenset(json.loads(internal_kv._internal_kv_get(f"stopped/{tune_trial_id}", namespace=NAMESPACE) or "[]"))


def forget(tune_trial_id: str) -> None:
    """Remove the entry of a pack that has ended."""
    internal_kv._internal_kv_del(f"stopped/{tune_trial_id}", namespace=NAMESPACE)
