"""What evaluations, samples and flags become in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from store.batch import Batch, RunRow
from store.line_fields import BadLine, as_json, body, maybe_real, maybe_reals, maybe_smalls, maybe_text, real
from store.lines import Choices, Drift, Eval, Examples, Flag, Forecast, Result, Sample, Scored

Entry = dict[str, Any]  # a line as it was parsed


def eval_line(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: Eval) -> list[str]:
    """Returns why the examples are left out, if they cannot be used."""
    t, suite = real(entry.get("t")), str(line.suite)
    bad: list[str] = []
    try:
        columns = _columns_of(line.examples, bad)
    except (BadLine, TypeError) as error:
        columns, bad = _columns_of(Scored(), []), [f"examples: {error}"]
    common = {"run": run.run, "attempt": attempt, "step": line.step}
    shown = _add_results(batch, run, attempt, t, line.step, suite, line.values, line.seconds)
    batch.extend("eval_examples", len(columns["example"]), **common, suite=suite, **columns)
    run.step = max(run.step or 0, line.step)  # a program may log nothing but examples
    seen = {"kind": "eval", "t": t, "step": line.step, "suite": suite, "seconds": line.seconds}
    if line.confusion:
        seen["confusion"] = line.confusion
    batch.event(run.run, attempt, seen, f"step {line.step} {suite}: {shown}")
    return bad


def _add_results(
    batch: Batch,
    run: RunRow,
    attempt: int,
    t: float,
    step: int,
    suite: str,
    values: dict[str, Result],
    seconds: float | None,
) -> str:
    """Add the results of a suite, each as a metric, too. Returns them in words."""
    # An older finetui wrote NaN and infinities as null.
    results = {name: one for name, one in values.items() if one.value is not None}
    common = {"run": run.run, "attempt": attempt, "step": step, "suite": suite, "t": t, "seconds": seconds}
    for name, one in results.items():
        batch.add("evals", **common, key=name, **body(one))
    points = {f"{suite}/{name}": one.value for name, one in results.items() if one.value is not None}
    directions = {
        f"{suite}/{name}": one.higher_is_better
        for name, one in results.items()
        if one.higher_is_better is not None
    }
    batch.points(run, attempt, step, t, points, directions)
    return ", ".join(f"{name} {one.value:.4g}" for name, one in results.items())


def _columns_of(scored: Scored, bad: list[str]) -> dict[str, list[Any]]:
    """The columns of `eval_examples` from the lists of an evaluation. A value that cannot be used costs itself, and is
    named in `bad`. Raises BadLine.
    """
    none = [None] * len(scored.id)
    columns: dict[str, list[Any]] = {
        "example": [str(item) for item in scored.id],
        "slice": [maybe_text(item) for item in scored.slice or none],
        "document": [maybe_text(item) for item in scored.document or none],
        "nll": _usable(maybe_reals, scored.nll, "nll", bad),
        "tokens": _usable(maybe_smalls, scored.tokens, "tokens", bad),
        "tokens_right": _usable(maybe_smalls, scored.right or none, "right", bad),
        "lost": _usable(maybe_smalls, scored.lost or none, "lost", bad),
        "gained": _usable(maybe_smalls, scored.gained or none, "gained", bad),
        "kl": _usable(maybe_reals, scored.kl or none, "kl", bad),
        "margin": _usable(maybe_reals, scored.margin or none, "margin", bad),
        "tempered": _by_temperature(scored.tempered or {}, len(scored.id)),
    }
    if {len(column) for column in columns.values()} != {len(scored.id)}:
        raise BadLine("the lists in examples differ in length")
    return columns


def _usable(
    of_list: Callable[[list[Any]], list[Any]], values: list[Any], name: str, bad: list[str]
) -> list[Any]:
    """The values of a list, None in place of those that cannot be used."""
    try:
        return of_list(values)
    except BadLine:
        kept: list[Any] = []
        for value in values:
            try:
                kept += of_list([value])
            except BadLine as error:
                kept.append(None)
                bad.append(f"examples.{name}: {error}")
        return kept


def _by_temperature(tempered: dict[str, Any], count: int) -> list[str | None]:
    """From a list per temperature to an object per example."""
    if any(len(values) != count for values in tempered.values()):
        raise BadLine("tempered is not an object of lists as long as the others")
    rows = zip(*([maybe_real(value) for value in values] for values in tempered.values()), strict=True)
    return [json.dumps(dict(zip(tempered, row, strict=True))) for row in rows] or [None] * count


def examples_line(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: Examples) -> None:
    batch.extend(
        "examples",
        len(line.rows),
        example=[row.id for row in line.rows],
        suite=line.suite,
        prompt=[row.prompt for row in line.rows],
        target=[row.target for row in line.rows],
    )


def sample_line(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: Sample) -> None:
    batch.add(
        "samples",
        run=run.run,
        attempt=attempt,
        step=line.step,
        idx=line.index,
        prompt=line.prompt,
        text=line.text,
        t=real(entry.get("t")),
    )


def drift_line(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: Drift) -> None:
    values = body(line)
    values["idx"] = values.pop("index")
    batch.add("drift_answers", run=run.run, attempt=attempt, t=real(entry.get("t")), **values)


def choices_line(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: Choices) -> list[str]:
    """Returns why the questions are left out, if they cannot be used."""
    t, suite, one = real(entry.get("t")), f"choices.{line.slice}", line.questions
    bad: list[str] = []
    names = ("answer", "chosen", "chosen_norm")
    lists = [_usable(maybe_smalls, getattr(one, name), name, bad) for name in names]
    shown = _add_results(batch, run, attempt, t, line.step, suite, line.values, line.seconds)
    if {len(values) for values in lists} == {len(one.id)}:
        batch.extend(
            "choice_answers",
            len(one.id),
            run=run.run,
            attempt=attempt,
            step=line.step,
            slice=str(line.slice),
            example=[str(id) for id in one.id],
            **dict(zip(names, lists, strict=True)),
        )
    else:
        bad.append("questions: their lists differ in length")
    seen = {"kind": "choices", "t": t, "step": line.step, "slice": line.slice, "seconds": line.seconds}
    batch.event(run.run, attempt, seen, f"step {line.step} {suite}: {shown}")
    return bad


def flag_line(batch: Batch, run: RunRow, attempt: int, entry: Entry, line: Flag) -> None:
    t, level, forecast = real(entry.get("t")), line.level or "warn", line.forecast or Forecast()
    batch.add(
        "flags",
        run=run.run,
        attempt=attempt,
        step=line.step,
        flag=line.flag,
        level=level,
        since_step=line.since_step,
        suite=line.suite,
        slice=line.slice or None,
        effect=line.effect,
        lo=line.lo,
        hi=line.hi,
        n=line.n,
        looks=line.looks,
        lost=line.lost,
        gained=line.gained,
        forecast_step=forecast.step,
        forecast=forecast.value,
        forecast_lo=forecast.lo,
        forecast_hi=forecast.hi,
        message=line.message,
        advice=as_json(line.advice or []),
        actions=as_json(line.actions or []),
        worst=as_json(line.worst or []),
        state=line.state or "raised",
        per=line.per or "token",
        t=t,
    )
    if line.state == "confirmed":
        return
    seen = {"kind": "flag", "t": t, "step": line.step, "flag": line.flag}
    said = "" if line.state in (None, "raised") else f"{line.state}: "
    batch.event(
        run.run,
        attempt,
        seen,
        f"{line.flag}: {said}{line.message}",
        "error" if level == "critical" else level,
    )
