"""The sweeps of a home that go on by themselves: their plans, and the process that carries them on (engine/search/).

Only the daemon writes plans. The process runs while a plan is open, and is started again where it dies.
"""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from engine.basics.errors import QueueError
from engine.queue.daemon_log import home_log
from engine.queue.orders import whole_number
from engine.recipe.sweep import MOST_RUNS, BadSweep
from engine.runs.sweep_plan import Plan, open_plans, read_plan, write_plan
from finetui.errors import first_line
from finetui.home import Home
from finetui.start import program

SEARCHER = "engine.search.searcher"
AGAIN_S = 5.0  # at least, from one to the next
WELL_S = 20.0  # after which one that had died before is well again


class Sweeps:
    """Plans, and who carries them on."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._searcher: subprocess.Popen[bytes] | None = None
        self._started = -math.inf  # monotonic
        self._died: str | None = None
        self._told: list[str] = []  # by the searcher
        self._open: dict[str, Plan] = {}
        self._unreadable: list[str] = []
        self._read()

    @property
    def problems(self) -> list[str]:
        return [*filter(None, [self._died]), *self._unreadable, *self._told]

    @property
    def busy(self) -> bool:
        """Whether runs are still to be queued: the machine is not idle then, though nothing waits or runs."""
        return any(plan.to_come for plan in list(self._open.values()))

    # ---- what is asked ---------------------------------------------------------------------------

    def answer(self, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Answer an action of a client; None if it is not about sweeps. Raises QueueError, OSError."""
        match name:
            case "sweep":
                return self.add(body)
            case "sweep_begin":
                return self.begin(str(body.get("sweep")))
            case "sweep_add":
                before = whole_number(name, body, "before")
                return self.extend(str(body.get("sweep")), whole_number(name, body, "runs"), before)
            case "sweep_end":
                before = whole_number(name, body, "before")
                return self.end(str(body.get("sweep")), str(body.get("why")), before)
            case "sweep_problems":
                return self.tell([str(one) for one in body.get("problems") or ()])
        return None

    def add(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep the plan of a sweep, durable when this returns. Raises QueueError, OSError."""
        try:
            plan = Plan.model_validate(body)
            _ = plan.sweep
        except (ValidationError, BadSweep) as error:
            raise QueueError(f"the submitted sweep is not valid: {first_line(error)}") from None
        with self._lock:
            self._keep(plan)
        return {"sweep": plan.uuid}

    def note(self, uuid: Any, values: Any) -> None:
        """Keep the values of a run that was queued: no other run is to have them, whatever becomes of this one."""
        if not isinstance(uuid, str) or not isinstance(values, dict):
            return
        with self._lock, suppress(QueueError, OSError):  # the run is queued, whatever becomes of this
            plan = self._plan(uuid)
            if values not in plan.given:
                self._keep(plan.model_copy(update={"given": [*plan.given, values]}))

    def begin(self, uuid: str) -> dict[str, Any]:
        """Its first runs are queued: let it go on. Raises QueueError, OSError."""
        with self._lock:
            plan = self._plan(uuid)
            done = None if plan.sweep.is_watched else "all its runs are queued"
            self._keep(plan.model_copy(update={"done": done}))
        return {}

    def extend(self, uuid: str, runs: int, before: int) -> dict[str, Any]:
        """Let a sweep have more runs; return how many there are to be. `before`: how many there were to be, as far as
        whoever asks knows. Raises QueueError, OSError.
        """
        with self._lock:
            plan = self._plan(uuid)
            self._check_unchanged(plan, before)
            if not 0 < runs <= MOST_RUNS - plan.runs:
                raise QueueError(f"a sweep has at most {MOST_RUNS:,} runs, and this one has {plan.runs:,}")
            done = None if plan.sweep.is_watched else plan.done
            self._keep(plan.model_copy(update={"runs": plan.runs + runs, "done": done}))
        return {"runs": plan.runs + runs}

    def end(self, uuid: str, why: str, before: int) -> dict[str, Any]:
        """There is nothing more to do for a sweep. Raises QueueError, OSError."""
        with self._lock:
            plan = self._plan(uuid)
            self._check_unchanged(plan, before)
            self._keep(plan.model_copy(update={"done": why}))
        return {}

    def tell(self, problems: list[str]) -> dict[str, Any]:
        """What the searcher could not do."""
        self._told = problems
        return {}

    def _check_unchanged(self, plan: Plan, before: int) -> None:
        if plan.runs != before:
            raise QueueError(f"this sweep has been given {plan.runs} runs meanwhile; try again")

    def _plan(self, uuid: str) -> Plan:
        try:
            plan = read_plan(self._home, uuid) if uuid.replace("-", "").isalnum() else None
        except ValueError as error:
            raise QueueError(f"the plan of this sweep cannot be read ({error})") from None
        if plan is None:
            raise QueueError("this sweep has no plan in this home, so nothing can be added to it")
        return plan

    def _keep(self, plan: Plan) -> None:
        write_plan(self._home, plan)
        if plan.done is None:
            self._open[plan.uuid] = plan
        else:
            self._open.pop(plan.uuid, None)

    # ---- who carries them on ---------------------------------------------------------------------

    def look(self) -> None:
        """Have a process at work where there is something to do; called at every tick."""
        with self._lock:
            age = time.monotonic() - self._started
            if self._searcher is not None:
                code = self._searcher.poll()
                if code is None:
                    self._died = None if age > WELL_S else self._died
                    return
                self._searcher, self._told = None, []
                self._died = (
                    f"what carries on sweeps ended with {code}; see {self._home.daemon_log}" if code else None
                )
                self._read()
            if self._open and age > AGAIN_S:
                self._started = time.monotonic()
                self._searcher = self._start()

    def _read(self) -> None:
        plans, self._unreadable = open_plans(self._home)
        self._open = {plan.uuid: plan for plan in plans}

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
