"""What the app knows and its screens share: the last snapshot, marks, the list of runs, how curves are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING

from tui.lines.log_levels import Level
from tui.lines.theme import Glyphs
from tui.rows import Snapshot
from tui.run_list import RunList
from tui.status_line import StatusLine

if TYPE_CHECKING:
    from tui.undo import Acts

SMOOTHING = (0.0, 0.6, 0.9)  # weight of the past in the moving average
SMOOTHING_NAMES = ("off", "little", "much")
FIRST_METRIC = "train/loss"


class XAxis(Enum):
    """What the x axis counts."""

    STEPS = "steps"
    TOKENS = "tokens"
    EPOCHS = "epochs"
    TIME = "time since the start, pauses included"


@dataclass(frozen=True)
class ChartView:
    """What the chart keys change; the same for every chart of the app."""

    log: bool = False
    smooth: int = 1  # index into SMOOTHING; the raw values stay visible behind the smoothed line
    zoom: int = 0  # the window is 1 / 2**zoom of the steps
    end: float = 1.0  # where the window ends, as a share of the steps
    glyphs: Glyphs = Glyphs.BRAILLE
    metric: str = FIRST_METRIC
    x_axis: XAxis = XAxis.STEPS
    outliers: bool = True  # whether the y axis covers them
    cross: float | None = None  # where the crosshair is, as a share of the window

    def crossed(self, by: float) -> ChartView:
        """The crosshair moved by a share of the window; from the middle, where there was none."""
        return replace(self, cross=0.5 if self.cross is None else max(0.0, min(1.0, self.cross + by)))

    def zoomed(self, by: int) -> ChartView:
        zoom = max(0, min(10, self.zoom + by))
        return replace(self, zoom=zoom, end=max(self.end, 0.5**zoom))

    def panned(self, by: int) -> ChartView:
        """Half a window to the left (−1) or right (+1)."""
        window = 0.5**self.zoom
        return replace(self, end=max(window, min(1.0, self.end + by * window / 2)))

    def window(self, last: float) -> tuple[float, float]:
        """The steps in view when the whole goes from 0 to `last`."""
        end = last * self.end
        return end - last * 0.5**self.zoom, end


@dataclass
class State:
    """One for the app."""

    run_list: RunList
    view: ChartView
    marked: list[int] = field(default_factory=list)  # numbers of runs, in the order of their colours
    snapshot: Snapshot = field(default_factory=Snapshot)
    status: StatusLine = field(default_factory=StatusLine)
    log_level: Level = Level.DEBUG  # the least grave lines of logs that are shown
    query: str = ""  # what stood in the SQL editor when it was left

    @cached_property
    def acts(self) -> Acts:
        """What can be undone."""
        from tui.undo import Acts  # not before the first paint

        return Acts()

    def take(self, snapshot: Snapshot) -> None:
        """What is known from now on; marks of runs that are gone are forgotten."""
        self.snapshot = snapshot
        if snapshot.loaded and snapshot.reading is None:
            self.marked = [number for number in self.marked if snapshot.run(number)]

    def mark(self, numbers: Iterable[int]) -> None:
        """Have these runs marked, in this order: an act that can be undone."""
        before, now = self.marked, list(dict.fromkeys(numbers))
        if now == before:
            return
        from tui.undo import Act

        self.acts.keep(Act("marks", locally=partial(self._mark_again, before)))
        self.marked = now

    def _mark_again(self, numbers: Sequence[int]) -> str:
        self.marked = [number for number in numbers if self.snapshot.run(number)]
        count = len(self.marked)
        return f"undone, marks: {count or 'no'} run{' is' if count == 1 else 's are'} marked, as before"

    def slot(self, number: int) -> int | None:
        """The colour of a marked run."""
        return self.marked.index(number) if number in self.marked else None
