"""What is known of one run, as lines: evaluations, samples, checkpoints, recipe."""

from __future__ import annotations

from collections.abc import Sequence

from engine.basics.safe_text import one_line
from engine.basics.wording import duration, moment, size
from store.best import judged_by
from store.states import WAITING
from tui.lines import format
from tui.lines.baselines import (
    CHOICE_COLUMNS,
    COLUMNS,
    DISTANCE,
    DISTANCE_COLUMNS,
    DRIFT_COLUMNS,
    SLICE_COLUMNS,
    baseline_cells,
    choice_cells,
    distance_cells,
    drift_cells,
    slice_cells,
    trade,
)
from tui.lines.text import Line, block, cut, distinct, left, right, width_of, wrap
from tui.rows import Row, Run
from tui.widgets import axis


def heading(text: str) -> Line:
    return [(text, "title")]


def keys(rows: Sequence[Row], chosen: str, width: int) -> list[Line]:
    """The list of curves beside the chart: key and last value."""
    lines: list[Line] = []
    names = distinct([row["key"] for row in rows], width - 12)
    for row in rows:
        is_chosen = row["key"] == chosen
        name = left(names[row["key"]], width - 11)
        lines.append(
            [
                ("▌", "cursor") if is_chosen else (" ", ""),
                (name, "bright" if is_chosen else "text"),
                (right(format.value(_short(row["last"])), 9), "dim"),
                (" ", ""),
            ]
        )
    return lines or [[(" no metrics yet", "dim")]]


def keys_whole(rows: Sequence[Row]) -> list[Line]:
    """The same with whole names, and where each curve was best."""
    width = max((width_of(row["key"]) for row in rows), default=0)
    return [
        [
            (left(row["key"], width), "text"),
            (f"  {_short(row['last'])} at step {row['last_step']}", "text"),
            (f", best {_short(row['best'])} at step {row['best_step']}, {row['n']:,} values", "dim"),
        ]
        for row in rows
    ] or [[("no metrics yet", "dim")]]


def _short(value: float | None) -> str:
    return format.NONE if value is None else axis.value(value)


def evals(
    rows: Sequence[Row],
    baselines: Sequence[Row],
    slices: Sequence[Row],
    distance: Sequence[Row],
    choices: Sequence[Row],
    drift: Sequence[Row],
    width: int,
) -> list[Line]:
    """What the base model does beside the run: on the task, on general text, on multiple-choice questions, and what it
    writes to general prompts, and how far the run is from it; then one table a suite: a row a step, a column a measure,
    with its interval.
    """
    if not rows:
        return [[("no evaluations yet", "dim")]]
    lines = []
    if baselines:
        title = f"the base model beside step {baselines[0]['step']}: held-out loss, paired by example"
        lines += _table(title, COLUMNS, [baseline_cells(row) for row in baselines], width)
    if slices:
        title = f"the base model beside step {slices[0]['step']}: general text, paired by example"
        lines += _table(title, SLICE_COLUMNS, [slice_cells(row) for row in slices], width)
        if paid := trade(slices):
            lines[-1:] = [[(cut(f"  {paid}", width), "text")], []]
    if distance:
        title = f"step {distance[0]['step']}: {DISTANCE}"
        lines += _table(title, DISTANCE_COLUMNS, [distance_cells(row) for row in distance], width)
    if choices:
        title = f"the base model beside step {choices[0]['step']}: multiple-choice questions, paired, McNemar's test"
        lines += _table(title, CHOICE_COLUMNS, [choice_cells(row) for row in choices], width)
    if drift:
        title = f"the base model beside step {drift[0]['step']}: what it writes, paired by prompt"
        lines += _table(title, DRIFT_COLUMNS, [drift_cells(row) for row in drift], width)
    for suite in sorted({row["suite"] for row in rows}, key=lambda name: (name != "heldout", name)):
        of_suite = [row for row in rows if row["suite"] == suite]
        measures = list(dict.fromkeys(row["key"] for row in of_suite))
        pairs = judged_by("dpo").key
        judged = pairs if pairs in measures else "loss"
        best = min(
            (row["value"] for row in of_suite if row["key"] == judged and row["value"] is not None),
            default=None,
        )
        lines += [heading(suite), _eval_head(measures)]
        cells = {(row["step"], row["key"]): row for row in of_suite}
        for step in dict.fromkeys(row["step"] for row in of_suite):
            lines.append(
                _eval_row(step, [cells.get((step, measure)) for measure in measures], (judged, best))
            )
        lines.append([])
    return lines[:-1]


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    lines = [heading(title)]
    cells = [columns, *rows]
    widths = [max(map(width_of, column)) + 2 for column in zip(*cells, strict=True)]
    for at, line in enumerate(cells):
        text = "".join(left(cell, room) for cell, room in zip(line, widths, strict=True))
        lines.append([(cut(f"  {text}".rstrip(), width), "text" if at else "faint")])
    return [*lines, []]


def _eval_head(measures: Sequence[str]) -> Line:
    """The names of the measures, a long one over the interval beside its values."""
    names = (name.replace("token_", "").replace("_", " ") for name in measures)
    cells = (" " * max(1, 10 - width_of(name)) + name for name in names)
    return [
        (right("step", 7), "faint"),
        *[(left(cell, max(27, width_of(cell) + 1)), "faint") for cell in cells],
        (right("n", 6), "faint"),
    ]


def _eval_row(step: int, cells: Sequence[Row | None], best: tuple[str, float | None]) -> Line:
    """`best`: the measure that the suite is judged by, and its best value."""
    line: Line = [(right(str(step), 7), "dim")]
    number = None
    for cell in cells:
        if cell is None:
            line.append((" " * 27, ""))
            continue
        is_best = (cell["key"], cell["value"]) == best
        line += [
            (right(format.loss(cell["value"]), 10), "good" if is_best else "text"),
            ("  " + left(format.interval(cell["lo"], cell["hi"]), 15), "dim"),
        ]
        number = cell["n"] if number is None else number  # of the loss; answers are fewer
    return [*line, (right(format.value(number), 6), "dim")]


def samples(rows: Sequence[Row], width: int) -> list[Line]:
    """Every prompt with what the model wrote to it, the latest step first."""
    if not rows:
        return [[("no samples yet: evals.generate says how many are written at each evaluation", "dim")]]
    lines: list[Line] = []
    for index in sorted({row["idx"] for row in rows}):
        of_prompt = sorted((row for row in rows if row["idx"] == index), key=lambda row: -row["step"])
        lines.append(heading(f"prompt {index + 1}"))
        lines += [[(f"  {line}", "dim")] for line in block(of_prompt[0]["prompt"], width - 2)]
        for row in of_prompt:
            for at, text in enumerate(block(row["text"], width - 13)):
                lines.append(
                    [(left(f"  step {row['step']}" if at == 0 else "", 13), "accent"), (text, "text")]
                )
        lines.append([])
    return lines[:-1]


def checkpoints(rows: Sequence[Row], attempts: Sequence[Row], width: int) -> list[Line]:
    """Checkpoints, then the attempts of the run."""
    lines: list[Line] = [heading("Checkpoints")]
    if rows:
        lines.append([(f"{'step':>8}  {'size':>10}  {'written':<24}  path", "faint")])
    else:
        lines.append([("  none yet", "dim")])
    for row in rows:
        there = row["path"] if row["present"] else "no longer there"
        text = f"{row['step']:>8}  {size(row['bytes']):>10}  {moment(row['t']):<24}  {there}"
        lines.append([(cut(text, width), "text" if row["present"] else "faint")])
    lines += [[], heading("Attempts")]
    if attempts:
        head = f"{'attempt':>7}  {'started':<24}  {'took':>7}  {'from step':>9}  {'exit':<9}  {'memory':>9}  device"
        lines.append([(cut(head, width), "faint")])
    else:
        lines.append([("  not started yet", "dim")])
    for row in attempts:
        took = row["ended"] - row["started"] if row["ended"] and row["started"] else None
        code = f"signal {row['signal']}" if row["signal"] else format.value(row["exit_code"])
        memory = size(row["peak_rss_mb"] * 2**20) if row["peak_rss_mb"] else format.NONE
        text = (
            f"{row['attempt']:>7}  {moment(row['started']):<24}  {duration(took):>7}"
            f"  {format.value(row['resumed_from']):>9}  {code:<9}  {memory:>9}  {format.value(row['device'])}"
        )
        lines.append([(cut(text, width), "text")])
    return lines


def recipe(params: Sequence[Row], datasets: Sequence[Row], run: Run, width: int) -> list[Line]:
    """The resolved recipe, one line a key, and the data it was given."""
    lines: list[Line] = [heading("Recipe")]
    wide = max((width_of(row["key"]) for row in params), default=8) + 4
    section = ""
    for row in params:
        first = row["key"].partition(".")[0]
        if section and first != section:
            lines.append([])
        section = first
        lines += _named(f"  {row['key']}", row["value"], wide, width)
    lines += [[], heading("Data")]
    for row in datasets:
        facts = f"{format.count(row['n_rows'])} rows" if row["n_rows"] is not None else ""
        text = f"{row['source']}  {facts}  {row['fingerprint'] or ''}"
        lines += _named(f"  {row['role']}", text, wide, width)
    lines += [[], heading("Run")]
    for name, value in (
        ("name", run.name),
        ("state", run.state),
        ("reason", run.reason),
        ("made from", f"#{run.parent}" if run.parent is not None else ""),
        ("submitted", moment(run.created)),
        ("started", moment(run.started)),
        ("ended", moment(run.ended)),
        ("waits", run.waiting_for if run.state in WAITING else ""),
        ("tags", run.tags),
        ("group", run.queue_group),
        ("priority", str(run.priority)),
        ("attempts", str(run.attempt)),
    ):
        if value and value != format.NONE:
            lines += _named(f"  {name}", value, wide, width)
    return lines


def _named(name: str, value: str, wide: int, width: int) -> list[Line]:
    """A value whole, in as many lines as it takes, beside its name."""
    parts = wrap(one_line(value), max(10, width - wide))
    return [[(left(name if at == 0 else "", wide), "dim"), (part, "text")] for at, part in enumerate(parts)]
