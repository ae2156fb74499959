"""How a field of a draft is changed: to another choice, a typed value, the values of a sweep, or its default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.basics.safe_text import one_line
from engine.recipe.yaml_text import BadYaml
from tui.lines.cycle import following
from tui.lines.recipe_draft import MISSING, SWEEP, Draft, shown, typed
from tui.lines.recipe_fields import KINDS, Field, given, known_keys
from tui.screens.base import BaseScreen


class FieldChanges:
    """`draft()` is the one that is changed, and `take` gets the changed one."""

    def __init__(self, screen: BaseScreen, draft: Callable[[], Draft], take: Callable[[Draft], None]) -> None:
        self._screen, self._draft, self._take = screen, draft, take
        self._aside: dict[tuple[str, str], dict[str, Any]] = {}  # keys of methods and tasks that were left

    def cycle(self, field: Field | None, by: int) -> None:
        if field is None or not field.choices:
            self._screen.host.say(
                f"this line has no choices: {self._screen.key_of('open')} types a value", "warn"
            )
            return
        value = given(self._draft(), field)
        now = field.default if value is MISSING else value
        self._set(field, following(field.choices, now, by))

    def ask_for_value(self, field: Field) -> None:
        value = given(self._draft(), field)
        now = field.default if value is MISSING else value
        before = "" if now in (MISSING, None) else shown(now)

        def take(text: str) -> None:
            if text == before:
                return
            if not text:
                self.reset(field)
                return
            try:
                self._set(field, text if field.is_text else typed(text))
            except BadYaml as error:
                self._screen.host.say(f"{text}: {one_line(str(error))}", "bad")

        self._screen.ask(field.label, before, field.hint, take)

    def reset(self, field: Field | None) -> None:
        draft = self._draft()
        if field is None:
            self._screen.host.say("this is a section: its fields have defaults", "warn")
        elif field.is_of_sweep:
            self._change(lambda: draft.with_sweep(field.key.partition(".")[2], None))
        elif field.key in draft.sweep:
            self._change(lambda: draft.with_sweep(field.key, None))
        else:
            self._change(lambda: draft.without(field.key))

    def ask_for_sweep(self, field: Field | None) -> None:
        if field is None or field.key == "name":
            self._screen.host.say("this line cannot be varied: choose a field", "warn")
            return
        key = field.key.removeprefix(f"{SWEEP}.") if field.is_of_sweep else field.key
        values = self._draft().sweep.get(key)
        before = "" if values is None else shown(values).removeprefix("[").removesuffix("]")

        def take(text: str) -> None:
            if text == before:
                return
            try:
                read = typed(text if text[:1] in "[{" else f"[{text}]") if text else None
            except BadYaml as error:
                self._screen.host.say(f"{text}: {one_line(str(error))}", "bad")
                return
            self._change(lambda: self._draft().with_sweep(key, read))

        hint = "8, 16, 32   or {from: 1.0e-5, to: 1.0e-3, scale: log}"
        self._screen.ask(f"values of {key}", before, hint, take)

    def _set(self, field: Field, value: Any) -> None:
        """A value that is the default need not stand in the recipe."""
        draft = self._draft()
        section, _, last = field.key.partition(".")
        if section in KINDS and last == "name":
            known = known_keys(section, value) if value in field.choices else set()
            self._change(lambda: draft.with_kind(section, value, known, self._aside))
        elif field.is_of_sweep:
            self._change(lambda: draft.with_sweep(last, value))
        elif value == field.default and type(value) is type(field.default):
            self._change(lambda: draft.without(field.key))
        else:
            self._change(lambda: draft.with_value(field.key, value))

    def _change(self, make: Callable[[], Draft]) -> None:
        """Change a field; where the YAML cannot be read there is none to change."""
        try:
            self._take(make())
        except BadYaml as error:
            yaml, undo = self._screen.key_of("yaml"), self._screen.key_of("undo")
            said = f"{one_line(str(error))}: {yaml} edits the YAML, {undo} takes it back"
            self._screen.host.say(said, "bad")
