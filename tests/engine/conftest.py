"""One thread per process: tests run beside each other, and threads that wait for each other cost more."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
