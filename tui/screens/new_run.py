"""A recipe as a form, with its YAML and what would run beside it: to be queued, or saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import TextArea

from engine.basics.safe_text import lines as safe_lines
from engine.basics.safe_text import one_line
from tui.bindings import key_of
from tui.host import Answer
from tui.lines.recipe_draft import MISSING, Draft, shown
from tui.lines.recipe_fields import fields_of, given
from tui.lines.scroll import Scroll, visible_top
from tui.lines.text import Line, block, folded, line_width, spread
from tui.rows import Request, ask
from tui.screens.base import PanedScreen, pane_index
from tui.screens.draft_check import DraftCheck
from tui.screens.draft_queueing import DraftQueueing
from tui.screens.field_changes import FieldChanges
from tui.screens.place import Place
from tui.screens.recipe_files import ask_for_file, ask_where_to_save
from tui.widgets import forecast, hardware, recipe_form
from tui.widgets.panel import Panel
from tui.widgets.recipe_form import Row
from tui.widgets.yaml_editor import YamlEditor

FOLDED = ("evals", "flags")  # at first


class NewRunScreen(PanedScreen, inherit_bindings=False):
    """The text of the recipe is what everything here is made from; each change keeps the one before for `u`."""

    room = "new"
    panes = ("form", "yaml", "check")

    def __init__(self, draft: Draft, *, changed: bool = False) -> None:
        """`changed`: there is something in it that is nowhere else."""
        super().__init__()
        self.draft = draft
        self.fields = fields_of(draft)
        self.unsaved = changed
        self.past: list[Draft] = []
        self.folded = set(FOLDED)
        self.search = ""
        self.cursor = "model.path"  # key of the row
        self.editor: YamlEditor | None = None
        self._top = self._room = 0  # first row in view, and how many there is room for
        self._scrolled = [Scroll() for _ in self.panes]
        self.checked = DraftCheck(self, lambda: self.draft, self._keep, self.update_panels)
        self.changes = FieldChanges(self, lambda: self.draft, self.take)
        self.queueing = DraftQueueing(self, lambda: self.draft, self._forget)

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        with Horizontal(id="body"):
            yield Panel(self.paint_form, id="pane0", classes="framed pane", title="Recipe")
            with Vertical(id="right"):
                yield Panel(self.paint_yaml, id="pane1", classes="framed pane", title="YAML")
                yield Panel(self.paint_check, id="pane2", classes="framed pane", title="Before it starts")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        self.query_one("#body").styles.height = "1fr"
        self.checked.soon()

    def on_unmount(self) -> None:
        if self.unsaved:
            self.host.remembered.keep(draft=self.draft.kept())

    def wants(self) -> Sequence[Request]:
        return (ask("hardware"),)

    # ---- the draft ------------------------------------------------------------------------------

    def take(self, draft: Draft) -> None:
        """Show another draft; the one before can be had again."""
        if draft.text == self.draft.text:
            self.changed()
            return
        self.past.append(self.draft)
        self._show(draft)

    def _show(self, draft: Draft) -> None:
        self.draft, self.fields = draft, fields_of(draft)
        self.unsaved = True
        self.checked.restart()
        self.changed()

    def _keep(self) -> None:
        """For the next session, should this one end before it is queued or saved."""
        if self.unsaved:
            self.host.remember(draft=self.draft.kept())

    def rows(self) -> list[Row]:
        return recipe_form.rows_of(self.fields, self.folded, self.search)

    def row(self) -> Row:
        """The one under the cursor, or the first."""
        rows = self.rows()
        return rows[self._index(rows)] if rows else Row("run")

    def _index(self, rows: list[Row]) -> int:
        return next((at for at, row in enumerate(rows) if row.key == self.cursor), 0)

    # ---- painting -------------------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        super().lay_out(width, height)
        self.query_one("#right").set_class(self.small and self.pane == 0, "hidden")

    def is_in_view(self, pane: int) -> bool:
        """The editor stands in the place of the YAML."""
        return super().is_in_view(pane) and not (pane == 1 and self.editor)

    def header_start(self) -> Line:
        word, style = forecast.verdict(self.draft, self.checked.forecast)
        origin = f" from #{self.draft.parent}" if self.draft.parent else ""
        line: Line = [(f" new run {one_line(self.draft.name)}{origin}", "bright"), (f"   {word}", style)]
        return [*line, (f"   {self.draft.count} runs", "s1")] if self.draft.count > 1 else line

    def paint_form(self, width: int, height: int) -> list[Line]:
        rows = self.rows()
        if not rows:
            return [
                [(f"no field matches {self.search!r}: {self.key_of('filter')} searches for another", "dim")]
            ]
        at = self._index(rows)
        about = recipe_form.about(self.draft, rows[at], self.fields, width)[: max(2, height // 2)]
        self._room = room = max(1, height - len(about) - 1)
        self._top = visible_top(self._top, at, len(rows), room)
        lines = [
            recipe_form.line(self.draft, row, self.fields, self.folded, number == at, width)
            for number, row in enumerate(rows[self._top : self._top + room], start=self._top)
        ]
        lines += [[] for _ in range(room - len(lines))]
        more = f" {at + 1}/{len(rows)} " if len(rows) > room else ""
        rule = spread([("─" * max(0, width - len(more) - 1), "rule")], [(more, "faint")], width)
        return [*lines, rule, *about]

    def paint_yaml(self, width: int, height: int) -> list[Line]:
        wrong = self.draft.problems.get("")
        lines: list[Line] = [[(piece, "bad")] for piece in folded(one_line(wrong), width)] if wrong else []
        for text in self.draft.text.splitlines():
            style = "faint" if text.lstrip().startswith("#") else "text"
            lines += [[(piece, style)] for piece in folded(one_line(text), width)]
        return self._scrolled[1].view(lines, height)

    def paint_check(self, width: int, height: int) -> list[Line]:
        values, _ = hardware.latest_values(self.snapshot.rows(ask("hardware")))
        return self._scrolled[2].view(
            forecast.lines(self.draft, self.checked.forecast, values, width), height
        )

    def paint_footer(self, width: int, height: int) -> list[Line]:
        """While the YAML is edited no key of the form means anything: what is wrong with it is said instead."""
        if self.editor is None or self.state.status.shown:
            return super().paint_footer(width, height)
        head: Line = [(" esc", "key"), (" leaves the YAML  ", "dim")]
        said = next(iter(self.draft.complaints), "")
        rows = block(one_line(said), max(20, width - line_width(head))) or [""]
        return [
            [*head, (rows[0], "bad")],
            *([(" " * line_width(head), ""), (row, "bad")] for row in rows[1:]),
        ]

    def has_sentence(self) -> bool:
        return self.editor is not None or super().has_sentence()

    # ---- moving ---------------------------------------------------------------------------------

    def move(self, by: int) -> None:
        self._move_in(self.pane, by)

    def _move_in(self, pane: int, by: int) -> None:
        if pane == 0:
            rows = self.rows()
            if rows:
                self.cursor = rows[max(0, min(len(rows) - 1, self._index(rows) + by))].key
        else:
            self._scrolled[pane].move(by)
        self.update_panels()

    def click(self, panel: str, row: int, column: int) -> None:
        super().click(panel, row, column)
        rows = self.rows()
        if panel == "pane0" and self._top + row < len(rows):
            self.cursor = rows[self._top + row].key
            self.update_panels()

    def places(self) -> Iterable[Place]:
        """Panes, the rows in view, and sections out of sight."""
        yield from super().places()
        rows, form = self.rows(), self.query_one("#pane0")
        shown = range(self._top, min(len(rows), self._top + self._room)) if form.display else range(0)
        for at, row in enumerate(rows):
            if at in shown or row.field is None:
                place = self.place_in("#pane0", at - self._top) if at in shown else None
                yield Place(row.section, partial(self._go_to, row.key), place)

    def _go_to(self, key: str) -> None:
        self._bring_form()
        self.cursor = key
        self.update_panels()

    def turn_wheel(self, panel: str, lines: int) -> None:
        if panel.startswith("pane"):
            self._move_in(pane_index(panel), lines)

    def _bring_form(self) -> bool:
        """Whether the form was out of sight, and is shown now: no field is changed that nobody sees."""
        if not self.small or self.pane == 0:
            return False
        self.do_pane(1)
        return True

    def do_fold(self) -> None:
        section = self.row().section
        self.folded ^= {section}
        if section in self.folded:
            self.cursor = f"[{section}]"
        self.update_panels()

    def do_filter(self) -> None:
        self.do_pane(1)
        self.ask("field", self.search, "a word of its name or of its help", self._search, live=True)

    def _search(self, text: str) -> None:
        """Put the cursor on the first that is found."""
        self.search = text
        self.cursor = next((row.key for row in self.rows() if row.field and text), self.cursor)
        self.update_panels()

    # ---- fields ---------------------------------------------------------------------------------

    def do_open(self) -> None:
        """Edit the field under the cursor, or open and close its section."""
        if self._bring_form():
            return
        field = self.row().field
        if field is None:
            self.do_fold()
        elif field.choices and (given(self.draft, field) in (*field.choices, MISSING)):
            self.changes.cycle(field, 1)
        else:
            self.changes.ask_for_value(field)

    def do_right(self) -> None:
        self._cycle(1)

    def do_left(self) -> None:
        self._cycle(-1)

    def _cycle(self, by: int) -> None:
        if not self._bring_form():
            self.changes.cycle(self.row().field, by)

    def do_default(self) -> None:
        if not self._bring_form():
            self.changes.reset(self.row().field)

    def do_vary(self) -> None:
        if not self._bring_form():
            self.changes.ask_for_sweep(self.row().field)

    def do_undo(self) -> None:
        if self.past:
            self._show(self.past.pop())
        else:
            self.host.say("nothing has been changed", "warn")

    # ---- the YAML by hand -----------------------------------------------------------------------

    def do_yaml(self) -> None:
        if self.editor is None:
            self.do_pane(2)
            self.past.append(self.draft)
            self.editor = YamlEditor(self.draft.text, self.close_editor)
            self.query_one("#right").mount(self.editor, before=0)
            self.host.await_line()
            self.editor.focus()
            self.host.line_is_there()
            self.lay_out(*self.size)
            self.update_panels()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        text = safe_lines(event.text_area.text)
        if self.editor is event.text_area and text != self.draft.text:
            self._show(replace(self.draft, text=text))

    def close_editor(self) -> None:
        if self.editor:
            self.editor.remove()
            self.editor = None
            if self.past and self.past[-1].text == self.draft.text:
                self.past.pop()
            self.lay_out(*self.size)
            self.changed()

    # ---- out of here ----------------------------------------------------------------------------

    def do_data(self) -> None:
        """The rows with what is learned of them, as for a run."""
        from tui.screens.data import DataScreen

        if self._may():
            folder = ("--folder", str(self.draft.path.parent))
            self.host.open_screen(DataScreen(self.draft.name, *folder, "-", stdin=self.draft.text))

    def do_add(self) -> None:
        if self._may():
            self.queueing.offer(self.checked.forecast)

    def _may(self) -> bool:
        """Whether the recipe can be read; says what is wrong with it."""
        for complaint in self.draft.complaints[:1]:
            self.host.say(one_line(complaint), "bad")
        return not self.draft.complaints

    def do_write(self) -> None:
        ask_where_to_save(self, lambda: self.draft, self._saved)

    def _saved(self, path: Path) -> None:
        self._forget()
        self.draft = replace(self.draft, path=path)
        self.fields = fields_of(self.draft)
        self.changed()

    def _forget(self) -> None:
        """It is somewhere else now, or is wanted no more."""
        self.unsaved = False
        self.host.remember(draft=None)

    def do_load(self) -> None:
        if self.unsaved:
            keys = f"{self.key_of('add')} queue, {self.key_of('write')} save, or esc"
            self.host.say(f"first {keys}: this recipe has changes", "warn")
            return
        ask_for_file(self, self._show_file)

    def _show_file(self, draft: Draft) -> None:
        self.past.append(self.draft)
        self._show(draft)
        self.unsaved = False

    def do_back(self) -> None:
        if self.search:
            self._search("")
        elif not self.unsaved:
            self.host.leave_screen()
        else:
            self.host.choose(
                "this recipe is not queued:",
                (Answer("k", "keep it for later", self.host.leave_screen), Answer("w", "save", self.do_write),
                 Answer("t", "throw it away", self._throw_away)),
            )  # fmt: skip

    def _throw_away(self) -> None:
        self._forget()
        self.host.leave_screen()

    def do_quit(self) -> None:
        if self.unsaved:
            offers = f"{key_of('new_run', 'dashboard')} offers it next time"
            self.host.confirm(f"Quit? This recipe is not queued; {offers}.", self.host.quit)
        else:
            self.host.quit()

    def copies(self) -> Sequence[Answer]:
        row = self.row()
        yaml = Answer("r", "recipe", lambda: self.host.copy(self.draft.text, "the recipe"))
        if row.field is None or given(self.draft, row.field) is MISSING:
            return (yaml,)
        value = shown(given(self.draft, row.field))
        return (yaml, Answer("f", "field", lambda: self.host.copy(value, f"the value of {row.key}")))
