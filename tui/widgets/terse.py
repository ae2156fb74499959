"""The same cells with fewer bytes: a style is written where it changes, and only what of it changes.

Rich writes every piece of a line with its whole style before it and a reset behind it. Of a live dashboard's bytes four
fifths are such codes, nearly all of which say again what holds already.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

# A style (SGR), a place for the cursor (CUP, CUF), any other control sequence.
_CONTROL = re.compile(
    r"\x1b\[([0-9;]*)m|(\x1b\[\d*;?\d*[HC])|(\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)))"
)


class _Style(NamedTuple):
    foreground: str = "39"
    background: str = "49"
    attributes: frozenset[str] = frozenset()


_PLAIN = _Style()


def terse(written: str) -> str:
    """What has the same effect on a terminal whose style is the default one, and leaves it so."""
    parts: list[str] = []
    shown = wanted = _PLAIN
    at = 0
    for control in _CONTROL.finditer(written):
        if text := written[at : control.start()]:
            parts += [_change(shown, wanted), text]
            shown = wanted
        at = control.end()
        codes, place, other = control.groups()
        if codes is not None:
            wanted = _styled(wanted, codes)
        elif place:
            parts.append(place)
        else:  # it may erase, which fills with the background
            parts += [_change(shown, wanted), other]
            shown = wanted
    if text := written[at:]:
        parts += [_change(shown, wanted), text]
        shown = wanted
    return "".join(parts) + ("" if shown == _PLAIN else "\x1b[0m")


@lru_cache(maxsize=4096)
def _styled(before: _Style, codes: str) -> _Style:
    """The style after the codes of one sequence."""
    style, words = before, codes.split(";") if codes else ["0"]
    while words:
        code = words.pop(0)
        if code in ("38", "48"):
            count = 4 if words[:1] == ["2"] else 2  # 2;r;g;b or 5;n
            color = ";".join([code, *words[:count]])
            del words[:count]
            style = style._replace(foreground=color) if code == "38" else style._replace(background=color)
        elif code in ("", "0"):
            style = _PLAIN
        elif len(code) == 2 and code[0] in "39":
            style = style._replace(foreground=code)
        elif (len(code) == 2 and code[0] == "4") or code.startswith("10"):
            style = style._replace(background=code)
        else:
            style = style._replace(attributes=style.attributes | {code})
    return style


@lru_cache(maxsize=4096)
def _change(shown: _Style, wanted: _Style) -> str:
    """The shortest way from one style to another. Attributes are only ever taken back by a reset, as Rich does it."""
    if shown == wanted:
        return ""
    codes = []
    if shown.attributes - wanted.attributes or wanted == _PLAIN:
        codes, shown = ["0"], _PLAIN
    codes += sorted(wanted.attributes - shown.attributes)
    codes += [wanted.foreground] * (wanted.foreground != shown.foreground)
    codes += [wanted.background] * (wanted.background != shown.background)
    return f"\x1b[{';'.join(codes)}m"
