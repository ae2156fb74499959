"""What evaluations, samples and flags become in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

import json
from typing import Any

from store.batch import Batch, RunState
from store.logs import BadLine, maybe_real, maybe_small, maybe_text, maybe_whole, real, small, whole


def eval_line(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    step, t, suite = whole(entry.get("step")), real(entry.get("t")), str(entry.get("suite"))
    values, examples = entry.get("values") or {}, entry.get("examples") or {}
    if not isinstance(values, dict) or not isinstance(examples, dict):
        raise BadLine("values or examples is not an object")
    results = {}
    for name, result in values.items():
        result = result if isinstance(result, dict) else {"value": result}
        results[name] = (
            real(result.get("value")),
            maybe_real(result.get("lo")),
            maybe_real(result.get("hi")),
            maybe_whole(result.get("n")),
        )
    ids = [str(item) for item in examples.get("id") or []]
    nll = [real(item) for item in examples.get("nll") or []]
    tokens = [whole(item) for item in examples.get("tokens") or []]
    right = [maybe_whole(item) for item in examples.get("right") or [None] * len(ids)]
    if not len(ids) == len(nll) == len(tokens) == len(right):
        raise BadLine("the lists in examples differ in length")
    if any(item is not None and abs(item) >= 2**31 for item in (*tokens, *right)):
        raise BadLine("a token count in examples is too large")
    common = {"run": run.run, "attempt": attempt, "step": step}
    for name, (value, lo, hi, n) in results.items():
        batch.add("evals", **common, suite=suite, key=name, value=value, lo=lo, hi=hi, n=n, t=t)
    batch.points(run, attempt, step, t, {f"{suite}/{name}": value for name, (value, *_) in results.items()})
    batch.extend(
        "eval_examples",
        len(ids),
        **common,
        suite=suite,
        example=ids,
        nll=nll,
        tokens=tokens,
        tokens_right=right,
    )
    shown = ", ".join(f"{name} {value:.4g}" for name, (value, *_) in results.items())
    seen = {"kind": "eval", "t": t, "step": step, "suite": suite, "seconds": entry.get("seconds")}
    if entry.get("confusion"):
        seen["confusion"] = entry["confusion"]
    batch.event(run.run, attempt, seen, f"step {step} {suite}: {shown}")


def examples_line(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    rows = entry.get("rows") or []
    if not all(isinstance(row, dict) and row.get("id") is not None for row in rows):
        raise BadLine("a row in rows has no id")
    batch.extend(
        "examples",
        len(rows),
        example=[str(row["id"]) for row in rows],
        suite=maybe_text(entry.get("suite")),
        prompt=[maybe_text(row.get("prompt")) for row in rows],
        target=[maybe_text(row.get("target")) for row in rows],
    )


def sample_line(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    batch.add(
        "samples",
        run=run.run,
        attempt=attempt,
        step=whole(entry.get("step")),
        idx=small(entry.get("index", 0)),
        prompt=maybe_text(entry.get("prompt")),
        text=maybe_text(entry.get("text")),
        t=real(entry.get("t")),
    )


def flag_line(batch: Batch, run: RunState, attempt: int, entry: dict[str, Any]) -> None:
    level, message = str(entry.get("level") or "warn"), maybe_text(entry.get("message"))
    forecast = entry.get("forecast") or {}
    if not isinstance(forecast, dict):
        raise BadLine("forecast is not an object")
    batch.add(
        "flags",
        run=run.run,
        attempt=attempt,
        step=whole(entry.get("step")),
        flag=maybe_text(entry.get("flag")),
        level=level,
        since_step=maybe_whole(entry.get("since_step")),
        suite=maybe_text(entry.get("suite")),
        slice=maybe_text(entry.get("slice")) or None,
        effect=maybe_real(entry.get("effect")),
        lo=maybe_real(entry.get("lo")),
        hi=maybe_real(entry.get("hi")),
        n=maybe_whole(entry.get("n")),
        looks=maybe_small(entry.get("looks")),
        lost=maybe_whole(entry.get("lost")),
        gained=maybe_whole(entry.get("gained")),
        forecast_step=maybe_whole(forecast.get("step")),
        forecast=maybe_real(forecast.get("value")),
        forecast_lo=maybe_real(forecast.get("lo")),
        forecast_hi=maybe_real(forecast.get("hi")),
        message=message,
        advice=json.dumps(entry.get("advice") or [], ensure_ascii=False),
        actions=json.dumps(entry.get("actions") or [], ensure_ascii=False),
        worst=json.dumps(entry.get("worst") or [], ensure_ascii=False),
        t=real(entry.get("t")),
    )
    seen = {key: entry.get(key) for key in ("kind", "t", "step", "flag")}
    batch.event(
        run.run,
        attempt,
        seen,
        f"{entry.get('flag')}: {message}",
        "error" if level == "critical" else level,
    )
