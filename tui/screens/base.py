"""What every screen has: keys from the one table, a header, a status line, and what it wants to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.binding import Binding as TextualBinding
from textual.binding import BindingsMap
from textual.geometry import Offset
from textual.message import Message
from textual.screen import Screen

from finetui.errors import StoreError
from finetui.files import write_whole_file
from tui import bindings
from tui.host import Answer, Host, path_or_say
from tui.lines.text import Line, line_width, spread
from tui.rows import Request, Run, Snapshot
from tui.state import State
from tui.widgets import run_table
from tui.widgets.bars import footer, sentence, tab_at, tab_places, tabs
from tui.widgets.daemon_line import daemon_line, fits
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.screens.place import Place

SMALL_WIDTH, SMALL_HEIGHT = 110, 30
FAR = 10**9  # lines: beyond every end


def textual_bindings(screen: str) -> BindingsMap:
    """The binding table as Textual wants it."""
    return BindingsMap(
        TextualBinding(",".join(binding.keys), f"app.act({binding.action!r})", binding.label, show=False)
        for binding in bindings.bindings_of(screen)
    )


class BaseScreen(Screen[None], inherit_bindings=False):
    """A screen of the app; `room` is its name in the binding table."""

    room: ClassVar[str] = "all"
    begins_with_line: ClassVar[bool] = False  # once it is mounted, a line to type in has the focus
    AUTO_FOCUS: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()
        # Not those of the class: the user's keys are known only once there is an app.
        self._bindings = textual_bindings(self.room)
        self.small = False
        self._footer_lines = 1
        self._then: Callable[[str], None] | None = None  # what is done with the text that is asked for
        self._live = False  # whether it takes each change

    @property
    def host(self) -> Host:
        """The app, as far as a screen knows it."""
        return cast(Host, self.app)

    @property
    def state(self) -> State:
        return self.host.state

    @property
    def snapshot(self) -> Snapshot:
        return self.state.snapshot

    def wants(self) -> Iterable[Request]:
        """The answers that this screen needs now."""
        return ()

    def context(self) -> bindings.Context:
        snapshot = self.snapshot
        return bindings.Context(
            self.target(),
            self.members(),
            self.group(),
            len(self.state.marked),
            not snapshot.trouble,
            snapshot.loaded,
            self.is_grouped(),
            self.on_head(),
            self.is_filtered(),
            self.host.readonly,
            self.no_chart(),
            self.is_typing(),
        )

    def is_typing(self) -> bool:
        """Whether letters are text now."""
        return self.focused is not None

    def place(self) -> dict[str, Any] | None:
        """What the next session needs to open this screen again; None: it begins with the first one."""
        return None

    def target(self) -> Run | None:
        """The run that x, p, r and R mean."""
        return None

    def members(self) -> tuple[Run, ...]:
        """The runs of the sweep or the group whose one line is under the cursor; none on the line of a run."""
        return ()

    def is_grouped(self) -> bool:
        """Whether runs stand in groups here."""
        return False

    def is_filtered(self) -> bool:
        """Whether a filter leaves runs out here."""
        return False

    def on_head(self) -> bool:
        """Whether the cursor is on the line of a group, whose runs are `members`."""
        return False

    def no_chart(self) -> str:
        """Why a key of charts does nothing that can be seen; empty where one is in view."""
        return ""

    def group(self) -> tuple[Run, ...]:
        """The marked runs, where the one under the cursor is one of several: a key for one means all."""
        return ()

    def update_panels(self) -> None:
        """Show the present snapshot; every panel writes only what differs."""
        self._fit_footer()
        for panel in self.query(Panel):
            panel.repaint()

    def is_painted(self) -> bool:
        """Whether all of the present snapshot is shown, by panels of the size that they have now."""
        return all(panel.is_painted() for panel in self.query(Panel))

    def _fit_footer(self) -> None:
        """Give a sentence the lines that it needs; a layout repaints the whole screen, so only where that differs."""
        lines = len(self.paint_footer(self.size.width, 1)) if self.has_sentence() and self.size.width else 1
        if lines != self._footer_lines:
            self._footer_lines = lines
            for line in self.query("#footer"):
                line.styles.height = lines

    def has_sentence(self) -> bool:
        """Whether something is said in the place of the keys."""
        return bool(self.state.status.shown or self.snapshot.trouble)

    def changed(self) -> None:
        """After a key or new data: say what is needed, show what is there."""
        self.host.want(self.wants())
        self.update_panels()

    def on_resize(self, event: events.Resize) -> None:
        self.small = event.size.width < SMALL_WIDTH or event.size.height < SMALL_HEIGHT
        self.set_class(self.small, "-small")
        self.set_class(self.host.ascii_only, "-ascii")
        self.lay_out(event.size.width, event.size.height)

    def lay_out(self, width: int, height: int) -> None:
        """Lay out for a size of the terminal."""

    def on_screen_resume(self) -> None:
        self.changed()

    def key_of(self, action: str) -> str:
        """The key that an action has here, for a sentence that names it."""
        return bindings.key_of(action, self.room)

    # ---- copying -------------------------------------------------------------------------------

    def copies(self) -> Sequence[Answer]:
        """What can be copied here, each by a key of its own: the run under the cursor, where there is one."""
        run = self.target()
        if run is None:
            return ()
        number, sentence = run.number, f"#{run.number} {run.name}: {run_table.about(run)[0]}"
        return (
            Answer("n", "number", lambda: self.host.copy(str(number), f"the number {number}")),
            Answer("s", "sentence", lambda: self.host.copy(sentence, f"what is said of #{number}")),
            Answer("p", "path", lambda: self._copy_path(number)),
        )

    def _copy_path(self, number: int) -> None:
        if path := path_or_say(self.host, number):
            self.host.copy(str(path), f"the path of #{number}")

    def shown_text(self) -> str:
        """What the panels show, as text: the whole screen but for its header and footer."""
        panels = (
            panel for panel in self.query(Panel) if panel.display and panel.id not in ("header", "footer")
        )
        return "\n".join(text for panel in panels if (text := panel.text().rstrip()))

    def do_copy(self) -> None:
        screen = Answer("v", "view", lambda: self.host.copy(self.shown_text(), "what the screen shows"))
        self.host.choose("copy:", (*self.copies(), screen))

    # ---- a line of text ------------------------------------------------------------------------

    def ask(
        self,
        label: str,
        text: str,
        hint: str,
        then: Callable[[str], None],
        *,
        live: bool = False,
        complete: Callable[[str], str | None] | None = None,
    ) -> None:
        """Ask for a line of text in place of the status line; `text` is there already. Escape forgets it. `live`: each
        change is taken at once, and escape leaves none. `complete`: what tab makes of what stands there.
        """
        self._then, self._live = then, live
        self.host.await_line()
        # In a group of its own: what is asked of the daemon meanwhile is not to be cancelled by it.
        self.app.run_worker(self._open_prompt(label, text, hint, complete), group="prompt", exclusive=True)

    def ask_path(
        self, label: str, text: str, hint: str, path_of: Callable[[str], Path], then: Callable[[Path], None]
    ) -> None:
        """Ask for the file to write; one that is there is replaced only after a question. `path_of`: what is meant by
        what was typed; it raises StoreError.
        """

        def take(typed: str) -> None:
            try:
                path = path_of(typed) if typed else None
            except StoreError as error:
                self.host.say(str(error), "bad")
                return
            if path is None:
                self.host.say("nothing done")
            elif path.exists():
                self.host.confirm(f"Replace {path}?", lambda: then(path))
            else:
                then(path)

        self.ask(label, text, hint, take)

    def write_file(self, path: Path, content: str | bytes) -> bool:
        """Write a file whole; says so where it cannot be."""
        try:
            write_whole_file(path, content)
        except OSError as error:
            self.host.say(f"{path} cannot be written: {error.strerror or error}", "bad")
            return False
        return True

    async def _open_prompt(
        self, label: str, text: str, hint: str, complete: Callable[[str], str | None] | None
    ) -> None:
        from tui.widgets.prompt import Prompt

        try:
            self.query_one("#footer").add_class("hidden")
            prompt = Prompt(label, text, hint, self.host.ascii_only, complete)
            await self.mount(prompt)
            prompt.input.focus()
        finally:
            self.host.line_is_there()

    def on_prompt_changed(self, message: Message) -> None:
        """Also called where a screen has a prompt of its own, of which this takes nothing."""
        from tui.widgets.prompt import Prompt

        assert isinstance(message, Prompt.Changed)
        then = self._then
        if then is None or not (message.done or self._live):
            return
        if message.done:
            self._then = None
            self.query_one(Prompt).remove()
            self.query_one("#footer").remove_class("hidden")
        if message.cancelled and not self._live:
            self.host.say("nothing done")
        else:
            then(message.text.strip())

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

    # ---- the mouse -----------------------------------------------------------------------------

    def on_panel_clicked(self, message: Panel.Clicked) -> None:
        self.click(message.panel.id or "", message.row, message.column)

    def on_panel_scrolled(self, message: Panel.Scrolled) -> None:
        self.turn_wheel(message.panel.id or "", message.lines)

    def click(self, panel: str, row: int, column: int) -> None:
        """A press on a line of a panel: what stands there is chosen."""
        if panel == "tabs" and (tab := tab_at(self.room, self.tab_names(), column)) is not None:
            self.do_pane(tab + 1)

    def turn_wheel(self, panel: str, lines: int) -> None:
        """The wheel over a panel, by lines (down: above 0)."""
        self.move(lines)

    # ---- panes ---------------------------------------------------------------------------------

    def tab_names(self) -> Sequence[str]:
        """Panes or sections that have a number key."""
        return ()

    def do_pane(self, number: int) -> None:
        """Show a pane or section by its number, from 1 on."""

    # ---- jumping -------------------------------------------------------------------------------

    def places(self) -> Iterable[Place]:
        """What can be gone to by a letter: panes or sections here, and what a screen has beside them."""
        from tui.screens.place import Place  # not before the first paint

        for index, name in enumerate(self.tab_names()):
            yield Place(name, partial(self.do_pane, index + 1), self._place_of_pane(index))

    def _place_of_pane(self, index: int) -> Offset | None:
        """On its name in the rule of names, else at its corner."""
        rule = self.query("#tabs").first()
        if not rule.display:
            return self.place_in(f"#pane{index}")
        start, end = list(tab_places(self.room, self.tab_names()))[index]
        return rule.region.offset + Offset(start + 1, 0) if end <= rule.size.width else None

    def place_in(self, panel: str, row: int | None = None) -> Offset | None:
        """The start of a row of a panel, or the panel's corner; None if it is out of sight."""
        widget = next(iter(self.query(panel)), None)
        if widget is None or not widget.region:
            return None
        return widget.region.offset if row is None else widget.content_region.offset + Offset(0, row)

    def do_jump(self) -> None:
        from tui.screens.jump import JumpScreen  # not before the first paint

        self.app.push_screen(JumpScreen(self.host, self.size, list(self.places())))

    # ---- header and footer ---------------------------------------------------------------------

    def header_start(self) -> Line:
        """What the header says on the left, after the name of the app."""
        return []

    def paint_header(self, width: int, height: int) -> list[Line]:
        start: Line = [(" finetui ", "brand"), *self.header_start()]
        home: Line = [(f"{self.host.home_name} ", "faint")]
        fitting = home if line_width(start) + line_width(home) < width else []
        return [spread(start, daemon_line(self.snapshot, width) or fitting, width)]

    def paint_footer(self, width: int, height: int) -> list[Line]:
        most = max(2, self.size.height // 2)  # what it is about stays in view
        if self.state.status.shown:
            return sentence(*self.state.status.shown, width, most)
        if self.snapshot.trouble and not fits(self.snapshot, width):
            return sentence(self.snapshot.trouble, "bad", width, most)
        return [footer(self.room, width, self.context())]


class PanedScreen(BaseScreen, inherit_bindings=False):
    """A screen whose panes are shown one at a time on a small terminal."""

    panes: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.pane = 0

    def tab_names(self) -> Sequence[str]:
        return self.panes

    def paint_tabs(self, width: int, height: int) -> list[Line]:
        return [tabs(self.room, self.panes, self.pane, width)]

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#tabs").set_class(not self.small, "hidden")
        self.show_panes()

    def show_panes(self) -> None:
        """Hide the panes that are out of view, and mark the chosen one."""
        for index in range(len(self.panes)):
            pane = self.query_one(f"#pane{index}")
            pane.set_class(not self.is_in_view(index), "hidden")
            pane.set_class(index == self.pane, "-active")

    def is_in_view(self, pane: int) -> bool:
        return not self.small or pane == self.pane

    def click(self, panel: str, row: int, column: int) -> None:
        """A press anywhere in a pane chooses it."""
        super().click(panel, row, column)
        if panel.startswith("pane"):
            self.do_pane(pane_index(panel) + 1)

    def do_pane(self, number: int) -> None:
        if number <= len(self.panes):
            self.pane = number - 1
            self.lay_out(*self.size)
            self.changed()

    def do_next_pane(self) -> None:
        self.do_pane((self.pane + 1) % len(self.panes) + 1)

    def do_previous_pane(self) -> None:
        self.do_pane((self.pane - 1) % len(self.panes) + 1)


def pane_index(panel: str) -> int:
    """`pane2` → 2."""
    return int(panel.removeprefix("pane"))
