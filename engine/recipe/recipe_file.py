"""From a YAML file to recipes: overrides, sweeps, and one sentence about each error.

A recipe may come from anywhere. Refused before it is read are characters that YAML does not allow, more values than any
recipe has, aliases written out, and deeper ones (engine/recipe/yaml_text.py).
"""

from __future__ import annotations

import copy
import difflib
import io
import json
import re
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from engine.basics.errors import RecipeError
from engine.basics.safe_text import one_line
from engine.recipe import yaml_text
from engine.recipe.annotations import models_in
from engine.recipe.command import Command
from engine.recipe.kinds import COMMAND, LONGEST_NAME, is_command
from engine.recipe.margins import OnForgetting, SliceMargins
from engine.recipe.methods import DEFAULT_LR
from engine.recipe.sections import Recipe
from engine.recipe.sweep import BadSweep, Sweep, short_names
from engine.recipe.sweep import read as read_sweep
from engine.recipe.yaml_text import BadYaml

T = TypeVar("T", bound=BaseModel)

STDIN = Path("-")
MOST_SENTENCES = 20  # about one recipe
# Sections that a name alone stands for, and the key that it stands for.
SHORT = {
    "model": "path",
    "method": "name",
    "task": "name",
    "flags.forgetting": "do",
    "flags.overfitting": "do",
}
SHOWN = 60  # characters of a key or a value in a sentence, or in the name of a run


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file as read: its text, and its recipes (several when it has a sweep) or its command."""

    path: Path
    text: str
    holds: list[Recipe] | Command
    sweep: Sweep | None = None
    section: dict[str, Any] | None = None  # the sweep, as the file has it
    values: list[dict[str, Any]] | None = None  # what the sweep gave each recipe, by key
    tree: dict[str, Any] | None = None  # of a sweep: what the file says of all its recipes

    @property
    def more_to_come(self) -> int:
        """Return how many runs of the sweep have no recipe yet: their values follow from results."""
        return (self.sweep.runs or 0) - len(self.recipes) if self.sweep and self.sweep.search == "tpe" else 0

    @property
    def recipes(self) -> list[Recipe]:
        """Return the recipes. Raises RecipeError for the file of a command."""
        if isinstance(self.holds, Command):
            raise RecipeError(
                f"{self.path}: it has a command; that can be checked, run, cloned and edited, no more"
            )
        return self.holds

    @property
    def command(self) -> Command | None:
        """Return the command, where the file has one."""
        return self.holds if isinstance(self.holds, Command) else None


def read(path: Path, overrides: list[str] | None = None) -> RecipeFile:
    """Read, override (`key=value`), expand the sweep, validate. `-` is what stands on stdin. Raises RecipeError."""
    if path == STDIN:
        try:
            return parse(sys.stdin.read(yaml_text.MOST_CHARACTERS + 1), Path("stdin.yaml"), overrides)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"stdin: cannot be read ({error})") from None
    return parse(read_text(path), path, overrides)


def read_text(path: Path) -> str:
    """Return the text of a recipe file, whatever it says. Raises RecipeError."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(yaml_text.MOST_CHARACTERS + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such recipe; give the path of a .yaml file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None


def parse(text: str, path: Path, overrides: list[str] | None = None) -> RecipeFile:
    """Do as `read` for a text already in memory; `path`: for messages and for the default name. Raises RecipeError."""
    try:
        tree = yaml_text.load(text, lines=True)
    except BadYaml as error:
        where = f"{path}, line {error.line}" if error.line else f"{path}"
        raise RecipeError(f"{where}: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with at least `model`, `method` and `data`")
    from_command_line = {_override(tree, item) for item in overrides or []}
    if is_command(tree):
        return _of_command(tree, text, path, from_command_line)
    return expand(tree, path, text, from_command_line=from_command_line)


def expand(
    tree: Any,
    path: Path,
    text: str = "",
    *,
    from_command_line: Set[str] = frozenset(),
    runs: int | None = None,
    skip: int = 0,
) -> RecipeFile:
    """Return the recipes of a mapping, one for each combination of its sweep that needs no results. `runs`: so many are
    drawn, if not as many as the sweep says, of which the first `skip` are left out. Raises RecipeError.
    """
    section = tree.pop("sweep", None) or {}
    try:
        sweep = read_sweep(section)
        first = sweep.initial_runs(sweep.runs) if sweep.runs else None
        combinations = list(sweep.combinations(runs or first))[skip:]
    except BadSweep as bad:
        key = f"sweep.{bad.key}" if bad.key else "sweep"
        raise RecipeError(_of_sweep(section, bad, path), {key: bad.sentence}) from None
    tree.setdefault("name", path.stem)
    if len(str(tree["name"])) > LONGEST_NAME:
        raise RecipeError(f"{path}, key name: longer than {LONGEST_NAME} characters; give a shorter one")
    plain = _to_plain(tree)
    values = [dict(zip(sweep.keys, map(_to_plain, one), strict=True)) for one in combinations]
    recipes = [with_values(tree, one, path, from_command_line) for one in values]
    if not sweep.keys:
        return RecipeFile(path, text, recipes)
    return RecipeFile(path, text, recipes, sweep, _to_plain(section), values, plain)


def with_values(
    tree: Any, values: Mapping[str, Any], path: Path, from_command_line: Set[str] = frozenset()
) -> Recipe:
    """Return the recipe that a mapping is with these values of a sweep, which its name then has. Raises RecipeError."""
    name = tree.get("name")
    for key, value in values.items():
        set_key(tree, key, copy.deepcopy(value))  # another key may be one inside it
    if values and "name" not in values and isinstance(name, str):
        settings = map(_setting, short_names(list(values)), values.values())
        tree["name"] = " ".join([name, *settings])
    recipe = _validate(Recipe, tree, path, from_command_line)
    if isinstance(name, str):
        tree["name"] = name  # for the next
    return recipe


def _of_command(tree: Any, text: str, path: Path, from_command_line: set[str]) -> RecipeFile:
    if "sweep" in tree:
        line = _line(tree, ["sweep"])
        where = f"{path}, line {line}" if line else f"{path}"
        raise RecipeError(f"{where}, key sweep: a command has none; queue it once for each of its arguments")
    tree["method"] = tree.get("method", COMMAND)
    return RecipeFile(path, text, _validate(Command, tree, path, from_command_line))


def dump(recipe: Recipe | Command) -> str:
    """Return a recipe as YAML, without values that are defaults."""
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10**6  # no line breaks inside a value
    yaml.dump(recipe.model_dump(mode="json", exclude_defaults=True), text)
    return text.getvalue()


def _setting(label: str, value: Any) -> str:
    """Return `r=8`: what the name of a run of a sweep says of one of its values."""
    value = _to_plain(value)
    text = (
        f"{value:g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, default=str)
    )
    return f"{label}={_shown(text)}"


def _of_sweep(tree: Any, bad: BadSweep, path: Path) -> str:
    """Return in a sentence what is wrong with a sweep, and where."""
    if not bad.key:
        return f"{path}, key sweep: {bad.sentence}"
    line = _line(tree, [bad.key])
    where = f"{path}, line {line}" if line else f"{path}"
    return f"{where}, key sweep.{_shown(bad.key)}: {bad.sentence}"


def _override(tree: Any, item: str) -> str:
    key, sign, value = item.partition("=")
    if not sign or not key:
        raise RecipeError(f"override {_shown(repr(item))}: write key=value, for example train.lr=1.0e-4")
    try:
        set_key(tree, key.strip(), yaml_text.load(value))
    except BadYaml as error:
        raise RecipeError(f"override {_shown(repr(item))}: {error}") from None
    return key.strip()


def set_key(tree: Any, dotted: str, value: Any) -> None:
    """Set a dotted key in a recipe as read; missing sections are added."""
    *parents, last = dotted.split(".")
    for place, name in enumerate(parents):
        inner = tree.get(name)
        short = SHORT.get(".".join(parents[: place + 1]))
        if isinstance(inner, str) and short:
            inner = tree[name] = {short: inner}
        elif not isinstance(inner, dict):
            inner = tree[name] = {}
        tree = inner
    tree[last] = value


def _validate(model: type[T], tree: Any, path: Path, from_command_line: Set[str]) -> T:
    try:
        return model.model_validate(_to_plain(tree))
    except ValidationError as error:
        sentences: dict[str, list[str]] = {}  # a union fails once per branch: one line per key
        keys: dict[str, str] = {}  # by what a line says of the place
        for problem in error.errors():
            loc = _key_path(problem["loc"])
            if problem["type"] == "extra_forbidden":  # the user's own key, whatever it looks like
                loc = [*_key_path(problem["loc"][:-1]), problem["loc"][-1]]
            location = _location(tree, loc, path, from_command_line)
            sentences.setdefault(location, []).append(_sentence(model, problem, loc))
            keys[location] = ".".join(map(str, loc))
        joined = {place: ", or ".join(dict.fromkeys(messages)) for place, messages in sentences.items()}
        lines = [f"{place}: {sentence}" for place, sentence in joined.items()]
        if len(lines) > MOST_SENTENCES:
            lines[MOST_SENTENCES:] = [f"{path}: and {len(lines) - MOST_SENTENCES:,} more"]
        by_key = {keys[place]: sentence for place, sentence in joined.items()}
        raise RecipeError("\n".join(lines), by_key) from None


def _to_plain(value: Any) -> Any:
    """Convert ruamel's scalar types to plain Python ones."""
    if isinstance(value, dict):
        return {str(key): _to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _key_path(loc: tuple[Any, ...]) -> list[Any]:
    """Return a location without the union branches ("lora", "literal['auto']", "list[str]") that pydantic adds."""
    if loc[:1] in (("method",), ("task",)):
        loc = (*loc[:1], *loc[2:])  # the second part is the method's or the task's name
    branches = {"int", "constrained-int", "str", "ModelSpec"}
    return [part for part in loc if not (isinstance(part, str) and (part in branches or "[" in part))]


def _location(tree: Any, loc: list[Any], path: Path, from_command_line: Set[str]) -> str:
    key = _shown(".".join(map(str, loc)))
    if any(key == item or key.startswith(f"{item}.") for item in from_command_line):
        return f"command line, key {key}"
    line = _line(tree, loc)
    return f"{path}, line {line}, key {key}" if line else f"{path}, key {key or '(top)'}"


def _line(tree: Any, loc: list[Any]) -> int | None:
    """Return the line of the deepest part of `loc` that is in the file."""
    line = None
    for part in loc:
        try:
            mark = tree.lc.item(part) if isinstance(part, int) else tree.lc.key(part)
            line, tree = mark[0] + 1, tree[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return line


def _sentence(model: type[BaseModel], problem: Any, loc: list[Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(model, loc[:-1])
        matches = difflib.get_close_matches(str(loc[-1])[:SHOWN], known, n=1)
        hint = f"did you mean `{matches[0]}`?" if matches else f"known keys: {', '.join(known)}"
        return f"unknown key; {hint}"
    if kind == "missing":
        return "is required but missing; add it"
    if kind in ("union_tag_invalid", "union_tag_not_found", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected") or ", ".join(DEFAULT_LR))
        known = re.findall(r"[\w-]+", expected)
        given = str(context.get("tag") or problem["input"])[:SHOWN]
        matches = difflib.get_close_matches(given, known, n=1)
        return f"must be one of {expected}" + (f"; did you mean `{matches[0]}`?" if matches else "")
    message = problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    # A section would be too long.
    received = "" if isinstance(value, dict) else f" (got {_shown(repr(value))})"
    return f"{message[0].lower()}{message[1:]}{received}"


def _shown(text: Any) -> str:
    """Return a key or a value of the recipe as a sentence may have it: in one line, and not too long."""
    line = one_line(str(text))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _known_keys(recipe: type[BaseModel], loc: list[Any]) -> list[str]:
    """Return the keys allowed at a location in the recipe; of every branch where the type is a union."""
    types: list[Any] = [recipe]
    for part in loc:
        types = [inner for model in types for inner in _models_under(model, part)]
    keys = [key for model in types for key in model.model_fields]
    return list(dict.fromkeys([*keys, "sweep"] if recipe is Recipe and not loc else keys))


def _models_under(model: type[BaseModel], key: Any) -> list[type[BaseModel]]:
    if key in model.model_fields:
        return models_in(model.model_fields[key].annotation)
    return [SliceMargins] if model is OnForgetting else []
