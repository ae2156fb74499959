"""What each kind of log line becomes in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from store import eval_rows
from store.batch import Batch, RunState
from store.logs import BadLine, maybe_real, maybe_small, maybe_text, maybe_whole, real, whole

FINAL = frozenset({"finished", "failed", "cancelled"})
# States in which a worker lives or is about to.
ALIVE = frozenset({"starting", "running"})


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
    for key, value in _leaves(recipe, ""):
        batch.add("params", run=run, key=key, value=value)
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


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif value is not None:
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ---- journal.jsonl ---------------------------------------------------------------------------------------


def journal_line(batch: Batch, run: RunState, entry: dict[str, Any], directory: Path) -> None:
    """The daemon's word: states, attempts, priority."""
    t = real(entry.get("t"))
    state = entry.get("state")
    attempt, priority = maybe_small(entry.get("attempt")), maybe_small(entry.get("priority"))
    level = "error" if state == "failed" else "warn" if state == "interrupted" else "info"
    if state == "paused" and entry["kind"] == "ended" and entry.get("reason"):  # not because somebody asked
        level = "warn"
    batch.event(run.run, attempt, entry, _journal_message(entry), level)
    if priority is not None:
        run.priority = priority
    if entry["kind"] in ("starting", "started", "running") and attempt is not None:
        run.attempt, run.pid = attempt, maybe_whole(entry.get("pid")) or run.pid
        run.started = t if run.started is None else run.started
        device = maybe_text(entry.get("device"))
        batch.attempt(run.run, attempt, started=t, pid=maybe_whole(entry.get("pid")), device=device)
    if isinstance(state, str):
        run.state, run.reason = state, maybe_text(entry.get("reason"))
        run.ended = t if state in FINAL else None
        if state not in ALIVE and run.attempt:
            _attempt_over(batch, run, attempt or run.attempt, entry, directory)
    batch.runs[run.run] = run


def _attempt_over(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any], directory: Path) -> None:
    """The shim's word on how the attempt ended, else the daemon's."""
    run.pid = None
    said = _exit_json(directory / "attempts" / str(attempt) / "exit.json")
    if not said and entry["kind"] not in ("ended", "interrupted"):
        return
    batch.attempt(
        run.run,
        attempt,
        ended=maybe_real(said.get("ended")) or real(entry.get("t")),
        exit_code=maybe_whole(said.get("exit_code", entry.get("exit_code"))),
        signal=maybe_whole(said.get("signal", entry.get("signal"))),
        peak_rss_mb=maybe_real(said.get("peak_rss_mb")),
    )


def _exit_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _journal_message(entry: dict[str, Any]) -> str:
    kind = entry["kind"]
    text = str(entry.get("message") or entry.get("text") or entry.get("reason") or "")
    if kind in ("starting", "started", "running") and entry.get("attempt") is not None:
        device = f" on {entry['device']}" if entry.get("device") else ""
        process = f" (process {entry['pid']})" if entry.get("pid") else ""
        return f"{kind}: attempt {entry['attempt']}{device}{process}"
    if kind == "ended":
        how = f"signal {entry['signal']}" if entry.get("signal") else f"exit code {entry.get('exit_code')}"
        return f"{entry.get('state') or 'ended'}: {text or how}"
    if kind == "priority":
        return f"priority is now {entry.get('priority')}"
    return f"{kind}: {text}" if text else kind


# ---- attempts/N/events.jsonl -------------------------------------------------------------------------------


def worker_line(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    """The worker's word. Raises BadLine, having added nothing, for a line that lacks what its kind needs."""
    kind = entry["kind"]
    if kind == "metrics":
        _metrics(batch, run, attempt, entry)
    elif handler := _WORKER.get(kind):
        handler(batch, run, attempt, entry)
    else:
        level = str(entry.get("level") or "info")
        batch.event(run.run, attempt, entry, str(entry.get("message") or kind), level)
    if kind in ("resume", "plan", "phase", "metrics"):
        batch.runs[run.run] = run


def _metrics(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    step, t, values = whole(entry.get("step")), real(entry.get("t")), entry.get("values")
    if not isinstance(values, dict):
        raise BadLine("values is not an object")
    kept = {key: real(value) for key, value in values.items() if value is not None}
    batch.points(run, attempt, step, t, kept)
    run.step = step
    batch.attempt(run.run, attempt, first_step=step, first_t=t, last_step=step, last_t=t)


def _resume(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    from_step = whole(entry.get("from_step"))
    batch.event(run.run, attempt, entry, f"resumed from step {from_step}")
    batch.resumes.append((run.run, attempt, from_step))
    batch.attempt(run.run, attempt, resumed_from=from_step)
    run.step = from_step


def _plan(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    total, parameters = maybe_whole(entry.get("total_steps")), maybe_whole(entry.get("parameters"))
    trainable, device = maybe_whole(entry.get("trainable")), maybe_text(entry.get("device"))
    message = f"{total} steps" + (
        f", {trainable:,} of {parameters:,} parameters" if trainable and parameters else ""
    )
    batch.event(run.run, attempt, entry, message)
    run.total_steps, run.parameters, run.trainable = total, parameters, trainable
    batch.attempt(run.run, attempt, device=device)


def _phase(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    phase, detail = maybe_text(entry.get("phase")), entry.get("detail")
    batch.event(run.run, attempt, entry, f"{phase}: {detail}" if detail else str(phase))
    run.phase = phase


def _checkpoint(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    step = whole(entry.get("step"))
    batch.add(
        "checkpoints",
        run=run.run,
        attempt=attempt,
        step=step,
        path=maybe_text(entry.get("path")),
        bytes=maybe_whole(entry.get("bytes")),
        t=real(entry.get("t")),
    )
    batch.event(run.run, attempt, entry, f"checkpoint at step {step}")


def _memory(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    step, cause = whole(entry.get("step")), str(entry.get("cause"))
    measured, micro_tokens = real(entry.get("measured_mb")), maybe_small(entry.get("micro_tokens"))
    batch.add(
        "memory",
        run=run.run,
        attempt=attempt,
        step=step,
        cause=cause,
        predicted_mb=maybe_real(entry.get("predicted_mb")),
        measured_mb=measured,
        limit_mb=maybe_real(entry.get("limit_mb")),
        micro_tokens=micro_tokens,
        device=maybe_text(entry.get("device")),
        t=real(entry.get("t")),
    )
    level = "warn" if cause == "out_of_memory" else "info"
    message = f"{cause} at step {step}: {measured:.0f} MiB, {micro_tokens} tokens in a forward pass"
    batch.event(run.run, attempt, entry, message, level)


def _end(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    status, error = str(entry.get("status")), entry.get("error") or entry.get("reason")
    level = {"failed": "error", "paused": "warn"}.get(status, "info")
    batch.event(run.run, attempt, entry, f"{status}: {error}" if error else status, level)


_WORKER = {
    "resume": _resume,
    "plan": _plan,
    "phase": _phase,
    "eval": eval_rows.eval_line,
    "examples": eval_rows.examples_line,
    "sample": eval_rows.sample_line,
    "flag": eval_rows.flag_line,
    "checkpoint": _checkpoint,
    "memory": _memory,
    "end": _end,
}


# ---- hardware.jsonl ----------------------------------------------------------------------------------------


def hardware_line(batch: Batch, entry: dict[str, Any]) -> None:
    """The sampler's word: samples, and a device's label."""
    if entry["kind"] == "sample":
        t, values = real(entry.get("t")), entry.get("values")
        if not isinstance(values, dict):
            raise BadLine("values is not an object")
        kept = {key: real(value) for key, value in values.items() if value is not None}
        batch.extend("system_metrics", len(kept), t=t, key=list(kept), value=list(kept.values()))
    elif entry["kind"] == "device":
        batch.meta[f"device/{entry.get('name')}"] = str(entry.get("label"))
