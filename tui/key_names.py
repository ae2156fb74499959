"""Names of keys: as Textual spells them, as people write them."""

from __future__ import annotations

import unicodedata

_SHOWN = {
    "vertical_line": "|", "slash": "/", "full_stop": ".", "comma": ",", "semicolon": ";",
    "colon": ":", "question_mark": "?", "escape": "esc", "plus": "+", "minus": "-",
    "equals_sign": "=", "left_square_bracket": "[", "right_square_bracket": "]", "down": "↓", "up": "↑",
    "left_curly_bracket": "{", "right_curly_bracket": "}", "left": "←", "right": "→", "shift+left": "shift+←",
    "shift+right": "shift+→", "less_than_sign": "<", "greater_than_sign": ">",
    "pagedown": "pgdn", "pageup": "pgup", "ctrl+j": "ctrl+enter", "ctrl+up": "ctrl+↑", "ctrl+down": "ctrl+↓",
    "apostrophe": "'", "quotation_mark": '"', "exclamation_mark": "!", "number_sign": "#", "dollar_sign": "$",
    "percent_sign": "%", "ampersand": "&", "left_parenthesis": "(", "right_parenthesis": ")", "asterisk": "*",
    "at": "@", "backslash": "\\", "circumflex_accent": "^", "underscore": "_", "grave_accent": "`", "tilde": "~",
}  # fmt: skip
_KEYS = {shown: key for key, shown in _SHOWN.items() if "+" not in key}
_NAMED = (
    "space", "enter", "tab", "escape", "backspace", "delete", "insert", "home", "end", "pageup", "pagedown",
    "up", "down", "left", "right", *(f"f{number}" for number in range(1, 25)),
)  # fmt: skip
_ALIASES = {
    "esc": "escape",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
    "pgup": "pageup",
    "pgdn": "pagedown",
}
_MODIFIERS = ("alt", "ctrl", "shift")  # in the order in which Textual writes them
# What a terminal sends for them is what it sends for another key.
_SAME = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+enter": "ctrl+j", "ctrl+left_square_bracket": "escape"}
# With these a line is written and changed, beside the characters themselves.
_EDITING = {"space", "enter", "backspace", "delete", "left", "right", "home", "end"}


def key_name(key: str) -> str:
    """A key as people write it."""
    return _SHOWN.get(key, key)


def parse(text: str) -> str | None:
    """The key that somebody has written, as Textual spells it; None if there is none of that name."""
    head, plus, base = text.strip().rpartition("+") if len(text.strip()) > 1 else ("", "", text)
    if plus and not base:  # ctrl++
        head, base = head.removesuffix("+"), "+"
    modifiers = {part.lower() for part in head.split("+")} if head else set()
    key = _base(base)
    if key is None or not modifiers <= set(_MODIFIERS):
        return None
    if len(key) == 1 and modifiers == {"shift"}:
        return key.upper()
    if len(key) == 1 and "ctrl" in modifiers:
        key = key.lower()
    whole = "+".join([*(one for one in _MODIFIERS if one in modifiers), key])
    return _SAME.get(whole, whole)


def _base(text: str) -> str | None:
    if text in _KEYS:
        return _KEYS[text]
    if len(text) == 1:
        named = unicodedata.name(text, "").lower().replace("-", "_").replace(" ", "_")
        return text if text.isalnum() else named or None
    name = text.lower()
    name = _ALIASES.get(name, name)
    return name if name in _NAMED or name in _SHOWN else None


def writes_text(key: str) -> bool:
    """Whether a line of text needs the key: it is typed, or changes the line."""
    return key in _EDITING or ("+" not in key and key not in _NAMED)
