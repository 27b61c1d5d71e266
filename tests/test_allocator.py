"""A process that keeps freed memory takes no page faults when it allocates as much again."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from ddl.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"x") * 2**26 for _ in range(3)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again():
    faults = [int(subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, check=True).stdout) for how in ("default", "keep")]
    assert faults[1] * 10 < faults[0]
