"""The sweeps of a home that go on by themselves: their plans, and the process that carries them on (engine/search/).

Only the daemon writes plans. The process runs while a plan is open, and is started again where it dies.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from typing import Any

from pydantic import ValidationError

from engine.basics.errors import QueueError
from engine.queue.daemon_log import home_log
from engine.recipe.sweep import MOST_RUNS
from engine.runs.sweep_plan import Plan, open_plans, read_plan, write_plan
from finetui.home import Home
from finetui.start import program

log = logging.getLogger("finetui.queue")

SEARCHER = "engine.search.searcher"
AGAIN_S = 30.0  # after which one that died is started again


class Sweeps:
    """Plans, and who carries them on."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._open = {plan.uuid for plan in open_plans(home)}
        self._searcher: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0  # monotonic
        self.problem: str | None = None

    def add(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep the plan of a sweep, durable when this returns. Raises QueueError, OSError."""
        try:
            plan = Plan.model_validate(body)
        except ValidationError as error:
            problem = error.errors()[0]
            raise QueueError(
                f"the submitted sweep is not valid, key {problem['loc']}: {problem['msg']}"
            ) from None
        self._keep(plan)
        return {"sweep": plan.uuid}

    def extend(self, uuid: str, runs: int) -> dict[str, Any]:
        """Let a sweep have more runs; return how many there are to be. Raises QueueError, OSError."""
        plan = self._plan(uuid)
        if not 0 < runs <= MOST_RUNS - plan.runs:
            raise QueueError(f"a sweep has at most {MOST_RUNS:,} runs, and this one has {plan.runs}")
        done = None if plan.sweep.is_watched else plan.done
        self._keep(plan.model_copy(update={"runs": plan.runs + runs, "done": done}))
        return {"runs": plan.runs + runs}

    def end(self, uuid: str, why: str) -> dict[str, Any]:
        """There is nothing more to do for a sweep. Raises QueueError, OSError."""
        self._keep(self._plan(uuid).model_copy(update={"done": why}))
        return {}

    def _plan(self, uuid: str) -> Plan:
        try:
            plan = read_plan(self._home, uuid) if uuid.replace("-", "").isalnum() else None
        except ValueError as error:
            raise QueueError(f"the plan of this sweep cannot be read ({error})") from None
        if plan is None:
            raise QueueError("this sweep has no plan in this home, so nothing can be added to it")
        return plan

    def _keep(self, plan: Plan) -> None:
        with self._lock:
            write_plan(self._home, plan)
            if plan.done is None:
                self._open.add(plan.uuid)
            else:
                self._open.discard(plan.uuid)

    def look(self) -> None:
        """Have a process at work where there is something to do; called at every tick."""
        with self._lock:
            if self._searcher is not None and (code := self._searcher.poll()) is not None:
                self._searcher = None
                self.problem = None
                if code:
                    self.problem = f"what carries on sweeps ended with {code}; see {self._home.daemon_log}"
                    self._not_before = time.monotonic() + AGAIN_S
            if self._open and self._searcher is None and time.monotonic() >= self._not_before:
                self._searcher = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with home_log(self._home) as output:
            return subprocess.Popen(
                program(SEARCHER),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, "FINETUI_HOME": str(self._home.path), "OMP_NUM_THREADS": "1"},
            )

    @property
    def busy(self) -> bool:
        """Whether a sweep goes on: the machine is not idle then."""
        return bool(self._open)
