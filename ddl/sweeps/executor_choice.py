"""The executor and the address of a cluster that a command may name, and their checks."""

EXECUTORS = ("ray", "inline")
"""Names of the executors: trials in parallel under Ray Tune, or one after another in this process."""


def check_executor(executor: str, problems: list[str]) -> None:
    """Add to `problems` if there is no such executor."""
    if executor not in EXECUTORS:
        problems.append(f"executor: {executor!r} is unknown. Use {', '.join(EXECUTORS)}.")


def check_address(executor: str, address: str | None, fix: str, problems: list[str]) -> None:
    """Add to `problems`, with the `fix`, if the executor does not use the cluster at `address`."""
    if executor == "inline" and address:
        problems.append(f"--address {address}: inline trains in this process, without a cluster. {fix}.")
