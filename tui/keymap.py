"""`[keys]` of config.toml: keys of your own for the actions of the binding table. What is wrong changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tui.bindings import BINDINGS, SCREENS, Binding, defaults_of, is_fixed
from tui.key_names import key_name, parse, writes_text

Keys = tuple[str, ...]
ROOMS = tuple(screen for screen in SCREENS if screen != "all")
# On these screens letters are typed. In the editor of SQL only what is not about results or tables has to be at hand.
TYPING: Mapping[str, tuple[str, ...]] = {
    "help": tuple(one.action for one in BINDINGS if "help" in one.screens),
    "sql": ("execute", "older", "newer", "queries", "save_query", "describe", "next_pane", "previous_pane", "help",
            "jump", "stop", "suspend"),
    "line": ("take", "complete", "suspend"),
    "editor": ("complete", "suggest", "new_line"),
}  # fmt: skip
TAKEN = {"ctrl+q": "quits from everywhere", "ctrl+p": "opens the palette"}
MOST_NAMED = 8  # names that a sentence lists


@dataclass(frozen=True)
class Entry:
    """A line of the table: the keys of an action, on one screen or on all that have it."""

    name: str  # as it is written
    screens: Keys
    action: str
    keys: Keys


def config_name(binding: Binding) -> str:
    """An action as config.toml has it: `pane(1)` is `pane1`."""
    return binding.action.replace("(", "").replace(")", "")


def read(table: object) -> tuple[dict[tuple[str, str], Keys], list[str]]:
    """The keys that differ from the binding table, by screen and action; and a sentence for each entry that changes
    nothing, because it cannot.
    """
    if not isinstance(table, dict):
        return {}, [f"key keys: a table of actions and their keys is needed (got {table!r})"]
    entries, problems = [], []
    for name, value in _flat(table):
        try:
            entries.append(_entry(name, value))
        except ValueError as error:
            problems.append(f"key keys.{name}: {error}")
    while clash := _clash(entries):
        entry, sentence = clash
        entries.remove(entry)
        problems.append(f"key keys.{entry.name}: {sentence}")
    return _changed(entries), problems


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """`run.cancel` is the same with and without quotes."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{action}", keys) for action, keys in value.items())
        else:
            yield name, value


def _entry(name: str, value: object) -> Entry:
    """Raises ValueError with what is wrong with it, and what to do."""
    screen, _, action = name.rpartition(".")
    if screen and screen not in ROOMS:
        raise ValueError(f"there is no screen {screen}; {_near(screen, ROOMS)}")
    rooms = (screen,) if screen else ROOMS
    named = {config_name(one): one.action for room in rooms for one in defaults_of(room) if not is_fixed(one)}
    if action not in named:
        where = f" on the screen {screen}" if screen else ""
        raise ValueError(f"there is no action {action}{where}; {_near(action, tuple(named))}")
    action = named[action]
    screens = tuple(room for room in rooms if any(one.action == action for one in defaults_of(room)))
    entry = Entry(name, screens, action, _keys(value))
    _check_reserved(entry)
    return entry


def _near(name: str, names: Keys) -> str:
    if matches := difflib.get_close_matches(name, names, n=1):
        return f"did you mean `{matches[0]}`?"
    listed = f"one of {', '.join(names)}" if len(names) <= MOST_NAMED else ""
    return listed or "finetui keys lists them"


def _keys(value: object) -> Keys:
    written: list[Any] = value if isinstance(value, list) else [value]
    if not written or not all(isinstance(one, str) for one in written):
        raise ValueError(f"a key or a list of keys is needed, as text (got {value!r})")
    keys = {one: parse(one) for one in written}
    if odd := [one for one, key in keys.items() if key is None]:
        raise ValueError(f"there is no key {odd[0]!r}: write x, X, ?, f5, enter, space, ctrl+x, shift+tab")
    return tuple(dict.fromkeys(key for key in keys.values() if key))


def _check_reserved(entry: Entry) -> None:
    """Raises ValueError where one could not leave any more, or could not write."""
    for key in entry.keys:
        if key in TAKEN:
            raise ValueError(f"{key} {TAKEN[key]}; choose another key")
    if entry.action == "back" and "escape" not in entry.keys:
        raise ValueError('esc has to lead back as well; add it: ["esc", …]')
    if entry.action != "back" and "escape" in entry.keys:
        raise ValueError("esc leads back; choose another key")
    for screen in entry.screens:
        if entry.action in TYPING.get(screen, ()) and all(map(writes_text, entry.keys)):
            shown = " ".join(map(key_name, entry.keys))
            raise ValueError(
                f"on the screen {screen} {shown} is needed for text; add a key such as f6 or ctrl+x"
            )


def _changed(entries: list[Entry]) -> dict[tuple[str, str], Keys]:
    """An entry for one screen goes before one for all."""
    ordered = sorted(entries, key=lambda entry: "." in entry.name)
    return {(screen, entry.action): entry.keys for entry in ordered for screen in entry.screens}


def _clash(entries: list[Entry]) -> tuple[Entry, str] | None:
    """The first entry that gives a key to two actions of one screen, and the sentence that says so."""
    changed = _changed(entries)
    for screen in ROOMS:
        owners: dict[str, Binding] = {}
        for binding in defaults_of(screen):
            keys = binding.keys if is_fixed(binding) else changed.get((screen, binding.action), binding.keys)
            for key in keys:
                other = owners.setdefault(key, binding)
                if other is binding:
                    continue
                both = (binding.action, other.action)
                mine = [one for one in entries if screen in one.screens and one.action in both]
                entry = max(mine, key=lambda one: ("." in one.name, entries.index(one)))
                rest = config_name(other if entry.action == binding.action else binding)
                said = f"on the screen {screen} {key_name(key)} is also {rest}"
                return entry, f"{said}; choose another key for one of them"
    return None
