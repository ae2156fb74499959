"""What is learned of a draft before it is queued: finetui's own commands are asked about it, in the background."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from tui import commands
from tui.lines.recipe_draft import Draft
from tui.screens.base import BaseScreen
from tui.widgets.forecast import Forecast

PAUSE_S = 0.6  # after a change, before the recipe is checked


class DraftCheck:
    """`draft()` is the latest; `settled()` is called after a pause of the changes, `learned()` at each answer."""

    def __init__(
        self,
        screen: BaseScreen,
        draft: Callable[[], Draft],
        settled: Callable[[], None],
        learned: Callable[[], None],
    ) -> None:
        self.forecast: Forecast | None = None  # None while nothing is known
        self._screen, self._draft, self._settled, self._learned = screen, draft, settled, learned
        self._timer: Any = None
        self._checking = False

    def restart(self) -> None:
        """The draft is another one: what was known of it is forgotten."""
        self.forecast = None
        self.soon()

    def soon(self) -> None:
        if self._timer:
            self._timer.stop()
        self._timer = self._screen.set_timer(PAUSE_S, self._check)

    def _check(self) -> None:
        """One check at a time, then one of the latest draft."""
        self._settled()
        draft = self._draft()
        if self._checking or draft.problems or self.forecast is not None:
            return
        self._checking = True
        self._ask(draft, Forecast(), "estimate")

    def _ask(self, draft: Draft, known: Forecast, command: Literal["estimate", "check"]) -> None:
        """Add to what is known what a command says of the draft; the estimate, which is quick, comes first."""
        host = self._screen.host

        def then(printed: tuple[str, list[str]]) -> None:
            self._answered(draft, replace(known, **{command: json.loads(printed[0])}), command)

        def failed(sentence: str) -> None:
            self._answered(draft, replace(known, refusal=sentence), "check")

        host.in_thread(
            lambda _: commands.run(
                host.home, command, "-", "--json", stdin=draft.text, folder=draft.path.parent
            ),
            then,
            failed,
        )

    def _answered(self, draft: Draft, known: Forecast, command: str) -> None:
        if draft.text != self._draft().text:
            self._checking = False
            self.soon()
            return
        self.forecast = known
        self._learned()
        if command == "estimate":
            self._ask(draft, known, "check")
        else:
            self._checking = False
