"""Runs side by side, as lines: metrics with differences and intervals, and what the recipes differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.basics.safe_text import one_line
from store.best import HIGHER_IS_BETTER, judged_by
from tui.lines import format, theme
from tui.lines.text import Line, left, line_width, right, width_of
from tui.rows import Row, Run
from tui.widgets.plot import MARKERS

# Shown first and by these names; every other metric follows under its own key.
_FIRST = {
    "heldout/preference_loss": "preference loss",
    "heldout/loss": "held-out loss",
    "heldout/token_accuracy": "held-out accuracy",
    "general/loss": "general loss",
    "general/token_accuracy": "general accuracy",
    "train/loss": "training loss",
    "train/tokens_per_s": "tokens/s",
    "memory/peak_mb": "peak memory MiB",
}
_LOWER_IS_BETTER = ("loss", "peak_mb")
_HIGHER_IS_BETTER = (*HIGHER_IS_BETTER, "tokens_per_s")
_NAME = 18
# Differences whose interval excludes 0 are beyond noise; the suites that are measured example by example.
PAIRED_SUITES = ("heldout", "general")

Paired = Mapping[tuple[int, str], Row]  # (run, suite) → difference from the first run with its interval


def metrics(rows: Sequence[Row], runs: Sequence[Run], paired: Paired, width: int) -> list[Line]:
    """One row a metric, one column a run; later runs show their difference from the first."""
    if not rows:
        return [[("no metrics yet", "dim")]]
    by_cell = {(row["key"], row["run"]): row for row in rows}
    known = {row["key"] for row in rows}
    keys = [key for key in _FIRST if key in known] + sorted(known - set(_FIRST))
    of_pairs = judged_by("dpo").metric
    judged = of_pairs if of_pairs in known else "heldout/loss"
    columns = _columns(len(runs), width - _NAME)
    lines: list[Line] = [_run_names(runs, columns)]
    for key in keys:
        cells = [by_cell.get((key, run.number)) for run in runs]
        lines.append(_metric(key, cells, runs, "last", paired, columns))
        if key == judged:
            lines.append(_metric(key, cells, runs, "best", {}, columns))
    return lines


def _columns(runs: int, width: int) -> list[int]:
    """Widths of the runs' columns: the first holds no difference, so it may be narrower."""
    first = max(16, min(30, width // max(1, runs)))
    if runs > 1:
        first = max(16, min(first, width - 36 * (runs - 1)))
    return [first, *[min(44, max(12, (width - first) // max(1, runs - 1)))] * (runs - 1)]


def _run_names(runs: Sequence[Run], columns: Sequence[int]) -> Line:
    line: Line = [(" " * _NAME, "")]
    for slot, (run, column) in enumerate(zip(runs, columns, strict=True)):
        text = left(f"#{run.number} {one_line(run.name)}", column - 4)
        line += [(f"  {MARKERS[slot % len(MARKERS)]} ", theme.slot_style(slot)), (text, "title")]
    return line


def _metric(
    key: str,
    cells: Sequence[Row | None],
    runs: Sequence[Run],
    which: str,
    paired: Paired,
    columns: Sequence[int],
) -> Line:
    name = _FIRST.get(key, key) if which == "last" else "  best (step)"
    line: Line = [(left(name, _NAME), "dim")]
    values = [cell[which] if cell else None for cell in cells]
    best = _best(key, values)
    for at, (run, cell, value) in enumerate(zip(runs, cells, values, strict=True)):
        text = _number(key, value)
        if which == "best" and cell and value is not None:
            text += f" ({cell['best_step']})"
        shown: Line = [
            ("  ", ""),
            (right(text, 9 if which == "last" else 14), "good" if value == best else "text"),
        ]
        if at and which == "last":
            shown += _difference(key, value, values[0], paired.get((run.number, key.split("/")[0])))
        while (room := columns[at] - line_width(shown)) < 0 and len(shown) > 2:
            shown.pop()  # first the interval goes, then the difference
        line += [*shown, (" " * max(0, room), "")]
    return line


def _best(key: str, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and value == value]
    if len(set(known)) < 2:
        return None
    if key.endswith(_LOWER_IS_BETTER) and key != "train/loss":
        return min(known)
    return max(known) if key.endswith(_HIGHER_IS_BETTER) else None


def _number(key: str, value: float | None) -> str:
    if value is None:
        return format.NONE
    if key.endswith("loss") or key.endswith("accuracy"):
        return format.loss(value)
    return f"{value:.4g}" if abs(value) < 10_000 else format.count(value)


def _difference(key: str, value: float | None, first: float | None, paired: Row | None) -> Line:
    if value is None or first is None:
        return []
    # Then it is the preference loss that was paired.
    of_pairs = paired is not None and paired.get("per") == "pair"
    if (
        key.endswith("/preference_loss" if of_pairs else "/loss")
        and paired
        and paired["difference"] is not None
    ):
        text = f" {format.delta(paired['difference'])}"
        if paired["lo"] is None:
            return [(text, "dim")]
        sure = paired["lo"] > 0 or paired["hi"] < 0
        style = "dim" if not sure else "bad" if paired["difference"] > 0 else "good"
        return [(text, style), (f" [{format.delta(paired['lo'])}, {format.delta(paired['hi'])}]", "dim")]
    if key.endswith(("loss", "accuracy")):
        return [(f" {format.delta(value - first)}", "dim")]
    return [(f" {100 * (value / first - 1):+.0f}%".replace("-", "−"), "dim")] if first else []


def explanation(runs: Sequence[Run], paired: Paired) -> str:
    """What the intervals mean, with how many examples they rest on."""
    counts = {row["n"] for row in paired.values() if row.get("n")}
    if not counts:
        return f"differences from #{runs[0].number}" if runs else ""
    n = "/".join(str(count) for count in sorted(counts))
    per = " or ".join(sorted({row.get("per") or "token" for row in paired.values()}, reverse=True))
    return f"differences from #{runs[0].number}; [95% interval] paired over the same {n} examples, nats per {per}"


def recipes(rows: Sequence[Row], runs: Sequence[Run], width: int) -> list[Line]:
    """Only the keys in which the recipes differ."""
    if not rows:
        return [[("the recipes are the same", "dim")]]
    keys = list(dict.fromkeys(row["key"] for row in rows))
    values = {(row["key"], row["run"]): row["value"] for row in rows}
    name = min(max(map(width_of, keys)) + 2, 28)
    column = max(10, (width - name) // max(1, len(runs)))
    head: Line = [(" " * name, "")]
    for slot, run in enumerate(runs):
        head += [
            (f"{MARKERS[slot % len(MARKERS)]} ", theme.slot_style(slot)),
            (left(f"#{run.number}", column - 2), "title"),
        ]
    lines = [head]
    for key in keys:
        line: Line = [(left(key, name), "dim")]
        for run in runs:
            value = values.get((key, run.number))
            text = format.NONE if value is None else one_line(value)
            line.append((left(text, column - 1) + " ", "faint" if value is None else "text"))
        lines.append(line)
    return lines
