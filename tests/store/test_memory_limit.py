"""The limit of a process on its own memory."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from store.memory_limit import MemoryLimit, lift
limit = MemoryLimit(200 << 20)
assert not limit.nearly_reached
taken = bytearray(170 << 20)
assert limit.nearly_reached
try:
    bytearray(400 << 20)
except MemoryError:
    print("limited")
del taken
lift()
bytearray(400 << 20)
print("lifted")
"""


def test_a_process_is_held_to_its_limit_until_it_is_lifted() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["limited", "lifted"]
