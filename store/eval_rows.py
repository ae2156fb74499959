"""What evaluations, samples and flags become in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

import json
from collections.abc import Callable
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
        if result.get("value") is None:  # NaN and infinities are written as null
            continue
        results[name] = (
            real(result.get("value")),
            maybe_real(result.get("lo")),
            maybe_real(result.get("hi")),
            maybe_whole(result.get("n")),
        )
    columns = _columns_of(examples)
    common = {"run": run.run, "attempt": attempt, "step": step}
    for name, (value, lo, hi, n) in results.items():
        batch.add("evals", **common, suite=suite, key=name, value=value, lo=lo, hi=hi, n=n, t=t)
    batch.points(run, attempt, step, t, {f"{suite}/{name}": value for name, (value, *_) in results.items()})
    batch.extend("eval_examples", len(columns["example"]), **common, suite=suite, **columns)
    shown = ", ".join(f"{name} {value:.4g}" for name, (value, *_) in results.items())
    seen = {"kind": "eval", "t": t, "step": step, "suite": suite, "seconds": entry.get("seconds")}
    if entry.get("confusion"):
        seen["confusion"] = entry["confusion"]
    batch.event(run.run, attempt, seen, f"step {step} {suite}: {shown}")


def _columns_of(examples: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of `eval_examples` from the lists of an evaluation. Raises BadLine."""
    ids = [str(item) for item in examples.get("id") or []]
    none = [None] * len(ids)

    def column(key: str, as_kind: Callable[[Any], Any]) -> list[Any]:
        return [as_kind(item) for item in examples.get(key) or none]

    columns = {
        "example": ids,
        "slice": column("slice", maybe_text),
        "nll": [maybe_real(item) for item in examples.get("nll") or []],
        "tokens": [small(item) for item in examples.get("tokens") or []],
        "tokens_right": column("right", maybe_small),
        "lost": column("lost", maybe_small),
        "gained": column("gained", maybe_small),
        "kl": column("kl", maybe_real),
        "tempered": _by_temperature(examples.get("tempered") or {}, len(ids)),
    }
    if {len(column) for column in columns.values()} != {len(ids)}:
        raise BadLine("the lists in examples differ in length")
    return columns


def _by_temperature(tempered: Any, count: int) -> list[str | None]:
    """From a list per temperature to an object per example."""
    if not isinstance(tempered, dict) or any(len(values) != count for values in tempered.values()):
        raise BadLine("tempered is not an object of lists as long as the others")
    rows = zip(*([maybe_real(value) for value in values] for values in tempered.values()), strict=True)
    return [json.dumps(dict(zip(tempered, row, strict=True))) for row in rows] or [None] * count


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
