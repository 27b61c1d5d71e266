"""Ray Tune's controller, adapted: trials whose process dies between two trials are restarted, and no logging integrations are imported."""

import contextlib
from collections.abc import Iterator

from ray.air._internal import usage
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial

from ddl.ray_private import replaced


@contextlib.contextmanager
def our_controller() -> Iterator[None]:
    """A context for `Tuner.fit`.

    Tune uses a process again for its next trial. If the process dies before that trial has begun, Tune ends the trial as failed without a retry:
    it retries only trials that are running, and reports the death a second time after a first retry. Here such a trial counts as running, once.

    Tune counts the kinds of callbacks for Ray's usage statistics, and for that imports W&B, MLflow, Comet and Aim, for a second or more.
    """
    trial_task_failure = TuneController._trial_task_failure

    def failure(controller: TuneController, trial: TuneTrial, exception: Exception) -> None:
        if trial in controller._resetting_trials:
            controller._resetting_trials.remove(trial)
            controller._set_trial_status(trial, TuneTrial.RUNNING)
        elif trial.status == TuneTrial.PENDING:
            return
        trial_task_failure(controller, trial, exception)

    with replaced(TuneController, _trial_task_failure=failure), replaced(usage, tag_callbacks=lambda callbacks: False):
        yield
