"""What each kind of log line becomes in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from store import eval_rows, lines
from store.batch import Batch, RunRow
from store.eval_rows import Entry
from store.journal_lines import (
    JOURNAL,
    Ended,
    Interrupted,
    JournalLine,
    Note,
    Other,
    Priority,
    Running,
    Started,
    Starting,
    Submitted,
)
from store.line_fields import body, maybe_real, maybe_small, maybe_text, maybe_whole, read, real
from store.states import ACTIVE, ENDED, RunState


def unreadable(
    batch: Batch, run: int | None, attempt: int | None, t: float, where: str, why: str, text: bytes
) -> None:
    """Set a line aside, at the time of the line before it."""
    batch.add(
        "events",
        run=run,
        attempt=attempt,
        t=t,
        kind="unreadable",
        level="warn",
        message=f"{where}: {why}",
        body=text[:2000].decode("utf-8", "replace"),
    )


# ---- run.json --------------------------------------------------------------------------------------------


def run_json(batch: Batch, run: int, directory: Path, body: dict[str, Any]) -> None:
    """The rows of `runs`, `params` and `datasets` that never change."""
    recipe = body.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    model, method, task = recipe.get("model"), recipe.get("method"), recipe.get("task")
    slug = directory.name.partition("-")[2]
    batch.add(
        "runs",
        run=run,
        uuid=maybe_text(body.get("uuid")),
        name=maybe_text(body.get("name")) or slug,
        slug=maybe_text(body.get("slug")) or slug,
        dir=str(directory),
        created=maybe_real(body.get("created")),
        model=maybe_text(model.get("path") if isinstance(model, dict) else model),
        method=maybe_text(method.get("name") if isinstance(method, dict) else method),
        task=maybe_text(task.get("name") if isinstance(task, dict) else task),
        seed=maybe_whole(recipe.get("seed")),
        recipe_json=json.dumps(recipe, ensure_ascii=False),
        recipe_hash=maybe_text(body.get("recipe_hash")),
        git_commit=maybe_text(body.get("git_commit")),
        host=maybe_text(body.get("host")),
        sweep=maybe_text(body.get("sweep")),
        parent=maybe_small(body.get("parent")),
    )
    for key, value, number in _leaves(recipe, ""):
        batch.add("params", run=run, key=key, value=value, number=number)
    versions = body.get("versions")
    libraries = {"python": body.get("python"), **(versions if isinstance(versions, dict) else {})}
    for library, version in libraries.items():
        if version is not None:
            batch.add("libraries", run=run, library=library, version=maybe_text(version))
    for item in body.get("datasets") or []:
        batch.add(
            "datasets",
            run=run,
            role=maybe_text(item.get("role")),
            source=maybe_text(item.get("source")),
            fingerprint=maybe_text(item.get("fingerprint")),
            n_rows=maybe_whole(item.get("rows")),
            bytes=maybe_whole(item.get("bytes")),
        )


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, str, float | None]]:
    """(dotted key, value as text, value as a number)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif value is not None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield prefix, text, real(value) if is_number else None


# ---- journal.jsonl ---------------------------------------------------------------------------------------


def journal_line(batch: Batch, run: RunRow, entry: Entry, directory: Path) -> None:
    """The daemon's word, read as the queue reads it. Raises BadLine, having added nothing."""
    t, line = real(entry.get("t")), read(JOURNAL.get(entry["kind"], Other), entry, strict=False)
    attempt = getattr(line, "attempt", None)
    batch.event(run.run, attempt, entry, _journal_message(entry["kind"], line), _journal_level(line))
    match line:
        case Submitted() | Priority():
            run.priority = line.priority
        case Starting() | Started() | Running() if attempt is not None:
            pid = None if isinstance(line, Starting) else line.pid
            run.attempt, run.pid = attempt, pid or run.pid
            run.started = t if run.started is None else run.started
            batch.attempt(run.run, attempt, started=t, pid=pid, device=line.device)
    if line.state is not None:
        run.state, run.reason = line.state, line.reason
        run.ended = t if line.state in ENDED else None
        if line.state not in ACTIVE and run.attempt:
            _attempt_over(batch, run, attempt or run.attempt, t, line, directory)
    batch.runs[run.run] = run


def _attempt_over(
    batch: Batch, run: RunRow, attempt: int, t: float, line: JournalLine, directory: Path
) -> None:
    """The shim's word on how the attempt ended, else the daemon's."""
    run.pid = None
    said = _exit_json(directory / "attempts" / str(attempt) / "exit.json")
    ended = line if isinstance(line, Ended | Interrupted) else None
    if not said and ended is None:
        return
    batch.attempt(
        run.run,
        attempt,
        ended=maybe_real(said.get("ended")) or t,
        exit_code=maybe_whole(said.get("exit_code", ended.exit_code if ended else None)),
        signal=maybe_whole(said.get("signal", ended.signal if ended else None)),
        peak_rss_mb=maybe_real(said.get("peak_rss_mb")),
    )


def _exit_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _journal_level(line: JournalLine) -> str:
    if line.state == RunState.FAILED:
        return "error"
    # A pause has a reason where nobody asked for it.
    unasked = line.state == RunState.PAUSED and isinstance(line, Ended) and line.reason
    return "warn" if unasked or line.state == RunState.INTERRUPTED else "info"


def _journal_message(kind: str, line: JournalLine) -> str:
    text = (line.text if isinstance(line, Note) else "") or line.reason or ""
    match line:
        case Starting() | Started() | Running() if line.attempt is not None:
            pid = None if isinstance(line, Starting) else line.pid
            device = f" on {line.device}" if line.device else ""
            process = f" (process {pid})" if pid else ""
            return f"{kind}: attempt {line.attempt}{device}{process}"
        case Ended():
            how = f"signal {line.signal}" if line.signal else f"exit code {line.exit_code}"
            return f"{line.state or 'ended'}: {text or how}"
        case Priority():
            return f"priority is now {line.priority}"
    return f"{kind}: {text}" if text else kind


# ---- attempts/N/events.jsonl -------------------------------------------------------------------------------


def worker_line(batch: Batch, run: RunRow, attempt: int, entry: Entry) -> None:
    """The worker's word. Raises BadLine, having added nothing, for a line that lacks what its kind needs."""
    kind = entry["kind"]
    if kind in lines.WORKER:
        _WORKER[kind](batch, run, attempt, entry, read(lines.WORKER[kind], entry))
    else:  # of a later finetui
        level = str(entry.get("level") or "info")
        batch.event(run.run, attempt, entry, str(entry.get("message") or kind), level)
    if kind in ("resume", "plan", "phase", "metrics"):
        batch.runs[run.run] = run


def _metrics(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Metrics) -> None:
    t = real(entry.get("t"))
    kept = {  # nearly all are floats: a call for each would cost more than reading the line
        key: value if type(value) is float else real(value)
        for key, value in line.values.items()
        if value is not None
    }
    batch.points(run, attempt, line.step, t, kept)
    run.step = line.step
    batch.attempt(run.run, attempt, first_step=line.step, first_t=t, last_step=line.step, last_t=t)


def _resume(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Resume) -> None:
    fresh = line.from_step < 0  # no checkpoint was there yet
    message = "started over: there was no checkpoint" if fresh else f"resumed from step {line.from_step}"
    batch.event(run.run, attempt, entry, message)
    batch.resumes.append((run.run, attempt, line.from_step))
    batch.attempt(run.run, attempt, resumed_from=None if fresh else line.from_step)
    run.step = max(0, line.from_step)


def _plan(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Plan) -> None:
    message = f"{line.total_steps} steps"
    if line.trainable and line.parameters:
        message += f", {line.trainable:,} of {line.parameters:,} parameters"
    batch.event(run.run, attempt, entry, message)
    run.total_steps, run.parameters, run.trainable = line.total_steps, line.parameters, line.trainable
    batch.attempt(run.run, attempt, device=line.device)


def _phase(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Phase) -> None:
    batch.event(run.run, attempt, entry, f"{line.phase}: {line.detail}" if line.detail else str(line.phase))
    run.phase = line.phase


def _checkpoint(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Checkpoint) -> None:
    batch.event(run.run, attempt, entry, f"checkpoint at step {line.step}")
    batch.add("checkpoints", run=run.run, attempt=attempt, t=real(entry.get("t")), **body(line))


def _deleted(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Deleted) -> None:
    batch.event(run.run, attempt, entry, f"deleted the checkpoint of step {line.step}")
    batch.deleted.append((run.run, line.step, real(entry.get("t"))))


def _memory(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Memory) -> None:
    level = "warn" if line.cause == "out_of_memory" else "info"
    tokens = f"{line.micro_tokens} tokens in a forward pass"
    message = f"{line.cause} at step {line.step}: {line.measured_mb:.0f} MiB, {tokens}"
    batch.event(run.run, attempt, entry, message, level)
    batch.add("memory", run=run.run, attempt=attempt, t=real(entry.get("t")), **body(line))


def _log(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Log) -> None:
    batch.event(run.run, attempt, entry, line.message or line.kind, line.level or "info")


def _end(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.End) -> None:
    status, because = str(line.status), line.error or line.reason
    level = "error" if status == RunState.FAILED else "warn" if status == RunState.PAUSED else "info"
    batch.event(run.run, attempt, entry, f"{status}: {because}" if because else status, level)


_WORKER: dict[str, Callable[[Batch, RunRow, int, Entry, Any], None]] = {
    "resume": _resume,
    "plan": _plan,
    "phase": _phase,
    "metrics": _metrics,
    "eval": eval_rows.eval_line,
    "examples": eval_rows.examples_line,
    "sample": eval_rows.sample_line,
    "flag": eval_rows.flag_line,
    "checkpoint": _checkpoint,
    "deleted": _deleted,
    "memory": _memory,
    "log": _log,
    "end": _end,
}


# ---- hardware.jsonl ----------------------------------------------------------------------------------------


def hardware_line(batch: Batch, entry: Entry) -> None:
    """The sampler's word: samples, and a device's label. Raises BadLine."""
    if entry["kind"] not in lines.HARDWARE:
        return
    line = read(lines.HARDWARE[entry["kind"]], entry)
    match line:
        case lines.HardwareSample():
            t = real(entry.get("t"))
            kept = {key: real(value) for key, value in line.values.items() if value is not None}
            batch.extend("system_metrics", len(kept), t=t, key=list(kept), value=list(kept.values()))
        case lines.Device():
            batch.meta[f"device/{line.name}"] = str(line.label)
