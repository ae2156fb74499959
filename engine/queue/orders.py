"""What people ask of a run that changes its place, its conditions or its words: each as the line for its journal.

Pure: whether the run may be asked this now is for engine/runs/lifecycle.py, and writing the line for the supervisor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from engine.basics.errors import QueueError
from engine.basics.safe_text import one_line
from engine.queue.scheduler import place_before
from engine.recipe.kinds import LONGEST_NAME
from engine.runs.journal import RunRecord
from store.journal_lines import Conditions, Grouped, JournalLine, Moved, Note, Priority, StartNow, Tagged
from store.states import RunState

Order = Literal["priority", "hold", "release", "start_now", "move", "group", "tag", "note"]
ORDERS: tuple[Order, ...] = get_args(Order)
TAG = re.compile(r"[^\s,:]+")  # separated by spaces in the store, and found by `tag:WORD`


def line_for(
    order: Order, record: RunRecord, body: Mapping[str, Any], waiting: Sequence[RunRecord]
) -> JournalLine:
    """Return the line that an order is. `waiting`: all runs that wait. Raises QueueError."""
    match order:
        case "priority":
            return Priority(whole_number(order, body, "priority"))
        case "hold":
            return Conditions(True, list(record.after), record.after_any, record.not_before)
        case "release":
            return Conditions()
        case "start_now":
            return StartNow()
        case "move":
            return _move(record, body, waiting)
        case "group":
            return Grouped(group_of(body.get("group")))
        case "tag":
            tags = dict.fromkeys([*record.tags, *tags_of(body.get("add") or [])])
            for removed in tags_of(body.get("remove") or []):
                tags.pop(removed, None)
            return Tagged(list(tags))
        case "note":
            return Note(str(body.get("text", "")))


def _move(record: RunRecord, body: Mapping[str, Any], waiting: Sequence[RunRecord]) -> Moved:
    if body.get("before") is None:
        return Moved(*place_before(record, None, waiting))
    before = whole_number("move", body, "before")
    other = next((run for run in waiting if run.number == before), None)
    if other is None or before == record.number:
        raise QueueError(
            f"run #{record.number} cannot be put before #{before}, which does not wait in the queue"
        )
    if other.state == RunState.INTERRUPTED or other.urgent:
        raise QueueError(f"run #{before} goes on before all others; nothing can be put before it")
    return Moved(*place_before(record, other, waiting))


def answer(order: Order, record: RunRecord) -> dict[str, Any]:
    """Return what is now so of the run, for whoever asked."""
    match order:
        case "priority":
            return {"priority": record.priority}
        case "group":
            return {"group": record.group}
        case "tag":
            return {"tags": list(record.tags)}
    return {}


def group_of(name: Any) -> str | None:
    """Check the name of a group; None and an empty one are none. Raises QueueError."""
    if not name:
        return None
    if not isinstance(name, str) or not TAG.fullmatch(name):
        raise QueueError(f"a group is one word without comma and colon, got {name!r}")
    return name


def tags_of(words: Any) -> list[str]:
    """Check tags. Raises QueueError."""
    if not isinstance(words, list) or not all(
        isinstance(word, str) and TAG.fullmatch(word) for word in words
    ):
        raise QueueError(f"a tag is one word without comma and colon, got {words!r}")
    return list(words)


def name_of(name: Any) -> str:
    """Check the name of a run. Raises QueueError."""
    if not isinstance(name, str) or not one_line(name).strip() or len(name) > LONGEST_NAME:
        raise QueueError(f"a name is a line of at most {LONGEST_NAME} characters, got {name!r}")
    return one_line(name).strip()


def whole_number(action: str, body: Mapping[str, Any], key: str) -> int:
    """Raises QueueError."""
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise QueueError(f"{action} needs a whole number as `{key}`, got {value!r}")
    return value
