"""What a comparison shows, as tables for other programs: all runs, all digits, whole texts."""

from __future__ import annotations

from collections.abc import Sequence

from tui.lines.tables import Table
from tui.rows import Row
from tui.widgets import comparison, samples_beside
from tui.widgets.comparison import Paired
from tui.widgets.disagreements import Example
from tui.widgets.plot import Plot
from tui.widgets.samples_beside import Chosen, Written
from tui.widgets.sides import Sides


def curves(key: str, made: Plot) -> Table:
    """Every point of the curves in view; `low` and `high` are an interval, or the extremes behind the point."""
    low, high = made.x_range or (float("-inf"), float("inf"))
    rows = [
        (one.label, int(x) if x == round(x) else x, value, *_ends(one.low, one.high, at))
        for one in sorted(made.series, key=lambda one: one.slot)
        for at, (x, value) in enumerate(zip(one.x, one.values, strict=True))
        if low <= x <= high
    ]
    return Table(key, ("run", made.x_name or "step", key, "low", "high"), rows)


def _ends(low: Sequence[float], high: Sequence[float], at: int) -> tuple[float | None, float | None]:
    return (low[at], high[at]) if low and high else (None, None)


def metrics(rows: Sequence[Row], sides: Sides, paired: Paired) -> Table:
    """A row a metric: the last and best value of every run, and where it was paired the difference from the
    reference with its interval.
    """
    by_cell = {(row["key"], row["run"]): row for row in rows}
    names = ["metric"]
    for number in sides.order:
        names += [f"#{number}", f"#{number} best", f"#{number} best step"]
        if number != sides.reference:
            names += [f"#{number} − #{sides.reference}", "lower", "upper"]
    made = []
    for key in comparison.metric_names(rows):
        line: list[object] = [key]
        for number in sides.order:
            cell = by_cell.get((key, number), {})
            line += [cell.get("last"), cell.get("best"), cell.get("best_step")]
            if number != sides.reference:
                pair = comparison.pair_of(key, paired.get((number, key.split("/")[0]))) or {}
                line += [pair.get("difference"), pair.get("lo"), pair.get("hi")]
        made.append(line)
    return Table("metrics", tuple(names), made)


def recipes(rows: Sequence[Row], sides: Sides) -> Table:
    values = {(row["key"], row["run"]): row["value"] for row in rows}
    keys = dict.fromkeys(row["key"] for row in rows)
    made = [(key, *(values.get((key, number)) for number in sides.order)) for key in keys]
    return Table("recipe differences", ("key", *(f"#{number}" for number in sides.order)), made)


def samples(written: Written, sides: Sides, chosen: Chosen) -> Table:
    """Every prompt, at the chosen step."""
    made = []
    for prompt in samples_beside.prompts(written):
        for number in sides.order:
            if row := samples_beside.sample(written.get(number, []), prompt, chosen.step):
                made.append((prompt, f"#{number}", row["step"], row["text"]))
    return Table("samples", ("prompt", "run", "step", "text"), made)


def examples(found: Sequence[Example], sides: Sides) -> Table:
    names = ("suite", "slice", "example", "prompt", "target", "tokens", "per", "spread")
    made = [
        (
            *(
                one.suite,
                one.slice or None,
                one.example,
                one.prompt,
                one.target,
                one.tokens,
                one.per,
                one.spread,
            ),
            *(one.losses.get(number) for number in sides.order),
        )
        for one in found
    ]
    return Table("disagreements", (*names, *(f"loss of #{number}" for number in sides.order)), made)
