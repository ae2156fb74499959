"""Runs of MLflow, from its database and from its folders: what both say of a run, in our terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.curves.points import LARGEST_STEP, Point
from engine.importing.foreign import Foreign, at_steps, span, typed
from finetui.names import our_name
from store.states import RunState

OWN = "mlflow."  # begins the tags that MLflow sets itself
_SYSTEM = "system/"  # begins its measures of the machine
_STATES = {
    "FINISHED": (RunState.FINISHED, None),
    "FAILED": (RunState.FAILED, "MLflow says that it failed"),
    "KILLED": (RunState.CANCELLED, "MLflow says that it was killed"),
    "RUNNING": (RunState.CANCELLED, "MLflow does not say that it ended: it was killed, or goes on"),
    "SCHEDULED": (RunState.CANCELLED, "MLflow says that it never began"),
}


@dataclass(frozen=True)
class Measure:
    """One entry of MLflow's metrics."""

    name: str
    step: int
    t: float  # Unix seconds
    value: float


@dataclass(frozen=True)
class Facts:
    """What MLflow keeps of a run itself."""

    id: str
    name: str
    status: str
    started: float | None
    ended: float | None
    user: str | None
    experiment: str


def foreign(
    facts: Facts, params: Mapping[str, str], tags: Mapping[str, str], measures: Iterable[Measure]
) -> Foreign:
    """Put a run together."""
    numbered, notes, remarks = _numbered(list(measures))
    own = [entry for entry in numbered if not entry.name.startswith(_SYSTEM)]
    points = [Point(entry.step, our_name(entry.name), entry.value, entry.t) for entry in own]
    samples = sorted(
        (entry.t, entry.name.removeprefix(_SYSTEM), entry.value)
        for entry in numbered
        if entry.name.startswith(_SYSTEM)
    )
    created, last = span(points, facts.started)
    state, reason = _STATES.get(facts.status, (RunState.CANCELLED, f"MLflow says {facts.status}"))
    users = {key: value for key, value in tags.items() if not key.startswith(OWN)}
    return Foreign(
        id=facts.id,
        name=facts.name or tags.get(OWN + "runName") or facts.id[:8],
        created=facts.started or created,
        ended=facts.ended or last,
        state=state,
        reason=reason,
        config={key: typed(value) for key, value in params.items()},
        tags=[key if value in ("", "True", "true") else f"{key}={value}" for key, value in users.items()],
        note=tags.get(OWN + "note.content", ""),
        user=tags.get(OWN + "user") or facts.user or None,
        git_commit=tags.get(OWN + "source.git.commit"),
        parent=tags.get(OWN + "parentRunId"),
        points=[*points, *at_steps(samples, points)],
        more={"experiment": facts.experiment, "source": tags.get(OWN + "source.name"), "tags": users},
        notes=notes,
        remarks=remarks,
    )


def _numbered(measures: list[Measure]) -> tuple[list[Measure], list[str], list[str]]:
    """Number the measures that were logged without a step, which MLflow keeps all at step 0, in their order; leave out
    those at steps that no run has.
    """
    by_name: dict[str, list[Measure]] = {}
    for entry in measures:
        by_name.setdefault(entry.name, []).append(entry)
    kept: list[Measure] = []
    notes, remarks = [], []
    for name, entries in by_name.items():
        if len(entries) > 1 and all(entry.step == 0 for entry in entries) and not name.startswith(_SYSTEM):
            entries = [Measure(name, at, entry.t, entry.value) for at, entry in enumerate(entries)]
            remarks.append(f"{name} was logged without steps; its {len(entries)} values are numbered from 0")
        usable = [entry for entry in entries if 0 <= entry.step < LARGEST_STEP]
        if bad := len(entries) - len(usable):
            notes.append(f"{bad} values of {name} at steps below 0 are left out")
        kept += usable
    return kept, notes, remarks


def seconds(milliseconds: Any) -> float | None:
    """Return a time of MLflow's in seconds; None where there is none."""
    return float(milliseconds) / 1000 if milliseconds else None
