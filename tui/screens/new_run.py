"""A recipe as a form, with its YAML and what would run beside it: to be queued, or saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import TextArea

from engine.basics.safe_text import lines as safe_lines
from engine.basics.safe_text import one_line
from engine.recipe.yaml_text import BadYaml
from finetui.files import write_whole_file
from tui import commands
from tui.host import Answer
from tui.lines.recipe_draft import MISSING, SWEEP, Draft, from_file, shown, typed
from tui.lines.recipe_fields import KINDS, Field, fields_of, given, known_keys
from tui.lines.text import Line, folded, spread
from tui.rows import Request, ask
from tui.screens.base import PanedScreen, pane_index, textual_bindings
from tui.widgets import forecast, panes, recipe_form
from tui.widgets.forecast import Forecast
from tui.widgets.panel import Panel
from tui.widgets.recipe_form import Row

PAUSE_S = 0.6  # after a change, before the recipe is checked
FOLDED = ("evals", "flags")  # at first


class YamlEditor(TextArea):
    """Escape leaves it; all other keys are its own."""

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            screen = self.screen
            assert isinstance(screen, NewRunScreen)
            screen.close_editor()
        else:
            await super()._on_key(event)


class NewRunScreen(PanedScreen, inherit_bindings=False):
    """The text of the recipe is what everything here is made from; each change keeps the one before for `u`."""

    room = "new"
    panes = ("form", "yaml", "check")
    BINDINGS = textual_bindings("new")

    def __init__(self, draft: Draft, *, changed: bool = False) -> None:
        """`changed`: there is something in it that is nowhere else."""
        super().__init__()
        self.draft = draft
        self.fields = fields_of(draft)
        self.unsaved = changed
        self.past: list[Draft] = []
        self.aside: dict[tuple[str, str], dict[str, Any]] = {}  # keys of methods and tasks that were left
        self.folded = set(FOLDED)
        self.search = ""
        self.cursor = "model.path"  # key of the row
        self.forecast: Forecast | None = None
        self.editor: YamlEditor | None = None
        self._top = 0  # first row in view
        self._scrolled = [0, 0, 0]
        self._lengths = [0, 0, 0]
        self._timer: Any = None
        self._checking = False
        self._queueing = False

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
        self._check_soon()

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
        self.unsaved, self.forecast = True, None
        self._check_soon()
        self.changed()

    def _change(self, make: Callable[[], Draft]) -> None:
        """Change a field; where the YAML cannot be read there is none to change."""
        try:
            self.take(make())
        except BadYaml as error:
            self.host.say(f"{one_line(str(error))}: e edits the YAML, u takes it back", "bad")

    def rows(self) -> list[Row]:
        return recipe_form.rows_of(self.fields, self.folded, self.search)

    def row(self) -> Row:
        """The one under the cursor, or the first."""
        rows = self.rows()
        return rows[self._index(rows)] if rows else Row("run")

    def _index(self, rows: list[Row]) -> int:
        return next((at for at, row in enumerate(rows) if row.key == self.cursor), 0)

    # ---- what would run -------------------------------------------------------------------------

    def _check_soon(self) -> None:
        if self._timer:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE_S, self._check)

    def _check(self) -> None:
        """Ask finetui's own commands about the draft: one at a time, then about the latest."""
        if self.unsaved:
            self.host.remember(draft=self.draft.kept())
        if self._checking or self.draft.problems or self.forecast is not None:
            return
        self._checking = True
        self._ask(self.draft, Forecast(), "estimate")

    def _ask(self, draft: Draft, known: Forecast, command: Literal["estimate", "check"]) -> None:
        """Add to what is known what a command says of the draft; the estimate, which is quick, comes first."""

        def then(printed: tuple[str, list[str]]) -> None:
            self._learned(draft, replace(known, **{command: json.loads(printed[0])}), command)

        def failed(sentence: str) -> None:
            self._learned(draft, replace(known, refusal=sentence), "check")

        self.host.in_thread(lambda _: self._run(draft, command, "-", "--json"), then, failed)

    def _run(self, draft: Draft, *words: str) -> tuple[str, list[str]]:
        return commands.run(self.host.home, *words, stdin=draft.text, folder=draft.path.parent)

    def _learned(self, draft: Draft, known: Forecast, command: str) -> None:
        if draft.text != self.draft.text:
            self._checking = False
            self._check_soon()
            return
        self.forecast = known
        self.update_panels()
        if command == "estimate":
            self._ask(draft, known, "check")
        else:
            self._checking = False

    # ---- painting -------------------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#tabs").set_class(not self.small, "hidden")
        self.query_one("#right").set_class(self.small and self.pane == 0, "hidden")
        for index in range(len(self.panes)):
            pane = self.query_one(f"#pane{index}")
            edited = index == 1 and self.editor is not None
            pane.set_class(edited or (self.small and index != self.pane), "hidden")
            pane.set_class(index == self.pane, "-active")

    def header_start(self) -> Line:
        word, style = forecast.verdict(self.draft, self.forecast)
        origin = f" from #{self.draft.parent}" if self.draft.parent else ""
        line: Line = [(f" new run {one_line(self.draft.name)}{origin}", "bright"), (f"   {word}", style)]
        count = self._count()
        return [*line, (f"   {count} runs", "s1")] if count > 1 else line

    def _count(self) -> int:
        return 0 if self.draft.problems else len(self.draft.file.recipes)  # type: ignore[union-attr]

    def paint_form(self, width: int, height: int) -> list[Line]:
        rows = self.rows()
        if not rows:
            return [[(f"no field matches {self.search!r}: / searches for another", "dim")]]
        at = self._index(rows)
        about = recipe_form.about(self.draft, rows[at], self.fields, width)[: max(2, height // 2)]
        room = max(1, height - len(about) - 1)
        self._top = max(0, min(self._top, len(rows) - room))
        self._top = min(max(self._top, at - room + 1), at)
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
        return self._scroll(1, lines, height)

    def paint_check(self, width: int, height: int) -> list[Line]:
        values, _ = panes.hardware_values(self.snapshot.rows(ask("hardware")))
        return self._scroll(2, forecast.lines(self.draft, self.forecast, values, width), height)

    def paint_footer(self, width: int, height: int) -> list[Line]:
        """While the YAML is edited no key of the form means anything: what is wrong with it is said instead."""
        if self.editor is None or self.state.status.shown:
            return super().paint_footer(width, height)
        said = next((f"{key}: {said}" if key else said for key, said in self.draft.problems.items()), "")
        return [[(" esc", "key"), (" leaves the YAML  ", "dim"), (one_line(said), "bad")]]

    def _scroll(self, pane: int, lines: list[Line], height: int) -> list[Line]:
        self._lengths[pane] = max(0, len(lines) - height)
        start = self._scrolled[pane] = min(self._scrolled[pane], self._lengths[pane])
        return lines[start : start + height]

    # ---- moving ---------------------------------------------------------------------------------

    def move(self, by: int) -> None:
        self._move_in(self.pane, by)

    def _move_in(self, pane: int, by: int) -> None:
        if pane == 0:
            rows = self.rows()
            if rows:
                self.cursor = rows[max(0, min(len(rows) - 1, self._index(rows) + by))].key
        else:
            self._scrolled[pane] = max(0, min(self._lengths[pane], self._scrolled[pane] + by))
        self.update_panels()

    def click(self, panel: str, row: int, column: int) -> None:
        super().click(panel, row, column)
        rows = self.rows()
        if panel == "pane0" and self._top + row < len(rows):
            self.cursor = rows[self._top + row].key
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
        """Put the cursor on what is found by its name, else by its help."""
        self.search = text
        found = [row.key for row in self.rows() if row.field] if text else []
        self.cursor = next((key for key in found if text.lower() in key), next(iter(found), self.cursor))
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
            self._cycle(1)
        else:
            self._type(field)

    def do_right(self) -> None:
        self._cycle(1)

    def do_left(self) -> None:
        self._cycle(-1)

    def _cycle(self, by: int) -> None:
        if self._bring_form():
            return
        field = self.row().field
        if field is None or not field.choices:
            self.host.say("this line has no choices: enter types a value", "warn")
            return
        value = given(self.draft, field)
        now = field.default if value is MISSING else value
        at = field.choices.index(now) + by if now in field.choices else 0
        self._set(field, field.choices[at % len(field.choices)])

    def _type(self, field: Field) -> None:
        value = given(self.draft, field)
        now = field.default if value is MISSING else value
        before = "" if now in (MISSING, None) else shown(now)

        def take(text: str) -> None:
            if text == before:
                return
            if not text:
                self.do_default()
                return
            try:
                self._set(field, text if field.is_text else typed(text))
            except BadYaml as error:
                self.host.say(f"{text}: {one_line(str(error))}", "bad")

        self.ask(field.label, before, field.hint, take)

    def _set(self, field: Field, value: Any) -> None:
        """A value that is the default need not stand in the recipe."""
        section, _, last = field.key.partition(".")
        if section in KINDS and last == "name":
            known = known_keys(section, value) if value in field.choices else set()
            self._change(lambda: self.draft.with_kind(section, value, known, self.aside))
        elif field.is_of_sweep:
            self._change(lambda: self.draft.with_sweep(last, value))
        elif value == field.default and type(value) is type(field.default):
            self._change(lambda: self.draft.without(field.key))
        else:
            self._change(lambda: self.draft.with_value(field.key, value))

    def do_default(self) -> None:
        if self._bring_form():
            return
        field = self.row().field
        if field is None:
            self.host.say("this is a section: its fields have defaults", "warn")
        elif field.is_of_sweep:
            self._change(lambda: self.draft.with_sweep(field.key.partition(".")[2], None))
        elif field.key in self.draft.sweep:
            self._change(lambda: self.draft.with_sweep(field.key, None))
        else:
            self._change(lambda: self.draft.without(field.key))

    def do_vary(self) -> None:
        if self._bring_form():
            return
        field = self.row().field
        if field is None or field.key == "name":
            self.host.say("this line cannot be varied: choose a field", "warn")
            return
        key = field.key.removeprefix(f"{SWEEP}.") if field.is_of_sweep else field.key
        values = self.draft.sweep.get(key)
        before = "" if values is None else shown(values).removeprefix("[").removesuffix("]")

        def take(text: str) -> None:
            if text == before:
                return
            try:
                read = typed(text if text[:1] in "[{" else f"[{text}]") if text else None
            except BadYaml as error:
                self.host.say(f"{text}: {one_line(str(error))}", "bad")
                return
            self._change(lambda: self.draft.with_sweep(key, read))

        self.ask(f"values of {key}", before, "8, 16, 32   or {from: 1.0e-5, to: 1.0e-3, scale: log}", take)

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
            self.editor = YamlEditor(
                self.draft.text, soft_wrap=False, tab_behavior="indent", classes="framed -active"
            )
            self.query_one("#right").mount(self.editor, before=0)
            self.editor.focus()
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
        if not self._may():
            return
        if self._queueing:
            self.host.say("it is being queued already", "warn")
        elif self.forecast and self.forecast.refusal:
            self.host.say(f"not queued: {one_line(self.forecast.refusal)}", "bad")
        else:
            count = self._count()
            what = (
                f"{count} runs of {one_line(self.draft.name)}"
                if count > 1
                else f"{one_line(self.draft.name)} as a new run"
            )
            self.host.confirm(f"Queue {what}?", self._queue)

    def _may(self) -> bool:
        """Whether the recipe can be read; says what is wrong with it."""
        for key, said in self.draft.problems.items():
            self.host.say(one_line(f"{key}: {said}" if key else said), "bad")
            return False
        return True

    def _queue(self) -> None:
        draft = self.draft
        named = () if draft.is_named else ("--name", draft.name)
        parent = ("--made-from", str(draft.parent)) if draft.parent else ()
        self._queueing = True
        self.host.say("checking the data …", keep=True)
        self.host.in_thread(
            lambda _: json.loads(self._run(draft, "run", "-", "--json", *named, *parent)[0])["runs"],
            self._queued,
            self._not_queued,
        )

    def _not_queued(self, sentence: str) -> None:
        self._queueing = False
        self.host.say(f"not queued: {one_line(sentence)}", "bad")

    def _queued(self, numbers: list[int]) -> None:
        self._forget()
        self.state.run_list.cursor = numbers[0]
        if self.is_attached:
            for _ in self.app.screen_stack[1:]:
                self.host.leave_screen()
        several = f"runs #{numbers[0]} to #{numbers[-1]} are" if len(numbers) > 1 else f"run #{numbers[0]} is"
        self.host.say(f"{several} queued", "good")

    def do_write(self) -> None:
        path = (
            self.draft.path
            if self.draft.path.is_file()
            else self.draft.path.with_name(f"{self.draft.name}.yaml")
        )
        self.ask("save as", str(path), "a .yaml file", self._write)

    def _write(self, text: str) -> None:
        path = (self.draft.path.parent / Path(text).expanduser()).absolute()
        if not text:
            self.host.say("nothing done")
        elif path.exists():
            self.host.confirm(f"Replace {path}?", lambda: self._save(path))
        else:
            self._save(path)

    def _save(self, path: Path) -> None:
        try:
            write_whole_file(path, self.draft.text)
        except OSError as error:
            self.host.say(f"{path} cannot be written ({error.strerror})", "bad")
            return
        self._forget()
        self.draft = replace(self.draft, path=path)
        self.fields = fields_of(self.draft)
        self.changed()
        self.host.say(f"saved {path}; queue it with a, or finetui run {path}", "good")

    def _forget(self) -> None:
        """It is somewhere else now, or is wanted no more."""
        self.unsaved = False
        self.host.remember(draft=None)

    def do_load(self) -> None:
        if self.unsaved:
            self.host.say("first a queue, w save, or esc: this recipe has changes", "warn")
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
            self.host.confirm("Quit? This recipe is not queued; A offers it next time.", self.host.quit)
        else:
            self.host.quit()

    def copies(self) -> Sequence[Answer]:
        row = self.row()
        yaml = Answer("r", "recipe", lambda: self.host.copy(self.draft.text, "the recipe"))
        if row.field is None or given(self.draft, row.field) is MISSING:
            return (yaml,)
        value = shown(given(self.draft, row.field))
        return (yaml, Answer("f", "field", lambda: self.host.copy(value, f"the value of {row.key}")))


def ask_for_file(screen: PanedScreen | Any, then: Callable[[Draft], None]) -> None:
    """Ask for the path of a recipe, and read it."""
    from engine.basics.errors import RecipeError

    def read(text: str) -> None:
        try:
            draft = from_file(Path(text).expanduser())
        except RecipeError as error:
            screen.host.say(one_line(str(error)), "bad")
        else:
            then(draft)

    screen.ask("recipe file", "", "path of a .yaml file", lambda text: read(text) if text else None)
