"""What the store shows that somebody who is away wants to know: new flags, and runs that no longer get on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import duckdb

from engine.basics.wording import duration
from engine.queue.notices import Notice
from store.states import RunState

LEAST_S = 300.0  # that a run may be silent, however short its steps are
LOOK_S = 1800.0  # and while it evaluates, loads or saves, where nothing is logged

FLAGS = """
SELECT f.run, any_value(r.name), f.flag, f.level, arg_min(f.message, f.t) FROM flags f JOIN runs r USING (run)
WHERE f.level IN ('warn', 'critical') AND f.t > $since GROUP BY f.run, f.flag, f.level ORDER BY min(f.t)"""

STEPS = f"""
SELECT r.run, r.name, r.phase, a.attempt, a.first_t, a.last_t, a.first_step, a.last_step
FROM runs r JOIN attempts a ON a.run = r.run AND a.attempt = r.attempt
WHERE r.state = '{RunState.RUNNING}' AND a.last_step > a.first_step"""


class Watch:
    """Remembers what was told, so that each is told once. Times are Unix seconds."""

    def __init__(self) -> None:
        self._since = time.time()  # what stood before is known
        self._flagged: set[tuple[int, str, str]] = set()
        self._stalled: set[tuple[int, int, int]] = set()

    def flags(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[Notice]:
        """Flags that have begun to warn, or have become critical."""
        for run, name, flag, level, message in cursor.execute(FLAGS, {"since": self._since}).fetchall():
            if (run, flag, level) not in self._flagged:
                self._flagged.add((run, flag, level))
                yield Notice("flagged", f"{level} {flag}: {message}", run, name)

    def stalls(self, cursor: duckdb.DuckDBPyConnection, times: float) -> Iterator[Notice]:
        """Runs without a step for `times` as long as theirs take on average."""
        now = time.time()
        for run, name, phase, attempt, first_t, last_t, first, last in cursor.execute(STEPS).fetchall():
            step_s = (last_t - first_t) / (last - first)
            allowed = max(times * step_s, LEAST_S if phase == "training" else LOOK_S)
            if now - last_t <= allowed or (run, attempt, last) in self._stalled:
                continue
            self._stalled.add((run, attempt, last))
            silent, usual = duration(now - last_t), duration(step_s)
            yield Notice("stalled", f"no step for {silent} after step {last}; one takes {usual}", run, name)
