"""A rank without a model, started by torchrun in place of the worker: RUN_DIR and ATTEMPT are its last arguments.

It logs a step ten times a second until it is asked to stop; the last rank fails at step 3 if the run is named so.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path

from engine.attempt import ranks
from engine.runs.home import RunDir


def main() -> int:
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    run, attempt = RunDir(Path(sys.argv[-2])), int(sys.argv[-1])
    log = ranks.open_log(run, run.attempt(attempt))
    last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    for step in itertools.count(1):
        time.sleep(0.1)
        log.write("metrics", step=step, values={"train/loss": 1 / step})
        if stop:
            log.write("end", status="cancelled", step=step, error=None, reason=None)
            return 0
        if last and step == 3 and run.path.name.endswith("-failing"):
            log.write("end", status="failed", step=step, error="the disk is made of cheese", reason=None)
            return 4
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
