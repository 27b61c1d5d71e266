"""The name of the command in everything that is printed for a user to copy."""

import shlex
import sys
from pathlib import Path


def program() -> str:
    """The command as this process was started: `ddl`, `python launch.py` with the path as it was given, or `python -m ddl.launch`.

    In a process that uses ddl as a library: `python launch.py` of the checkout, `ddl` if the package is installed.
    """
    called, package = sys.argv[0], Path(__file__).resolve().parent
    script = Path(called).resolve()
    if script == package / "launch.py":
        return "python -m ddl.launch"
    if script == package.parent / "launch.py":
        return f"python {shlex.quote(called)}"
    checkout = package.parent / "launch.py"
    if script.name == "ddl" or not checkout.is_file():
        return "ddl"
    return "python launch.py" if checkout == Path("launch.py").resolve() else f"python {shlex.quote(str(checkout))}"
