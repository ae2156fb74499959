"""What config.toml of the home says of the screen: keys and colours. The daemon reads the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from finetui.files import open_regular
from finetui.home import Home
from tui.lines.palettes import DARK, PALETTES


class Preferences(NamedTuple):
    """`problems`: a sentence for each line that says what cannot be; the default stays in its place."""

    keys: Mapping[tuple[str, str], tuple[str, ...]] = {}
    theme: str = DARK.name
    problems: tuple[str, ...] = ()


def read(home: Home) -> Preferences:
    """The defaults where there is no file, or one that nobody can read: the daemon says so."""
    try:
        with open_regular(home.config) as file:
            text = file.read(1 << 20).decode()
    except (OSError, ValueError):
        return Preferences()
    import tomllib

    try:
        body = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return Preferences(problems=(f"config.toml: not valid TOML: {error}",))
    keys: dict[tuple[str, str], tuple[str, ...]] = {}
    problems: list[str] = []
    if "keys" in body:
        from tui import keymap

        keys, problems = keymap.read(body["keys"])
    name = body.get("theme", DARK.name)
    if not isinstance(name, str) or name not in PALETTES:
        problems.append(f"key theme: there is no theme {name!r}; one of {', '.join(PALETTES)}")
        name = DARK.name
    return Preferences(keys, name, tuple(f"config.toml, {problem}" for problem in problems))
