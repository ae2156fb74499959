"""A new recipe from an old run: the recipe of a run with the first actions that answer its flags.

Reads the run's directory alone. Torch-free.
"""

from __future__ import annotations

import io
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from engine.basics.errors import FixError
from engine.client import preflight, submit
from engine.flags.actions import OF_METHOD, fix
from engine.flags.flag import Action, Flag
from engine.flags.words import newest
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.recipe.sections import Recipe
from engine.runs.events import events_of
from engine.runs.home import RunDir
from finetui.errors import first_line
from finetui.files import write_whole_file
from store import lines
from store.line_fields import body

if TYPE_CHECKING:
    from finetui.client import Client

CLIMBS = "data.replay.ratio"  # step by step, so it may be changed by one fix after another
WIDTH = 100  # of the comment above a recipe


@dataclass(frozen=True)
class Change:
    """A key of the recipe that becomes another one's value, and the flag that asks for it."""

    key: str
    old: str | None  # None: not there
    new: str | None
    flag: str
    level: str
    why: str
    source: str  # key of the literature list, or empty


@dataclass(frozen=True)
class Advice:
    """What is to be done by hand about a flag that no change answers."""

    flag: str
    level: str
    text: str
    source: str


@dataclass(frozen=True)
class Fix:
    """What became of a run's recipe; `file` is as if it had been read from a file."""

    run: int
    made_from: str  # name of the run
    changes: list[Change]  # empty: there is only advice
    advice: list[Advice]
    file: RecipeFile

    @property
    def recipe(self) -> Recipe:
        return self.file.recipes[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "made_from": self.made_from,
            "name": self.recipe.name,
            "changes": [vars(change) for change in self.changes],
            "advice": [vars(advice) for advice in self.advice],
            "recipe": self.file.text,
        }


def propose(run: RunDir) -> Fix:
    """The recipe that answers a run's flags. Raises FixError if it has none that ask for an answer, and RecipeError."""
    meta, old = _read(run)
    said = [_flag(line) for line in newest(map(body, events_of(run, lines.Flag)))]
    grave = [flag for flag in said if flag.level in ("warn", "critical")]
    if not grave:
        others = f" (only {', '.join(f'{flag.level}: {flag.flag}' for flag in said)})" if said else ""
        raise FixError(f"run #{run.number} has no flag that warns{others}, so there is nothing to fix")
    tree = old.model_dump(mode="json")
    chosen = fix(tree, grave, _tried(run, meta, old))
    advice = [
        Advice(flag.flag, flag.level, action.text, action.source)
        for flag in grave
        if not any(flag is answered for answered, _ in chosen)
        for action in flag.actions
    ]
    made_from = str(meta.get("name") or old.name or run.path.name)
    new = _changed(old, [action for _, action in chosen], _next_name(made_from))
    changes = list(_differences(old, new, chosen))
    text = _header(run.number, made_from, changes) + _yaml(new)
    path = Path(meta.get("recipe_path") or f"{new.name}.yaml")
    return Fix(run.number, made_from, changes, advice, recipe_file.parse(text, path))


def check(found: Fix) -> preflight.Report:
    """That the new recipe can run: its model, its data. Raises ModelError and DataError."""
    return preflight.check(found.recipe, found.file.path.parent)


def queue(client: Client, found: Fix, report: preflight.Report) -> int:
    """Queue it as a run that was made from the old one; its number. Raises StoreError."""
    (number,) = submit.submit(client, found.file, [report], parent=found.run)
    return number


def save(found: Fix, out: Path | None) -> Path:
    """Write the recipe to a new file: beside the one of the run if that is still there, else here. Raises FixError."""
    path = out or _free_path(found)
    try:
        path.touch(exist_ok=False)  # nobody else's file is written over
    except FileExistsError:
        raise FixError(f"{path} exists; name another file with -o") from None
    except OSError as error:
        raise FixError(f"{path} cannot be written ({error.strerror}); name another file with -o") from None
    try:
        write_whole_file(path, found.file.text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise FixError(f"{path} cannot be written ({error.strerror}); name another file with -o") from None
    return path


def _read(run: RunDir) -> tuple[dict[str, Any], Recipe]:
    try:
        meta = json.loads(run.meta.read_text())
        return meta, Recipe.model_validate(meta["recipe"])
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise FixError(f"{run.meta} cannot be read ({first_line(error)}); the run cannot be fixed") from None


def _tried(run: RunDir, meta: dict[str, Any], recipe: Recipe) -> set[str]:
    """Keys in which a run differs from the one that it was made from, that one from its own, and so on."""
    tried: set[str] = set()
    while meta.get("parent") is not None:
        paths = list(run.path.parent.glob(f"{meta['parent']:06d}-*"))
        if not paths:  # deleted
            break
        meta, parent = _read(RunDir(paths[0]))
        before, after = parent.flat(), recipe.flat()
        differ = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        tried |= {"method"} | (differ - set(OF_METHOD)) if "method.name" in differ else differ
        recipe = parent
    return tried - {CLIMBS}


def _flag(line: Mapping[str, Any]) -> Flag:
    """A flag from its line in the log; numbers that are null there are not known."""
    known = {field.name for field in fields(Flag) if field.init} - {"actions", "worst", "forecast"}
    values: dict[str, Any] = {key: math.nan if line[key] is None else line[key] for key in known}
    return Flag(**values, actions=tuple(Action(**action) for action in line["actions"] or []))


def _changed(old: Recipe, actions: list[Action], name: str) -> Recipe:
    tree = old.model_dump(mode="json") | {"name": name}
    changes = {key: value for action in actions for key, value in action.change.items()}
    if "method" in changes:  # a rate that is right for one method is wrong for another
        for key in OF_METHOD:
            del tree["train"][key.removeprefix("train.")]
    for key, value in changes.items():
        recipe_file.set_key(tree, key, {"name": value} if key == "method" else value)
    return Recipe.model_validate(tree)


def _differences(old: Recipe, new: Recipe, chosen: list[tuple[Flag, Action]]) -> Iterator[Change]:
    """Every key that differs, with the flag and the action that it comes from."""
    before, after = old.flat(), new.flat()
    of_method = next(((flag, action) for flag, action in chosen if "method" in action.change), None)
    for flag, action in chosen:
        for key in action.change:
            key = "method.name" if key == "method" else key
            yield Change(
                key, before.get(key), after.get(key), flag.flag, flag.level, action.text, action.source
            )
    told = {key for _, action in chosen for key in action.change} | {"name", "method.name"}
    for key in sorted((before.keys() | after.keys()) - told):
        if of_method and before.get(key) != after.get(key):
            flag, why = of_method[0], f"Comes with method {new.method.name}."
            yield Change(key, before.get(key), after.get(key), flag.flag, flag.level, why, "")


def _next_name(name: str) -> str:
    """`mine` → `mine-fix` → `mine-fix-2` → `mine-fix-3`."""
    if found := re.fullmatch(r"(.*-fix)(?:-(\d+))?", name):
        return f"{found[1]}-{int(found[2] or 1) + 1}"
    return f"{name}-fix"


def _header(run: int, name: str, changes: list[Change]) -> str:
    lines = [f"# Made by `finetui fix {run}` from run #{run} {name}:"]
    for (flag, why, source), same in groupby(changes, lambda one: (one.flag, one.why, one.source)):
        values = ", ".join(f"{one.key} {one.old or '(none)'} → {one.new or '(none)'}" for one in same)
        said = f"{values}, for {flag}: {why}" + (f" [{source}]" if source else "")
        lines += textwrap.wrap(
            said, WIDTH, initial_indent="# - ", subsequent_indent="#   ", break_long_words=False
        )
    return "\n".join(lines) + "\n"


def _yaml(recipe: Recipe) -> str:
    """The recipe without what is the default anyway."""
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10**6  # no line breaks inside a value
    yaml.dump(recipe.model_dump(mode="json", exclude_defaults=True), text)
    return text.getvalue()


def _free_path(found: Fix) -> Path:
    old = found.file.path
    ours = Path(str(files("recipes")))
    folder = old.parent if old.is_file() and not old.is_relative_to(ours) else Path.cwd()
    name = re.sub(r"[^\w.-]+", "-", str(found.recipe.name))
    paths = (folder / f"{name}{end}.yaml" for end in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in paths if not path.exists())
