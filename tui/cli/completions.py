"""What a shell completes the words of a command with: read from the home's files, so that no daemon is needed.

A shell evaluates some of this (zsh), and asks at every press of tab: words of letters and a few signs alone, nothing
heavy imported, and silence where a file cannot be read. Every command imports this for its arguments, so each function
imports for itself what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

Word = tuple[str, str]  # and what it is, which zsh and fish show

MOST_RUNS = 200  # offered, the latest first
LOG_BYTES = 4 << 20  # of a run's log that are read for the names of its metrics
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)
_FILTERS = ("state:", "tag:", "group:", "method=", "model=", "sweep:")
_USUAL_METRICS = (
    "train/loss",
    "heldout/loss",
    "general/loss",
)  # of every recipe, where no log says which there are


def runs(incomplete: str) -> list[Word]:
    """Numbers of runs, with their names."""
    chosen = [
        (number, path.name.split("-", 1)[1]) for number, path in _runs() if number.startswith(incomplete)
    ]
    return chosen[:MOST_RUNS]


def runs_or_filter(incomplete: str) -> list[Word]:
    """Numbers of runs, and what a filter may say."""
    from store.states import RunState

    if incomplete.startswith("state:"):
        return [(f"state:{state}", state.meaning) for state in RunState]
    if incomplete.startswith("group:"):
        return [(f"group:{name}", "") for name, _ in groups()]
    return [*runs(incomplete), *((word, "") for word in _FILTERS)]


def groups() -> list[Word]:
    """The groups of config.toml, and how many of each run at a time."""
    import tomllib

    from finetui.home import home

    with suppress(OSError, ValueError):
        config = tomllib.loads(home().config.read_text())
        if isinstance(named := config.get("groups"), dict):
            return [
                (str(name), f"{most} at a time")
                for name, most in named.items()
                if _PLAIN.fullmatch(str(name))
            ]
    return []


def groups_or_none() -> list[Word]:
    """The groups, and the word that takes a run out of its own."""
    return [*groups(), ("none", "no group")]


def metrics(context: typer.Context) -> list[Word]:
    """The metrics that the runs named before have, or the latest run."""
    # Before an option whose value is being typed, they are not told from other words yet.
    named = {str(word) for word in (*(context.params.get("numbers") or ()), *context.args)}
    directories = [path for number, path in _runs() if number in named or not named]
    found = dict.fromkeys(name for path in directories[: len(named) or 1] for name in _metrics_of(path))
    return [(name, "") for name in found or _USUAL_METRICS]


def changes(incomplete: str) -> list[Word]:
    """Keys of a recipe, and behind `=` the values that such a key may have."""
    key, equals, _ = incomplete.partition("=")
    keys = _recipe_keys()
    if not equals:
        return [(f"{name}=", description) for name, (_, description) in keys.items()]
    values, _ = keys.get(key, ((), ""))
    return [(f"{key}={value}", "") for value in values]


# ---- the home ------------------------------------------------------------------------------------------


def _runs() -> list[tuple[str, Path]]:
    """The runs of the home by number, the latest first."""
    from finetui.home import home
    from store.paths import RUN_NAME

    with suppress(OSError):
        directory = home().runs
        names = [match for path in directory.iterdir() if (match := RUN_NAME.fullmatch(path.name))]
        names.sort(key=lambda match: int(match[1]), reverse=True)
        return [(match[1], directory / match[0]) for match in names]
    return []


def _metrics_of(directory: Path) -> Iterator[str]:
    """Names of metrics, from the beginning of a run's logs."""
    for log in sorted(directory.glob("attempts/*/events.jsonl")):
        with suppress(OSError), log.open("rb") as file:
            for line in file.read(LOG_BYTES).splitlines():
                yield from filter(_PLAIN.fullmatch, _metrics_in(line))


def _metrics_in(line: bytes) -> Iterable[str]:
    import json

    try:
        said = json.loads(line)
    except ValueError:  # not whole yet
        return ()
    values = said.get("values") if isinstance(said, dict) else None
    if not isinstance(values, dict):
        return ()
    suite = f"{said.get('suite')}/" if said.get("kind") == "eval" else ""
    return [f"{suite}{name}" for name in values]


# ---- recipes -------------------------------------------------------------------------------------------


def _recipe_keys() -> dict[str, tuple[list[str], str]]:
    """The keys of a recipe, with their values where a type lists them, and what they are."""
    from engine.bundled.catalogue import NAMES
    from engine.recipe.recipe_file import SHORT
    from engine.recipe.sections import Recipe

    keys: dict[str, tuple[list[str], str]] = {}
    for key, field in _fields(Recipe, ""):
        values, description = keys.get(key, ([], field.description or ""))
        keys[key] = (list(dict.fromkeys([*values, *_values(field.annotation)])), description)
    for kind, of_kind in (
        ("model", ("model.path",)),
        ("data", ("data.train", "data.heldout", "data.replay.source")),
    ):
        for key in of_kind:
            keys[key][0].extend(f"bundled:{name}" for name in NAMES[kind])
    for section, key in SHORT.items():
        keys[section] = (keys[f"{section}.{key}"][0], keys[section][1])
    return keys


def _fields(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    from engine.recipe.annotations import models_in

    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        for inner in models_in(field.annotation):
            yield from _fields(inner, f"{prefix}{name}.")


def _values(annotation: Any) -> Iterator[str]:
    """The values that a type lists: of `Literal`, and of true and false."""
    from engine.recipe.annotations import plain

    for one in plain(annotation):
        if one is bool:
            yield from ("true", "false")
        elif get_origin(one) is Literal:
            yield from map(str, get_args(one))
