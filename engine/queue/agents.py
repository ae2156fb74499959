"""What an assistant may ask of the daemon, by config.toml, and how much of its day is used.

Whoever names an assistant with a request (`by`) is held to this. It is a door, not a wall: a process of the same user
that names none is taken for the user.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from engine.basics.errors import QueueError
from engine.basics.safe_text import one_line
from engine.recipe.command import Command
from engine.recipe.sections import Recipe
from engine.runs.journal import RunRecord

Right = Literal["queue", "fix", "stop", "programs"]
# Actions that change something, and the right that they need; all others that do are for people.
RIGHTS: Mapping[str, Right] = {
    "submit": "queue",
    "requeue": "queue",
    "sweep": "queue",
    "sweep_begin": "queue",
    "cancel": "stop",
    "pause": "stop",
    "run_code": "programs",  # none of the daemon's: asked before a recipe is looked at whose code would be imported
}
READING = {"status", "machine", "drain", "look", "agent"}
DONE: Mapping[Right, str] = {
    "queue": "queue runs",
    "fix": "queue runs made from others",
    "stop": "stop runs",
    "programs": "run code of its own (a command, trust_remote_code, its own metrics)",
}
BY_RESULTS = ("search", "stop_losers")  # keys of sweeps that queue and stop runs by themselves
DAY_S, HOUR_S = 86_400.0, 3600.0
LONGEST = 60  # characters of a name


@dataclass(frozen=True)
class Used:
    """What assistants have queued in the last day."""

    runs: int
    hours: float


@dataclass(frozen=True)
class Agents:
    """The settings of config.toml."""

    may: frozenset[Right]
    runs_per_day: int = 0
    hours_per_day: float = 0.0

    def check(self, action: str, body: Mapping[str, Any], config: Path) -> None:
        """Refuse what they have no right to, with the line to add. Raises QueueError."""
        if action in READING:
            return
        right = RIGHTS.get(action)
        if right is None:
            raise QueueError(
                f"an assistant may not ask the daemon to {action.replace('_', ' ')}; ask the person whose home this is"
            )
        if action == "submit" and body.get("parent") is not None and "fix" in self.may:
            right = "fix"
        self._require(right, f"{config}")
        section = body.get("section")
        if action == "sweep" and isinstance(section, dict) and any(map(section.get, BY_RESULTS)):
            raise QueueError(
                "an assistant queues sweeps whose runs are all known: leave sweep.search and sweep.stop_losers out"
            )

    def check_run(
        self, recipe: Recipe | Command, seconds: float | None, records: Iterable[RunRecord]
    ) -> None:
        """Refuse a run that is not theirs to queue, or one too many. Raises QueueError."""
        if has_code(recipe):
            self._require("programs", "config.toml")
        self._check_day(used(records, time.time()), 1, (seconds or 0.0) * recipe.processes)

    def used_up(self, records: Iterable[RunRecord]) -> str | None:
        """Return why none of their runs may go on; None while there are hours left."""
        ran = used(records, time.time(), predicted=False).hours
        if ran < self.hours_per_day:
            return None
        return (
            f"the runs of assistants have had {ran:.1f} of their {self.hours_per_day:g} hours of the day; resume makes "
            "it yours, agent_hours_per_day in config.toml gives them more"
        )

    def allowance(self, today: Used, runs: Any = None, seconds: Any = None) -> dict[str, Any]:
        """Return what they may and what is left of the day. Raises QueueError if `runs` more, of `seconds` together,
        are too many.
        """
        if isinstance(runs, int) and isinstance(seconds, int | float):
            self._check_day(today, runs, seconds)
        return {
            "may": sorted(self.may),
            "runs_per_day": self.runs_per_day,
            "runs_left": max(0, self.runs_per_day - today.runs),
            "hours_per_day": self.hours_per_day,
            "hours_left": round(max(0.0, self.hours_per_day - today.hours), 2),
        }

    def _require(self, right: Right, config: str) -> None:
        if right not in self.may:
            words = ", ".join(f'"{one}"' for one in get_args(Right) if one in self.may or one == right)
            raise QueueError(
                f"an assistant may not {DONE[right]} here; to allow it, put agents_may = [{words}] into {config}"
            )

    def _check_day(self, today: Used, runs: int, seconds: float) -> None:
        if today.runs + runs > self.runs_per_day:
            raise QueueError(
                f"assistants have queued {today.runs} of {self.runs_per_day} runs in the last 24 hours, and this would "
                f"be {runs} more; wait, or raise agent_runs_per_day in config.toml"
            )
        hours = seconds / HOUR_S
        if today.hours + hours > self.hours_per_day or today.hours >= self.hours_per_day:
            more = f", and this would take about {hours:.1f} more" if hours else ""
            raise QueueError(
                f"the runs that assistants queued in the last 24 hours take {today.hours:.1f} of "
                f"{self.hours_per_day:g} hours{more}; wait, or raise agent_hours_per_day in config.toml"
            )


NO_RIGHTS = Agents(frozenset())


def has_code(recipe: Recipe | Command) -> bool:
    """Whether a recipe brings code along, to be run or imported."""
    if isinstance(recipe, Command):
        return True
    return recipe.model.trust_remote_code or any(":" in metric for metric in recipe.evals.metrics)


def used(records: Iterable[RunRecord], now: float, *, predicted: bool = True) -> Used:
    """Add up what assistants queued since a day ago, and the hours of these runs and of older ones that are not over:
    what ran, or if that is more what is `predicted` of a run that is not over; each times its processes.
    """
    own = [record for record in records if record.by is not None]
    today = [record for record in own if record.submitted > now - DAY_S]
    seconds = sum(
        _seconds(record, now, predicted) * record.processes
        for record in own
        if record.submitted > now - DAY_S or record.waiting or record.active
    )
    return Used(len(today), seconds / HOUR_S)


def _seconds(record: RunRecord, now: float, predicted: bool) -> float:
    ran = record.seconds(now)
    goes_on = record.waiting or record.active
    return max(ran, record.predicted_s or 0.0) if predicted and goes_on else ran


def name_of(by: Any) -> str | None:
    """Return the name of the assistant that asks, in one line; None where nobody is named. Raises QueueError."""
    if by is None:
        return None
    name = one_line(by).strip() if isinstance(by, str) else ""
    if not name or len(name) > LONGEST:
        raise QueueError(f"the name of an assistant is a line of at most {LONGEST} characters, got {by!r}")
    return name
