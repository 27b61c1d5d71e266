"""The tests here start the command, and leave nothing of it behind."""

from .command import command, nothing_left

__all__ = ["command", "nothing_left"]
