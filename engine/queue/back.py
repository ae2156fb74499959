"""Taking an order back: what a run was like before it, and the lines for its journal that make it so again.

Pure. What has gone on meanwhile is not undone: a run that was held back and waits for others by now still does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from engine.basics.errors import QueueError
from engine.queue.orders import group_of, tags_of
from engine.runs import lifecycle
from engine.runs.journal import RunRecord
from store.journal_lines import (
    Cancel,
    Conditions,
    Grouped,
    JournalLine,
    Moved,
    Note,
    Pause,
    Priority,
    Requeued,
    Tagged,
)
from store.states import RunState


@dataclass(frozen=True)
class Standing:
    """What orders change of a run; `RunRecord` has more."""

    state: str
    priority: int
    place: float
    held: bool
    after: list[int]
    after_any: bool
    not_before: float | None
    tags: list[str]
    group: str | None
    note: str


def standing(record: RunRecord) -> dict[str, Any]:
    """Return what a run is like now, for whoever may want that back."""
    found = {field.name: getattr(record, field.name) for field in fields(Standing)}
    return {**found, "after": list(record.after), "tags": list(record.tags)}


def read(body: Any) -> Standing:
    """Check what a client says that a run was like. Raises QueueError."""
    kinds = {
        "priority": int,
        "place": int | float,
        "held": bool,
        "after": list,
        "after_any": bool,
        "note": str,
    }
    kinds |= {"state": str, "tags": list, "not_before": int | float | None, "group": str | None}
    if not isinstance(body, dict) or body.keys() != kinds.keys():
        raise QueueError("put_back needs as `before` what the daemon answered to the order")
    for key, kind in kinds.items():
        if not isinstance(body[key], kind) or (kind is int and isinstance(body[key], bool)):
            raise QueueError(f"put_back: {key} cannot be {body[key]!r}")
    if not all(isinstance(number, int) for number in body["after"]):
        raise QueueError(f"put_back: after cannot be {body['after']!r}")
    return Standing(**{**body, "tags": tags_of(body["tags"]), "group": group_of(body["group"])})


def lines(order: str, record: RunRecord, before: Standing) -> list[JournalLine]:
    """Return the lines that take an order back. Raises QueueError where that cannot be."""
    match order:
        case "cancel" | "pause":
            return _go_on(order, record, before)
        case "resume":
            return _stop_again(record, before)
        case "tag":
            return [Tagged(before.tags)]
        case "group":
            return [Grouped(before.group)]
        case "note":
            return [Note(before.note)]
    if why := lifecycle.refused("priority", record.number, record.state):
        raise QueueError(why)
    match order:
        case "priority":
            return [Priority(before.priority)]
        case "move":
            return [Moved(before.priority, before.place)]
        case "hold" | "release":
            return [Conditions(before.held, before.after, before.after_any, before.not_before)]
    raise QueueError(f"{order} cannot be taken back")


def _go_on(order: str, record: RunRecord, before: Standing) -> list[JournalLine]:
    """A run that was stopped waits in its place again; one that stops just now goes on as soon as it has stopped."""
    if record.active and record.request:
        return [Requeued(record.state, f"its {record.request} was undone: it resumes once it has stopped")]
    if record.state not in (RunState.CANCELLED, RunState.PAUSED):
        raise QueueError(f"run #{record.number} is {record.state}: there is no {order} to take back")
    if before.state == RunState.PAUSED:
        return [Pause(RunState.PAUSED)]
    return [Requeued(RunState.QUEUED, interruptions=0), Moved(before.priority, before.place)]


def _stop_again(record: RunRecord, before: Standing) -> list[JournalLine]:
    """A run that was resumed and has not begun is as it was; one that had failed is cancelled."""
    if not record.waiting:
        raise QueueError(f"run #{record.number} goes on already: pause it, or cancel it")
    if before.state == RunState.PAUSED:
        return [Pause(RunState.PAUSED)]
    return [Cancel(RunState.CANCELLED)]
