"""`finetui plot`: one metric of runs, as characters, as a picture, as points."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.files import write_whole_file
from tui.cli import inline
from tui.cli.output import print_json, say, waiting
from tui.cli.shape import runs_as_json
from tui.cli.show import find
from tui.lines import theme
from tui.lines.text import Line
from tui.poller import answers_to
from tui.rows import Run, Snapshot, runs_of
from tui.state import ChartView
from tui.widgets import chart, curves, picture
from tui.widgets.chart import Shown
from tui.widgets.plot import Plot

if TYPE_CHECKING:
    from finetui.client import Client

TEXT_HEIGHT = 20  # lines in a pipe


@dataclass(frozen=True)
class Form:
    """What is made of the chart; text where no file is named and no JSON is asked for."""

    svg: Path | None = None
    png: Path | None = None
    width: int | None = None
    height: int | None = None
    log: bool = False
    as_json: bool = False


def plot(numbers: list[int], key: str, form: Form) -> None:
    """Draw it. Raises StoreError where a run is not there, or none has the metric."""
    if form.png:
        picture.check_png()
    with connect() as client:
        client.drain(waiting())
        for number in numbers:
            find(client, number)
        runs = [run for run in runs_of(client.named("runs")) if run.number in numbers]
        runs.sort(key=lambda run: numbers.index(run.number))
        shown = [Shown(run, slot % theme.SERIES) for slot, run in enumerate(runs)]
        answers = answers_to(
            chart.requests(shown, key), client, lambda name, args: client.named(name, **args).to_pylist()
        )
        snapshot = Snapshot(tuple(runs), answers=answers, loaded=True)
        made = curves.make(snapshot, shown, key, _view(form), color=inline.has_colour())
        _check(client, made, runs, key)
        if form.as_json:
            print_json(_points(client, made, runs, key))
    named, title = curves.named(made, runs), curves.title(key, made, _view(form))
    for path, content in ((form.svg, picture.svg), (form.png, picture.png)):
        if path:
            _write(path, content(named, title))
    if not (form.svg or form.png or form.as_json):
        inline.print_lines(_text(made, runs, key, form))


def _view(form: Form) -> ChartView:
    glyphs = theme.Glyphs.BRAILLE if theme.terminal_has_unicode() else theme.Glyphs.ASCII
    return ChartView(log=form.log, smooth=0, glyphs=glyphs)


def _check(client: Client, made: Plot, runs: list[Run], key: str) -> None:
    """Say which runs lack the metric. Raises StoreError where all do."""
    have = {one.label for one in made.series}
    lacking = [run.number for run in runs if f"#{run.number}" not in have]
    if not lacking:
        return
    names = ", ".join(f"#{number}" for number in lacking)
    if made.series:
        say(f"{names} {'have' if len(lacking) > 1 else 'has'} no {key}")
        return
    keys = [row["key"] for number in lacking for row in client.named("keys", run=number).to_pylist()]
    close = difflib.get_close_matches(key, keys, 3, 0.5) or list(dict.fromkeys(keys))[:5]
    hint = f"; there is {', '.join(close)}" if close else ", nor any other metric yet"
    raise StoreError(f"{names} {'have' if len(lacking) > 1 else 'has'} no {key}{hint}", "not_found")


def _text(made: Plot, runs: list[Run], key: str, form: Form) -> list[Line]:
    columns, rows = inline.size()
    fits = min(TEXT_HEIGHT, rows - 2 - len(runs))  # below the title, above the names and the prompt
    height = form.height or (fits if sys.stdout.isatty() else TEXT_HEIGHT)
    names: list[Line] = [[(f"#{run.number} {run.name}", "dim")] for run in runs]
    return [[(key, "title")], *curves.lines(made, form.width or columns - 1, max(5, height)), *names]


def _points(client: Client, made: Plot, runs: list[Run], key: str) -> dict[str, Any]:
    """The points as they are drawn: all of a short curve, the last of each bucket of a long one."""
    by_label = {f"#{run.number}": run.number for run in runs}
    series = [
        {
            "run": by_label[one.label],
            "step": one.x,
            "value": one.y,
            "low": one.low,
            "high": one.high,
        }
        for one in made.series
    ]
    return {"key": key, "runs": runs_as_json(client, list(by_label.values())), "series": series}


def _write(path: Path, content: bytes | str) -> None:
    try:
        write_whole_file(path, content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}", "refused") from None
    say(f"the chart is in {path}")
