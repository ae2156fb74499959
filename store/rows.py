"""What each kind of log line becomes in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetui.log import CUT_OFF
from store import eval_rows, lines
from store.batch import Batch, RunRow
from store.eval_rows import Entry
from store.exit_file import BadExit, load_exit
from store.journal_lines import (
    JOURNAL,
    Adopted,
    Conditions,
    Edited,
    Ended,
    Grouped,
    Interrupted,
    JournalLine,
    Moved,
    Named,
    Note,
    Other,
    Priority,
    Running,
    Started,
    Starting,
    Submitted,
    Tagged,
)
from store.line_fields import (
    BadLine,
    body,
    read,
    read_most,
    real,
)
from store.run_json import maybe_time
from store.states import ACTIVE, ENDED, RunState


def unreadable(
    batch: Batch, run: int | None, attempt: int | None, t: float, where: str, why: str, text: bytes
) -> None:
    """Set a line aside, at the time of the line before it."""
    if why != CUT_OFF:
        batch.damaged.setdefault(run, f"{where}: {why}")
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


# ---- journal.jsonl ---------------------------------------------------------------------------------------


def journal_line(batch: Batch, run: RunRow, entry: Entry, directory: Path) -> list[str]:
    """The daemon's word, read as the queue reads it. Raises BadLine, having added nothing. Returns what is left out."""
    line, bad = read_most(JOURNAL.get(entry["kind"], Other), entry)
    try:
        t = maybe_time(entry.get("t")) or 0.0
    except BadLine as error:
        t = 0.0
        bad.append(f"t: {error}")
    entry = {**entry, "t": t}
    attempt = getattr(line, "attempt", None)
    batch.event(run.run, attempt, entry, _journal_message(entry["kind"], line), _journal_level(line))
    match line:
        case Submitted() | Priority() | Moved():
            run.priority = line.priority
        case Conditions():
            run.held = line.held
        case Grouped():
            run.queue_group = line.group
        case Named() | Edited() if line.name:
            run.name = line.name
        case Tagged():
            run.tags = " ".join(map(str, line.tags or ())) or None
        case Starting() | Started() | Running() if attempt is not None:
            run.held = False
            pid = None if isinstance(line, Starting) else line.pid
            run.attempt, run.pid = attempt, pid or run.pid
            run.started = t if run.started is None else run.started
            price = line.price if isinstance(line, Starting) else None
            gpus = None if line.device is None else line.device.count("gpu")
            batch.attempt(run.run, attempt, started=t, pid=pid, device=line.device, gpus=gpus, price=price)
        case Adopted():
            run.attempt = max(run.attempt, line.attempt or 0)
    if line.state is not None:
        run.state, run.reason = line.state, line.reason
        run.ended = t if line.state in ENDED else None
        if line.state not in ACTIVE and run.attempt:
            _attempt_over(batch, run, attempt or run.attempt, t, line, directory)
    batch.runs[run.run] = run
    return bad


def _attempt_over(
    batch: Batch, run: RunRow, attempt: int, t: float, line: JournalLine, directory: Path
) -> None:
    """The shim's word on how the attempt ended, else the daemon's."""
    run.pid = None
    path = directory / "attempts" / str(attempt) / "exit.json"
    try:
        said = load_exit(path)
    except BadExit as error:
        said = None
        unreadable(batch, run.run, attempt, t, f"attempts/{attempt}/{path.name}", str(error), b"")
    ended = line if isinstance(line, Ended | Interrupted) else None
    if said is None and ended is None:
        return
    word = said or ended
    batch.attempt(
        run.run,
        attempt,
        ended=(said.ended if said else None) or t,
        exit_code=word.exit_code if word else None,
        signal=word.signal if word else None,
        peak_rss_mb=said.peak_rss_mb if said else None,
    )


def _journal_level(line: JournalLine) -> str:
    if line.state == RunState.FAILED:
        return "error"
    # A pause has a reason where nobody asked for it.
    unasked = line.state == RunState.PAUSED and isinstance(line, Ended) and line.reason
    return "warn" if unasked or line.state == RunState.INTERRUPTED else "info"


def _journal_message(kind: str, line: JournalLine) -> str:
    text = (line.text if isinstance(line, Note) else "") or line.reason or ""
    match line:
        case Submitted() if line.by:
            return f"{kind} by {line.by}"
        case Starting() | Started() | Running() if line.attempt is not None:
            pid = None if isinstance(line, Starting) else line.pid
            device = f" on {line.device}" if line.device else ""
            process = f" (process {pid})" if pid else ""
            return f"{kind}: attempt {line.attempt}{device}{process}"
        case Ended():
            how = f"signal {line.signal}" if line.signal else f"exit code {line.exit_code}"
            known = text or (how if line.signal or line.exit_code is not None else "")
            return f"{line.state or 'ended'}: {known}" if known else f"{line.state or 'ended'}"
        case Priority():
            return f"priority is now {line.priority}"
        case Moved():
            return f"moved in the queue, priority {line.priority}"
        case Conditions():
            return _conditions(line)
        case Grouped():
            return f"group: {line.group or 'none'}"
        case Edited():
            return f"recipe edited: {'; '.join(map(str, line.changes or ())) or 'nothing changed'}"
        case Named():
            return f"name: {line.name}"
        case Note() if not text:
            return "note: none"
        case Tagged():
            return f"tags: {' '.join(map(str, line.tags or ())) or 'none'}"
    return f"{kind}: {text}" if text else kind


def _conditions(line: Conditions) -> str:
    """What a run waits for from here on."""
    how = "ended" if line.after_any else "finished"
    parts = [
        "held" if line.held else "",
        f"starts after {', '.join(f'#{run}' for run in line.after)} {how}" if line.after else "",
        f"starts at {line.not_before:.0f} (Unix seconds) or later" if line.not_before else "",
    ]
    return "; ".join(filter(None, parts)) or "waits for its turn only"


# ---- attempts/N/events.jsonl -------------------------------------------------------------------------------


def worker_line(batch: Batch, run: RunRow, attempt: int, entry: Entry) -> list[str]:
    """The worker's word. Raises BadLine, having added nothing, for a line that lacks what its kind needs. Returns the
    values that cannot be used, which are left out.
    """
    kind = entry["kind"]
    bad: list[str] = []
    if kind in lines.WORKER:
        if kind in (lines.Metrics.kind, lines.Eval.kind, lines.Choices.kind):
            entry, bad = _usable(entry, real if kind == lines.Metrics.kind else lines.Result.from_log)
        line, more = read_most(lines.WORKER[kind], entry)
        bad += more
        bad += _WORKER[kind](batch, run, attempt, entry, line) or []
    else:  # of a later finetui
        level = str(entry.get("level") or "info")
        batch.event(run.run, attempt, entry, str(entry.get("message") or kind), level)
    if kind in ("resume", "plan", "phase", "metrics", "eval", "end"):
        batch.runs[run.run] = run
    return bad


def _usable(entry: Entry, as_value: Callable[[Any], Any]) -> tuple[Entry, list[str]]:
    """The same line with those of its `values` that can be used, and what is wrong with the others."""
    values = entry.get("values")
    if not isinstance(values, dict):
        return entry, []
    bad: dict[str, str] = {}
    mended: dict[str, Any] = {}
    for key, value in values.items():
        # Nearly all are floats: a call for each would cost.
        if type(value) is not float and value is not None:
            try:
                as_value(value)
            except BadLine as error:
                bad[key] = f"values.{key}: {error}"
                if as_value is not real and isinstance(value, dict):
                    result, _ = read_most(lines.Result, value)
                    mended |= {} if result.value is None else {key: body(result)}
    if not bad:
        return entry, []
    kept = {key: value for key, value in values.items() if key not in bad} | mended
    return {**entry, "values": kept}, list(bad.values())


def _metrics(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Metrics) -> None:
    t = round(real(entry.get("t")), 6)  # as metrics_cold has it
    kept = {
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
    run.kept_step = None


# Columns of a run that a plan says, under the names that it has for them.
OF_PLAN = (
    *("total_steps", "parameters", "trainable", "precision", "tokens_per_step", "max_length"),
    *("train_examples", "heldout_examples", "heldout_tokens", "train_set", "heldout_set"),
)


def _plan(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Plan) -> None:
    parts = [
        f"{line.total_steps} steps" if line.total_steps is not None else "",
        f"{line.trainable:,} of {line.parameters:,} parameters" if line.trainable and line.parameters else "",
    ]
    held_out = f"{line.heldout_examples} held-out examples" if line.heldout_examples else ""
    batch.event(run.run, attempt, entry, ", ".join(filter(None, parts)) or held_out or "plan")
    for name in OF_PLAN:
        setattr(run, name, getattr(line, name))
    batch.attempt(run.run, attempt, device=line.device, gpus=line.gpus)


def _phase(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Phase) -> None:
    batch.event(run.run, attempt, entry, f"{line.phase}: {line.detail}" if line.detail else str(line.phase))
    run.phase = line.phase


def _checkpoint(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: lines.Checkpoint) -> None:
    batch.event(run.run, attempt, entry, f"checkpoint at step {line.step}")
    batch.add(
        "checkpoints",
        run=run.run,
        attempt=attempt,
        t=real(entry.get("t")),
        present=bool(line.path and line.path.startswith("/")),  # of another trainer: nobody looks there again
        **body(line),
    )


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
    run.kept_step = line.kept_step
    timing = line.timing or lines.Timing()
    batch.attempt(
        run.run,
        attempt,
        train_s=timing.train_s,
        eval_s=timing.eval_s,
        save_s=timing.save_s,
        train_tokens=timing.train_tokens,
    )


_WORKER: dict[str, Callable[[Batch, RunRow, int, Entry, Any], list[str] | None]] = {
    "resume": _resume,
    "plan": _plan,
    "phase": _phase,
    "metrics": _metrics,
    "eval": eval_rows.eval_line,
    "examples": eval_rows.examples_line,
    "sample": eval_rows.sample_line,
    "drift": eval_rows.drift_line,
    "choices": eval_rows.choices_line,
    "flag": eval_rows.flag_line,
    "checkpoint": _checkpoint,
    "memory": _memory,
    "log": _log,
    "end": _end,
}


# ---- hardware.jsonl ----------------------------------------------------------------------------------------


def hardware_line(batch: Batch, entry: Entry) -> list[str]:
    """The sampler's word: samples, and a device's label. Raises BadLine. Returns the values that cannot be used."""
    if entry["kind"] not in lines.HARDWARE:
        return []
    bad: list[str] = []
    if entry["kind"] == lines.HardwareSample.kind:
        entry, bad = _usable(entry, real)
    line = read(lines.HARDWARE[entry["kind"]], entry)
    match line:
        case lines.HardwareSample():
            t = real(entry.get("t"))
            kept = {key: real(value) for key, value in line.values.items() if value is not None}
            batch.extend("system_metrics", len(kept), t=t, key=list(kept), value=list(kept.values()))
        case lines.Device():
            batch.meta[f"device/{line.name}"] = str(line.label)
    return bad
