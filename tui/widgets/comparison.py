"""Runs side by side, as lines: metrics with differences and intervals, and what the recipes differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from engine.basics.safe_text import one_line
from store.best import HIGHER_IS_BETTER, judged_by
from tui.lines import format
from tui.lines.text import Line, distinct, fit, left, right, width_of
from tui.rows import Row, Run
from tui.widgets.sides import InView, Sides

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
_NAME = 18  # columns of the names, at the least
_WITH_INTERVAL, _WITHOUT = 36, 20  # columns of a difference with its interval beside it, or in the row below
# Differences whose interval excludes 0 are beyond noise; the suites that are measured example by example.
PAIRED_SUITES = ("heldout", "general")

Paired = Mapping[tuple[int, str], Row]  # (run, suite) → difference from the reference with its interval


def metrics(rows: Sequence[Row], runs: Sequence[Run], sides: Sides, paired: Paired, width: int) -> list[Line]:
    """One row a metric, one column a run; the others show their difference from the reference. `rows`: what is to be
    shown, see `differing`.
    """
    if not rows:
        return [[("no metrics yet", "dim")]]
    called = metric_names(rows)
    room = max(_NAME, min(max(map(width_of, called.values())) + 1, width // 6))  # for the names
    view = _in_view(sides, runs, width - room)
    by_cell = {(row["key"], row["run"]): row for row in rows}
    known = {row["key"] for row in rows}
    of_pairs = judged_by("dpo").metric
    judged = of_pairs if of_pairs in known else "heldout/loss"
    lines: list[Line] = [view.head(room)]
    names = distinct(called.values(), room - 1)
    for key, name in called.items():
        cells = [by_cell.get((key, column.run.number)) for column in view.columns]
        everywhere = [cell for run in runs if (cell := by_cell.get((key, run.number)))]
        lines.append(
            _metric(key, left(names[name], room), cells, view, paired, _best(key, everywhere, "last"))
        )
        if view.columns[-1].width < _WITH_INTERVAL and (intervals := _intervals(key, room, view, paired)):
            lines.append(intervals)
        if key == judged:
            lines.append(_best_row(key, room, cells, view, by_cell, runs))
    return lines


def metric_names(rows: Sequence[Row]) -> dict[str, str]:
    """Keys of the metrics in the order in which they are shown, and how they are called."""
    known = {row["key"] for row in rows}
    keys = [key for key in _FIRST if key in known] + sorted(known - set(_FIRST))
    return {key: str(_FIRST.get(key, key)) for key in keys}


def differing(rows: Sequence[Row], runs: Sequence[Run], paired: Paired) -> list[Row]:
    """The rows of metrics in which the runs differ: by what is shown of them, and where the difference has an interval,
    by more than noise.
    """
    shown: dict[str, set[str]] = {}
    for row in rows:
        shown.setdefault(row["key"], set()).add(_number(row["key"], row["last"]))
    counts = Counter(row["key"] for row in rows)
    noise = {key for key in shown if _is_noise(key, runs, paired)}
    return [
        row
        for row in rows
        if row["key"] not in noise and (len(shown[row["key"]]) > 1 or counts[row["key"]] < len(runs))
    ]


def _is_noise(key: str, runs: Sequence[Run], paired: Paired) -> bool:
    found = [row for run in runs if (row := pair_of(key, paired.get((run.number, key.split("/")[0]))))]
    return len(found) == len(runs) - 1 > 0 and all(
        row["lo"] is not None and row["lo"] <= 0 <= row["hi"] for row in found
    )


def _in_view(sides: Sides, runs: Sequence[Run], room: int) -> InView:
    """With intervals beside the differences where all runs fit so, else with intervals below them."""
    others = len(runs) - 1
    first = max(16, min(30, room - _WITH_INTERVAL * others))
    fits = room - first >= _WITH_INTERVAL * others
    return sides.in_view(runs, room, first, _WITH_INTERVAL if fits else _WITHOUT, 44)


def _metric(
    key: str, name: str, cells: Sequence[Row | None], view: InView, paired: Paired, best: float | None
) -> Line:
    line: Line = [(name, "dim")]
    first = cells[0]["last"] if cells[0] else None
    for at, (column, cell) in enumerate(zip(view.columns, cells, strict=True)):
        value = cell["last"] if cell else None
        good = best is not None and value == best
        shown: Line = [("  ", ""), (right(_number(key, value), 9), "good" if good else "text")]
        if at:
            shown += _difference(key, value, first, paired.get((column.run.number, key.split("/")[0])))
            if column.width < _WITH_INTERVAL:
                shown = shown[:3]
        line += fit(shown, column.width)
    return line


def _intervals(key: str, room: int, view: InView, paired: Paired) -> Line:
    """The intervals of the differences in the row above."""
    line: Line = [(left("  95% interval", room), "faint")]
    for at, column in enumerate(view.columns):
        row = pair_of(key, paired.get((column.run.number, key.split("/")[0]))) if at else None
        known = row is not None and row["lo"] is not None
        text = f"[{format.delta(row['lo'])}, {format.delta(row['hi'])}]" if row and known else ""
        line.append((right(text, column.width - 1) + " ", "dim"))
    return line if any(text.strip() for text, _ in line[1:]) else []


def _best_row(
    key: str,
    room: int,
    cells: Sequence[Row | None],
    view: InView,
    by_cell: Mapping[tuple[str, int], Row],
    runs: Sequence[Run],
) -> Line:
    line: Line = [(left("  best (step)", room), "dim")]
    best = _best(key, [cell for run in runs if (cell := by_cell.get((key, run.number)))], "best")
    for column, cell in zip(view.columns, cells, strict=True):
        value = cell["best"] if cell else None
        text = _number(key, value) + (f" ({cell['best_step']})" if cell and value is not None else "")
        good = best is not None and value == best
        line += fit([("  ", ""), (right(text, 14), "good" if good else "text")], column.width)
    return line


def _best(key: str, cells: Sequence[Row], column: str) -> float | None:
    known = [value for cell in cells if (value := cell[column]) is not None and value == value]
    if len(set(known)) < 2:
        return None
    if any(cell["higher_is_better"] for cell in cells) or key.endswith("tokens_per_s"):
        return max(known)
    is_lower = key.endswith(_LOWER_IS_BETTER) and key != "train/loss"
    return (
        min(known) if is_lower or key.endswith(HIGHER_IS_BETTER) else None
    )  # of a score that says so itself


def _number(key: str, value: float | None) -> str:
    if value is None:
        return format.NONE
    if key.endswith("loss") or key.endswith("accuracy"):
        return format.loss(value)
    return f"{value:.4g}" if abs(value) < 10_000 else format.count(value)


def _difference(key: str, value: float | None, first: float | None, paired: Row | None) -> Line:
    if value is None or first is None:
        return []
    if paired := pair_of(key, paired):
        text = f" {format.delta(paired['difference'])}"
        if paired["lo"] is None:
            return [(text, "dim")]
        sure = paired["lo"] > 0 or paired["hi"] < 0
        style = "dim" if not sure else "bad" if paired["difference"] > 0 else "good"
        return [(text, style), (f" [{format.delta(paired['lo'])}, {format.delta(paired['hi'])}]", "dim")]
    if key.endswith(("loss", "accuracy")):
        return [(f" {format.delta(value - first)}", "dim")]
    return [(f" {100 * (value / first - 1):+.0f}%".replace("-", "−"), "dim")] if first else []


def pair_of(key: str, paired: Row | None) -> Row | None:
    """The paired difference, if it is one of this metric: of preferences, it is the preference loss that was paired."""
    if paired is None or paired["difference"] is None:
        return None
    name = "/preference_loss" if paired.get("per") == "pair" else "/loss"
    return paired if key.endswith(name) else None


def explanation(reference: int, paired: Paired) -> str:
    """What the intervals mean, with how many examples they rest on."""
    counts = {row["n"] for row in paired.values() if row.get("n")}
    if not counts:
        return f"differences from #{reference}"
    n = "/".join(str(count) for count in sorted(counts))
    per = " or ".join(sorted({row.get("per") or "token" for row in paired.values()}, reverse=True))
    return f"differences from #{reference}; [95%] paired over the same {n} examples, nats per {per}"


def recipes(rows: Sequence[Row], runs: Sequence[Run], sides: Sides, width: int) -> list[Line]:
    """Only the keys in which the recipes differ."""
    if not rows:
        return [[("the recipes are the same", "dim")]]
    keys = list(dict.fromkeys(row["key"] for row in rows))
    values = {(row["key"], row["run"]): row["value"] for row in rows}
    least = 12
    # Keys are cut before the reference and the run beside it have no room.
    name = max(least, min(max(map(width_of, keys)) + 2, 28, width - 2 * least))
    room = width - name
    view = sides.in_view(runs, room, max(least, room // max(1, min(len(runs), room // least))), least)
    lines = [view.head(name)]
    short = distinct(keys, name - 1)
    for key in keys:
        line: Line = [(left(short[key], name), "dim")]
        texts = {
            number: one_line(value)
            for (of, number), value in values.items()
            if of == key and value is not None
        }
        shown = distinct(texts.values(), min(column.width for column in view.columns) - 2)
        for column in view.columns:
            value = texts.get(column.run.number)
            text = format.NONE if value is None else value
            if width_of(text) > column.width - 2:
                text = shown.get(text, "")
            line.append((f" {left(text, column.width - 2)} ", "faint" if value is None else "text"))
        lines.append(line)
    return lines
