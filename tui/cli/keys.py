"""`finetui keys`: the keys of the screen as they are, with the names that config.toml has for what they do."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import typer

from finetui.home import home
from tui import bindings, preferences
from tui.bindings import BINDINGS, SCREENS
from tui.cli.output import print_json, print_table, say
from tui.key_names import key_name
from tui.keymap import ROOMS, config_name


@dataclass(frozen=True)
class Listed:
    """An action on one screen; `default` are its keys where they are not those in force."""

    screen: str
    action: str
    keys: str
    default: str
    does: str


def keys(screen: str | None, *, as_json: bool) -> None:
    """List them, of all screens or one, and say what config.toml has in vain."""
    if screen not in (None, *ROOMS):
        raise typer.BadParameter(f"there is no screen {screen}; one of {', '.join(ROOMS)}")
    read = preferences.read(home())
    bindings.use(read.keys)
    listed = [one for room in ROOMS if screen in (None, room) for one in _of(room)]
    if as_json:
        print_json([asdict(one) for one in listed])
    else:
        print_table([asdict(one) for one in listed])
    for problem in read.problems:
        say(f"problem: {home().path}/{problem}")


def _of(room: str) -> list[Listed]:
    pairs = zip(bindings.bindings_of(room), bindings.defaults_of(room), strict=True)
    return [
        Listed(room, config_name(now), _names(now.keys), _names(was.keys) if was != now else "", now.help)
        for now, was in pairs
    ]


def _names(keys: tuple[str, ...]) -> str:
    return " ".join(map(key_name, keys))


INTRO = """# Keys

Generated from `tui/bindings.py`. `?` shows the same inside the app, `finetui keys` on the command line. Keys of your
own are a table of `config.toml` in the home, by the names below; for an action wherever it is, or on one screen:

```toml
[keys]
cancel = "ctrl+x"
quit = ["q", "Q"]
run.search = "f7"
```

`esc`, `ctrl+q` and `ctrl+p`, which opens the palette of commands, keep what they do. So do the letters of a
question with several answers, which stand in it.
"""


def keys_markdown() -> str:
    """docs/keys.md: one table a screen."""
    parts = [INTRO]
    for screen, title in SCREENS.items():
        rows = [binding for binding in BINDINGS if binding.screens[0] == screen]
        if not rows:
            continue
        name = f" (`{screen}`)" if screen in ROOMS else ""
        parts.append(f"## {title}{name}\n\n| key | action | name | also on |\n|---|---|---|---|")
        for binding in rows:
            shown = " ".join(f"`{key_name(key)}`" for key in binding.keys).replace("|", "\\|")
            others = ", ".join(SCREENS[name].lower() for name in binding.screens[1:])
            parts.append(f"| {shown} | {binding.help} | `{config_name(binding)}` | {others} |")
        parts.append("")
    return "\n".join(parts)
