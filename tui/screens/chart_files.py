"""A chart that a screen shows, saved as it is drawn: SVG, PNG or characters, by what the name of the file ends in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tui import table_files
from tui.host import Answer
from tui.rows import Run
from tui.screens.base import BaseScreen
from tui.state import ChartView
from tui.widgets import curves, plot
from tui.widgets.plot import Plot

ENDINGS = (".svg", ".png", ".txt")
TEXT_SIZE = (100, 25)  # columns and lines of a chart as characters


@dataclass(frozen=True)
class Picture:
    """A chart with what is said of it where it stands alone."""

    name: str  # of the file, without its ending
    title: str
    plot: Plot
    runs: tuple[Run, ...] = ()

    def text(self) -> str:
        """As characters, with the names of the runs below."""
        rows = ("".join(text for text, _ in line).rstrip() for line in plot.render(self.plot, *TEXT_SIZE))
        return "\n".join([self.title, *rows, *(f"#{run.number} {run.name}" for run in self.runs)]) + "\n"


def of_runs(key: str, made: Plot, runs: Iterable[Run], view: ChartView) -> Picture:
    """A metric of some runs."""
    shown = tuple(runs)
    numbers = "-".join(str(run.number) for run in shown)
    name = f"{re.sub(r'[^A-Za-z0-9_.]+', '-', key)}-{numbers}"
    return Picture(name, curves.title(key, made, view), made, shown)


def path_of(text: str) -> Path:
    """The file that somebody means. Raises StoreError with what is wrong with it."""
    path = table_files.path_of(text, ENDINGS)
    if path.suffix.lower() == ".png":
        from tui.widgets import picture

        picture.check_png()
    return path


def offer(screen: BaseScreen, pictures: Sequence[Picture]) -> None:
    """Ask where to save a chart; of several, which one first."""
    if len(pictures) == 1:
        ask_where(screen, pictures[0])
        return
    answers = [
        Answer(str(at), one.title.partition(" · ")[0], partial(ask_where, screen, one))
        for at, one in enumerate(pictures, start=1)
    ]
    screen.host.choose("save the chart:", answers)


def ask_where(screen: BaseScreen, picture: Picture, ending: str = ".svg") -> None:
    """Ask for the file, and write it; of a chart without curves, only say why it has none."""
    if is_empty(picture.plot):
        screen.host.say(f"there is no curve to save: {plot.why_empty(picture.plot)}", "warn")
        return
    hint = "a name that ends in .svg, .png or .txt"
    screen.ask_path(
        "save the chart as", picture.name + ending, hint, path_of, partial(write, screen, picture)
    )


def is_empty(made: Plot) -> bool:
    """Whether no point of it is drawn."""
    return not any(any(plot.visible(made, series)) for series in made.series)


def write(screen: BaseScreen, picture: Picture, path: Path) -> None:
    """Write it in the format that the path ends in."""
    if screen.write_file(path, content(picture, path.suffix.lower())):
        screen.host.say(f"the chart is in {path}", "good")


def content(one: Picture, ending: str) -> str | bytes:
    """The bytes of the file."""
    from tui.widgets import picture

    if ending == ".txt":
        return one.text()
    return (picture.png if ending == ".png" else picture.svg)(curves.named(one.plot, one.runs), one.title)
