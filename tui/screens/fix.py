"""What would answer a run's flags: the changes of its recipe with their reasons, to be queued or saved."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from textual.app import ComposeResult

from engine.basics.safe_text import one_line
from finetui.home import Home
from tui import commands
from tui.lines.scroll import Scroll
from tui.lines.text import Line, flow, folded, wrap
from tui.screens.base import BaseScreen
from tui.widgets.panel import Panel


class FixScreen(BaseScreen, inherit_bindings=False):
    """`finetui fix` with keys. The work is the command's own, so that the screen reads no logs and no data."""

    room = "fix"

    def __init__(self, number: int, name: str) -> None:
        super().__init__()
        self.number, self.name_of_run = number, name
        self.fix: dict[str, Any] | None = None
        self.trouble = ""  # why there is nothing to show
        self.scroll = Scroll()

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_fix, id="fix", classes="framed", title="New recipe")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        self.host.in_thread(
            lambda _: command(self.host.home, self.number, "--dry-run"), self.show_fix, self.show_trouble
        )

    def show_fix(self, fix: dict[str, Any]) -> None:
        self.fix = fix
        self.changed()

    def show_trouble(self, sentence: str) -> None:
        self.trouble = sentence
        self.changed()

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        return [(f" fix #{self.number} {one_line(self.name_of_run)}", "bright")]

    def paint_fix(self, width: int, height: int) -> list[Line]:
        if self.trouble:
            return [[(line, "bad")] for line in wrap(one_line(self.trouble), width)]
        if self.fix is None:
            return [[("reading the run's flags …", "dim")]]
        lines = lines_of(self.fix, width)
        return self.scroll.view(lines, height)

    # ---- keys -----------------------------------------------------------------------------------

    def do_add(self) -> None:
        if self._ready():
            self.host.confirm(
                f"Queue {self._new_name()} as a new run?", lambda: self._do("checking the data …", "--add")
            )

    def do_write(self) -> None:
        if self._ready():
            self.host.confirm(
                f"Save the recipe of {self._new_name()}?", lambda: self._do("checking the data …")
            )

    def do_to_form(self) -> None:
        """The new recipe in a form, to be changed before it is queued."""
        if not self._ready():
            return
        assert self.fix is not None
        from tui.lines.recipe_draft import Draft
        from tui.screens.new_run import NewRunScreen

        draft = Draft(self.fix["recipe"], Path.cwd() / f"{self.fix['name']}.yaml", self.number)
        self.host.open_screen(NewRunScreen(draft.plain()))

    def do_scale(self) -> None:
        def begin() -> None:
            from tui.screens.scale import ScaleScreen

            self.host.open_screen(ScaleScreen(self.number, self.name_of_run))

        self.host.confirm(
            f"Score run #{self.number} at factors from 0 to 1? It takes minutes and trains nothing.", begin
        )

    def _new_name(self) -> str:
        return one_line(str(self.fix and self.fix["name"]))

    def _ready(self) -> bool:
        if self.fix and self.fix["changes"]:
            return True
        nothing = "no key of the recipe answers these flags: what to do is by hand"
        self.host.say(nothing if self.fix else self.trouble or "the run's flags are still being read", "warn")
        return False

    def _do(self, meanwhile: str, *words: str) -> None:
        self.host.say(meanwhile, keep=True)
        self.host.in_thread(lambda _: command(self.host.home, self.number, *words), self._done)

    def _done(self, made: dict[str, Any]) -> None:
        if self.is_current:
            self.host.leave_screen()
        queued = [
            f"run #{run['run']} {self._new_name()} is queued, made from #{self.number}"
            for run in made["queued"]
        ]
        self.host.say(queued[0] if queued else f"saved {made['path']}", "good")

    def move(self, by: int) -> None:
        self.scroll.move(by)
        self.update_panels()


def command(home: Home, number: int, *words: str) -> dict[str, Any]:
    """What `finetui fix NUMBER --json …` prints. Raises StoreError with what it complains of."""
    printed, _ = commands.run(home, "fix", str(number), "--json", *words)
    return dict(json.loads(printed))


def lines_of(fix: dict[str, Any], width: int) -> list[Line]:
    """The changes with their reasons, what is left to do by hand, and the new recipe."""
    lines: list[Line] = []
    for first in (advice for advice in fix["advice"] if _comes_first(advice)):
        lines += [
            [("s  ", "title"), (first["command"], "good"), (f"  for {first['level']} {first['flag']}", "dim")]
        ]
        lines += [[("  ", ""), (line, "dim")] for line in wrap(_cited(first, "text"), width - 2)]
        lines += [[("  ", ""), (line, "text")] for line in wrap(one_line(first["foretold"]), width - 2)]
        lines.append([])
    for _, same in groupby(fix["changes"], lambda change: (change["flag"], change["why"])):
        for change in (group := list(same)):
            values: Line = [
                (one_line(change["old"] or "–"), "text"),
                (" → ", "dim"),
                (one_line(change["new"] or "–"), "good"),
            ]
            why = (f"  for {change['level']} {change['flag']}", "dim")
            lines += flow([(f"{change['key']}  ", "title"), *values, why], width)
        lines += [[("  ", ""), (line, "dim")] for line in wrap(_cited(group[0], "why"), width - 2)]
        lines += [
            [("  ", ""), (line, "text")] for line in wrap(one_line(group[0].get("foretold", "")), width - 2)
        ]
    by_hand = [advice for advice in fix["advice"] if not _comes_first(advice)]
    for flag in dict.fromkeys((advice["level"], advice["flag"]) for advice in by_hand):
        lines += [[], [(f"By hand, for {' '.join(flag)}", "title")]]
        for advice in by_hand:
            if (advice["level"], advice["flag"]) == flag:
                foretold = f" {one_line(advice['foretold'])}" if advice.get("foretold") else ""
                wrapped = wrap(_cited(advice, "text") + foretold, width - 4)
                lines += [
                    [("  → " if at == 0 else "    ", "warn"), (line, "text")]
                    for at, line in enumerate(wrapped)
                ]
    if fix["changes"]:
        recipe = [line for line in fix["recipe"].splitlines() if not line.startswith("#")]
        lines += [[], *([(line, "title")] for line in wrap(f"The recipe of {one_line(fix['name'])}", width))]
        lines += [[(part, "text")] for line in recipe for part in folded(one_line(line), width)]
    return lines


def _comes_first(advice: dict[str, Any]) -> bool:
    """Whether it needs no new run, and is not known to be not worth it."""
    return bool(advice.get("command")) and advice.get("worth") is not False


def _cited(advice: dict[str, Any], key: str) -> str:
    text = one_line(advice[key])
    return f"{text} [{advice['source']}]" if advice["source"] else text
