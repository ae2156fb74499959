"""What the directory of a run of another tool holds: run.json, journal, the log of its attempt."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.curves.points import Point
from engine.importing.batch import Batch
from engine.importing.foreign import Candidate, Foreign, recipe_of, word
from engine.runs.home import RunDir
from engine.runs.imported import KEY, TITLES
from engine.runs.removed import bytes_of
from finetui.hashes import short_hash
from finetui.log import LogWriter
from finetui.new_run import slugify
from store.journal_lines import Ended, Grouped, JournalLine, Note, Starting, Submitted, Tagged
from store.line_fields import write
from store.lines import Checkpoint, End, Log, Metrics, Plan, Resume, WorkerLine
from store.states import RunState

CATCH_ALL = ("Default", "uncategorized")  # where MLflow and W&B put runs that have no place of their own
TOGETHER_S = 1.0  # measures of one step that were logged within it share a line
Measured = Mapping[tuple[int, str], Point]  # by step and name


def make(batch: Batch, number: int, candidate: Candidate, run: Foreign, parent: int | None) -> RunDir:
    """Write a run of another tool; it is there when the batch is settled. Raises OSError."""
    name = run.name[:200] or candidate.tool
    slug = slugify(name)
    recipe = recipe_of(run.config, candidate.tool)
    body = {
        "version": 1,
        "uuid": str(uuid.uuid4()),
        "number": number,
        "name": name,
        "slug": slug,
        "created": run.created,
        "python": run.python,
        "recipe_hash": short_hash(recipe),
        "recipe_text": "",
        "recipe_path": None,
        "cwd": run.folder,
        "git_commit": run.git_commit,
        "user": run.user,
        "host": run.host,
        "datasets": [],
        "versions": dict(run.versions),
        "sweep": None,
        "parent": parent,
        KEY: origin_of(candidate, run),
        "project": project_of(candidate, run),
        "recipe": recipe,
    }

    def fill(directory: RunDir) -> None:
        directory.meta.write_text(json.dumps(body, indent=1))
        attempt = directory.attempt(1)
        attempt.path.mkdir(parents=True, mode=0o700)
        first = Log("info", f"imported from {TITLES[candidate.tool]}: {candidate.place}")
        write_events(attempt.events, number, 1, run, measured(run.points), [first], sync=False)
        _write_all(LogWriter(directory.journal, "journal", run=number), _journal(run), sync=False)

    return batch.make(number, slug, fill)


def origin_of(candidate: Candidate, run: Foreign) -> dict[str, Any]:
    """Return what run.json says of where a run came from."""
    return {
        "tool": candidate.tool,
        "id": run.id,
        "place": candidate.place,
        "stamp": candidate.stamp,
        "at": time.time(),
        **run.more,
    }


def project_of(candidate: Candidate, run: Foreign) -> str:
    """Return within what the results of a run may be compared: what its tool gathers runs in, else their folder."""
    names = [run.more.get(key) for key in ("entity", "project", "experiment")]
    known = [name for name in names if name]
    folder = Path(candidate.place.partition("#")[0]).parent
    return " ".join([candidate.tool, *(known if known and known[-1] not in CATCH_ALL else [str(folder)])])


def measured(points: Iterable[Point]) -> Measured:
    """Return points by step and name; one that was logged again counts as it was logged last."""
    return {(point.step, point.name): point for point in points}


def write_events(
    log: Path,
    number: int,
    attempt: int,
    run: Foreign,
    points: Measured,
    first: Sequence[WorkerLine],
    *,
    sync: bool,
) -> None:
    """Write the log of an attempt; with `sync`, it is on disk on return. Raises OSError."""
    own = [point.t for point in points.values() if point.t]
    begun = min(own, default=run.created)
    lines: list[tuple[float, WorkerLine]] = [(begun, line) for line in first]
    if run.total_steps:
        lines.append((begun, Plan(total_steps=run.total_steps)))
    lines += _metrics(points, begun)
    resumed = next((line.from_step for line in first if isinstance(line, Resume)), -1)
    lines += [
        (run.ended, Checkpoint(step, str(path), bytes_of(path)))
        for step, path in run.checkpoints
        if step > resumed
    ]
    lines += [(run.ended, Log("warning", note)) for note in run.notes]
    lines += [(run.ended, Log("info", remark)) for remark in run.remarks]
    step = max((step for step, _ in points), default=0)
    lines.append((run.ended, End(run.state, step, run.reason if run.state == RunState.FAILED else None)))
    _write_all(LogWriter(log, "worker", number, attempt), lines, sync=sync)


def _metrics(points: Measured, begun: float) -> list[tuple[float, WorkerLine]]:
    """Return the measures in order, those of one step and moment in one line."""
    ordered = sorted(points.values(), key=lambda point: (point.step, point.t or begun))
    lines: list[tuple[float, WorkerLine]] = []
    step, since = -1, 0.0
    values: dict[str, float | None] = {}
    for point in ordered:
        t = point.t or begun
        if point.step != step or t - since > TOGETHER_S:
            step, since, values = point.step, t, {}
            lines.append((t, Metrics(step, values)))
        values[point.name] = point.value
    return lines


def _journal(run: Foreign) -> list[tuple[float, JournalLine]]:
    lines: list[tuple[float, JournalLine]] = [(run.created, Submitted(RunState.QUEUED))]
    if tags := [tag for tag in dict.fromkeys(map(word, run.tags)) if tag]:
        lines.append((run.created, Tagged(tags)))
    if run.group and (group := word(run.group)):
        lines.append((run.created, Grouped(group)))
    if run.note:
        lines.append((run.created, Note(run.note)))
    return [*lines, *ended_lines(run, 1, run.created)]


def ended_lines(run: Foreign, attempt: int, began: float) -> list[tuple[float, JournalLine]]:
    """Return the lines of an attempt that is over."""
    return [
        (began, Starting(attempt, RunState.STARTING)),
        (run.ended, Ended(run.state, attempt, run.exit_code, reason=run.reason)),
    ]


def append_journal(run: RunDir, lines: Iterable[tuple[float, JournalLine]]) -> None:
    """Add to the journal of an imported run, durable on return; each line is whole, whoever else writes."""
    _write_all(LogWriter(run.journal, "journal", run=run.number), lines, sync=True)


def _write_all(log: LogWriter, lines: Iterable[tuple[float, Any]], *, sync: bool) -> None:
    try:
        for t, line in lines:
            write(log, line, t=t)
    finally:
        log.close(sync=sync)
