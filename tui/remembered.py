"""What is remembered from one session to the next, in `screen.json` of the home."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cached_property
from typing import Any

from finetui.files import read_json, write_json
from finetui.home import Home
from tui.lines.palettes import PALETTES
from tui.lines.theme import Glyphs
from tui.run_filter import SORTS, is_key
from tui.state import SMOOTHING, ChartView, State


class Remembered:
    """History of queries, saved ones, order of runs, how curves are drawn. What cannot be read is as if nothing were
    kept.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.path / "screen.json"
        self._lock = threading.RLock()  # a signal may come while it is held

    def read(self) -> dict[str, Any]:
        try:
            return read_json(self._path)
        except (OSError, ValueError):
            return {}

    def keep(self, **values: Any) -> None:
        """Keep something beside what is there; on disk when this returns. To lose it is no harm, so a full disk is
        no error.
        """
        with self._lock, suppress(OSError):
            write_json(self._path, {**self.read(), **values})
            self._path.chmod(0o600)

    def keep_session(
        self, state: State, ascii_only: bool, place: dict[str, Any] | None, panes: dict[str, Any]
    ) -> None:
        """How runs are sorted and grouped, curves drawn and panes arranged as the session ends, and the `place` where
        it was left. ASCII is the terminal's word, not the user's.
        """
        glyphs = {} if ascii_only else {"glyphs": state.view.glyphs.name}
        order = [state.run_list.sort, state.run_list.down]
        columns = list(state.run_list.columns)
        groups = state.run_list.by
        view = {"smooth": state.view.smooth, "log": state.view.log, **glyphs}
        self.keep(**view, sort=order, columns=columns, groups=groups, place=place, panes=panes)

    @cached_property
    def _before(self) -> dict[str, Any]:
        """What the session before has left, read once: the first paint waits for it."""
        return self.read()

    def place(self) -> object:
        """Where the last session was left, as its screen said."""
        return self._before.get("place")

    def panes(self) -> object:
        """How the first screen's panes were arranged, as it said."""
        return self._before.get("panes")

    def view(self, ascii_only: bool) -> ChartView:
        """How curves were drawn."""
        kept = self._before
        names = {glyphs.name: glyphs for glyphs in Glyphs}
        glyphs = Glyphs.ASCII if ascii_only else names.get(str(kept.get("glyphs")), Glyphs.BRAILLE)
        smooth = kept.get("smooth")
        level = smooth if isinstance(smooth, int) and 0 <= smooth < len(SMOOTHING) else ChartView().smooth
        return ChartView(glyphs=glyphs, smooth=level, log=kept.get("log") is True)

    def theme(self, configured: str) -> str:
        """The theme that was chosen on the screen, as long as config.toml says what it said then."""
        match self._before.get("theme"):
            case [str(name), str(said)] if name in PALETTES and said == configured:
                return name
        return configured

    def order(self) -> tuple[str, bool]:
        """The column by which the runs were sorted, and whether downwards."""
        match self._before.get("sort"):
            case [str(name), bool(down)] if name in (*SORTS, *self.columns()):
                return name, down
        return "#", True

    def columns(self) -> tuple[str, ...]:
        """The columns that the user chose beside the usual ones."""
        kept = self._before.get("columns")
        return (
            tuple(key for key in kept if isinstance(key, str) and is_key(key))
            if isinstance(kept, list)
            else ()
        )

    def groups(self) -> str:
        """What the runs were grouped by; empty: nothing."""
        by = self._before.get("groups")
        return by if isinstance(by, str) and is_key(by) else ""

    def draft(self) -> dict[str, Any] | None:
        """The recipe that was left in the form, neither queued nor saved."""
        match self.read().get("draft"):
            case {"text": str(text), "path": str(path), "name": str(name), "parent": int() | None as parent}:
                return {"text": text, "path": path, "name": name, "parent": parent}
        return None

    def queries(self) -> list[str]:
        """Queries of the SQL screen, the last one last."""
        kept = self.read().get("queries")
        return [text for text in kept if isinstance(text, str)] if isinstance(kept, list) else []

    def saved_queries(self) -> dict[str, str]:
        """Queries of the SQL screen that have a name."""
        kept = self.read().get("saved")
        if not isinstance(kept, dict):
            return {}
        return {name: sql for name, sql in kept.items() if isinstance(sql, str)}
