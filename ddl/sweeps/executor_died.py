"""The error of an executor that cannot continue."""


class ExecutorDied(Exception):
    """A process died without which no trial can run. The message names it."""
