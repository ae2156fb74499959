"""A run of another tool: where it is, and what it says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from engine.basics.errors import InputError
from engine.curves.points import Point
from store.states import RunState

Tool = Literal["tensorboard", "wandb", "trackio", "mlflow", "trainer", "finetui"]
HARDWARE = "hardware/"  # begins the names of what tools measure of the machine
LONGEST_TAG = 60
_MODELS = (
    "model_name_or_path", "pretrained_model_name_or_path", "base_model", "model_name", "model_id", "_name_or_path",
)  # fmt: skip


class Unusable(InputError):  # noqa: N818
    """A run, or a file with runs, that cannot be imported: says which and why."""


@dataclass(frozen=True)
class Foreign:
    """What a tool says of a run."""

    id: str  # that the tool gave it; what makes it the same run wherever its files are
    name: str
    created: float  # Unix seconds, as all times here
    ended: float
    state: RunState
    reason: str | None = None
    exit_code: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()  # as the tool has them
    group: str | None = None
    note: str = ""
    user: str | None = None
    host: str | None = None
    python: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    folder: str | None = None  # that it was started in
    parent: str | None = None  # the id of the run that it belongs to
    points: Sequence[Point] = ()
    total_steps: int | None = None
    checkpoints: Sequence[tuple[int, Path]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)  # that has no place elsewhere, for run.json
    notes: Sequence[str] = ()  # what could not be taken as it is, in sentences
    remarks: Sequence[str] = ()  # what else there is to know of it


@dataclass(frozen=True)
class Candidate:
    """A run that was found, and not read yet."""

    tool: Tool
    place: str  # which one: its file or folder, and where there are several in one, its id
    stamp: str  # changes when the run goes on
    read: Callable[[], Foreign]  # raises Unusable, OSError, ImportError


@dataclass(frozen=True)
class Look:
    """What there is at a path."""

    candidates: Sequence[Candidate] = ()
    problems: Sequence[tuple[str, str]] = ()  # file, and why it is passed over


# ---- values ------------------------------------------------------------------------------------------------


def stamp_of(files: Iterable[Path]) -> str:
    """Return the sizes and times of files. Raises OSError."""
    statuses = [file.stat() for file in sorted(files)]
    return " ".join(f"{status.st_size}@{status.st_mtime_ns}" for status in statuses)


def when(text: Any) -> float | None:
    """Return the Unix seconds of a time in ISO 8601; None where it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def span(points: Sequence[Point], *others: float | None) -> tuple[float, float]:
    """Return the first and the last of all times that are known, which may be none: then twice 0."""
    times = [t for t in (*others, *(point.t for point in points)) if t is not None and 0 < t < 1e11]
    return (min(times), max(times)) if times else (0.0, 0.0)


def typed(text: str) -> Any:
    """Return a value that its tool keeps as text: a number, true or false where it is one."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) and abs(value) < 2**63 else text
    return text


def plain(value: Any) -> Any:
    """Return a configuration as JSON can hold it: what is no finite number as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def recipe_of(config: Mapping[str, Any], tool: Tool) -> dict[str, Any]:
    """Return what a run was configured with as its recipe; the tool is its method where it has none of its own."""
    recipe = {"method": tool, **plain(config)}
    if not recipe.get("model"):
        named = (recipe.get(key) for key in _MODELS)
        if model := next((name for name in named if isinstance(name, str) and name), None):
            recipe["model"] = model
    return recipe


def word(text: str) -> str:
    """Return a tag or a group as one word, as ours are."""
    return re.sub(r"[\s,:]+", "-", text.strip())[:LONGEST_TAG].strip("-")


def at_steps(samples: Iterable[tuple[float | None, str, float]], points: Sequence[Point]) -> list[Point]:
    """Return samples of the machine, in order of time, as measures of the last step that was measured before each;
    of several at a step the last one.
    """
    marks = sorted((point.t, point.step) for point in points if point.t is not None)
    readings: dict[tuple[int, str], Point] = {}
    at = step = 0
    for t, name, value in samples:
        while t is not None and at < len(marks) and marks[at][0] <= t:
            step, at = max(step, marks[at][1]), at + 1
        readings[step, name] = Point(step, HARDWARE + name, value, t)
    return list(readings.values())
