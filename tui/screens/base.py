"""What every screen has: keys from the one table, a header, a status line, and what it wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding as TextualBinding
from textual.binding import BindingType
from textual.screen import Screen

from tui import bindings
from tui.data import Request, Run, Snapshot
from tui.lines.text import Line, line_width, spread
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.app import FinetuiApp

SMALL_WIDTH, SMALL_HEIGHT = 110, 30
FAR = 10**9  # lines: beyond every end


def textual_bindings(screen: str) -> list[BindingType]:
    """The binding table as Textual wants it."""
    return [
        TextualBinding(",".join(binding.keys), f"app.act({binding.action!r})", binding.label, show=False)
        for binding in bindings.bindings_of(screen)
    ]


class BaseScreen(Screen[None], inherit_bindings=False):
    """A screen of the app; `room` is its name in the binding table."""

    room: ClassVar[str] = "all"
    AUTO_FOCUS = None
    app: FinetuiApp

    def __init__(self) -> None:
        super().__init__()
        self.small = False

    @property
    def snapshot(self) -> Snapshot:
        return self.app.snapshot

    def wants(self) -> Iterable[Request]:
        """The answers that this screen needs now."""
        return ()

    def context(self) -> bindings.Context:
        snapshot = self.snapshot
        return bindings.Context(self.target(), len(self.app.marked), not snapshot.trouble, snapshot.loaded)

    def target(self) -> Run | None:
        """The run that x, p, r and R mean."""
        return None

    def update_panels(self) -> None:
        """Show the present snapshot; every panel writes only what differs."""
        for panel in self.query(Panel):
            panel.repaint()

    def changed(self) -> None:
        """After a key or new data: say what is needed, show what is there."""
        self.app.want(self.wants())
        self.update_panels()

    def on_resize(self, event: events.Resize) -> None:
        self.small = event.size.width < SMALL_WIDTH or event.size.height < SMALL_HEIGHT
        self.set_class(self.small, "-small")
        self.set_class(self.app.ascii_only, "-ascii")
        self.lay_out(event.size.width, event.size.height)

    def lay_out(self, width: int, height: int) -> None:
        """Lay out for a size of the terminal."""

    def on_screen_resume(self) -> None:
        self.changed()

    # ---- moving --------------------------------------------------------------------------------

    def move(self, by: int) -> None:
        """Move the cursor, or what is shown, by lines (down: above 0), as far as there are any."""
        raise NotImplementedError

    def page(self) -> int:
        """Lines that a page key moves by."""
        return max(1, self.size.height // 2)

    def do_down(self) -> None:
        self.move(1)

    def do_up(self) -> None:
        self.move(-1)

    def do_page_down(self) -> None:
        self.move(self.page())

    def do_page_up(self) -> None:
        self.move(-self.page())

    def do_top(self) -> None:
        self.move(-FAR)

    def do_bottom(self) -> None:
        self.move(FAR)

    # ---- header and footer ---------------------------------------------------------------------

    def header_start(self) -> Line:
        """What the header says on the left, after the name of the app."""
        return []

    def paint_header(self, width: int, height: int) -> list[Line]:
        trouble = self.snapshot.trouble
        end: Line = [(f"● {trouble} ", "bad")] if trouble else [(f"{self.app.home_name} ", "faint")]
        return [spread([(" finetui ", "brand"), *self.header_start()], end, width)]

    def paint_footer(self, width: int, height: int) -> list[Line]:
        if self.app.status:
            text, style = self.app.status
            return [[(f" {text}", style)]]
        return [footer(self.room, width)]


class PanedScreen(BaseScreen, inherit_bindings=False):
    """A screen whose panes are shown one at a time on a small terminal; `lay_out` hides the others."""

    panes: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.pane = 0

    def paint_tabs(self, width: int, height: int) -> list[Line]:
        return [tabs(self.panes, self.pane, width)]

    def do_pane(self, number: int) -> None:
        if number <= len(self.panes):
            self.pane = number - 1
            self.lay_out(*self.size)
            self.changed()

    def do_next_pane(self) -> None:
        self.do_pane((self.pane + 1) % len(self.panes) + 1)

    def do_previous_pane(self) -> None:
        self.do_pane((self.pane - 1) % len(self.panes) + 1)


def footer(room: str, width: int) -> Line:
    """Keys of a screen: as many as fit, help always."""
    shown = [binding for binding in bindings.bindings_of(room) if binding.footer]
    always = [
        one for one in shown if one.action in ("help", "back") and (one.action, room) != ("back", "dashboard")
    ]
    end: Line = []
    for binding in always:
        end += [(bindings.key_name(binding.keys[0]), "key"), (f" {binding.label} ", "dim")]
    line: Line = [(" ", "")]
    for binding in shown:
        if binding in always or binding.action == "back":
            continue
        entry: Line = [(bindings.key_name(binding.keys[0]), "key"), (f" {binding.label}  ", "dim")]
        if line_width(line) + line_width(entry) + line_width(end) > width:
            break
        line += entry
    return [*line, (" " * (width - line_width(line) - line_width(end)), ""), *end]


def tabs(names: Sequence[str], chosen: int, width: int) -> Line:
    """A rule with the names of panes and their number keys."""
    line: Line = [("─", "rule")]
    for index, name in enumerate(names):
        is_chosen = index == chosen
        line += [
            (f" {index + 1}", "key" if is_chosen else "faint"),
            (f" {name} ", "title" if is_chosen else "dim"),
            ("─", "rule"),
        ]
    return [*line, ("─" * max(0, width - line_width(line)), "rule")]
