"""The tests here start the command, and leave nothing of it behind."""

from .command import nothing_left

__all__ = ["nothing_left"]
