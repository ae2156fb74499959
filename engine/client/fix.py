"""A new recipe from an old run: the run's recipe, changed by the first suggestions for its flags.

Only the run's directory is read; what similar runs did comes from the caller, who asks the store. Torch-free.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.errors import FixError, RecipeError
from engine.basics.safe_text import one_line
from engine.client import preflight, submit
from engine.client.prediction import Prediction, predict, predict_scaling
from engine.flags.actions import OF_METHOD, SCALE, fix
from engine.flags.flag import WARNS, Action, Flag, flag_of
from engine.flags.words import newest
from engine.recipe import recipe_file
from engine.recipe.command import Command
from engine.recipe.recipe_file import RecipeFile
from engine.recipe.sections import Recipe
from engine.runs.events import events_of
from engine.runs.home import RunDir
from engine.runs.imported import refuse_foreign
from engine.runs.submitted import parent_of, read_submitted, refuse_command
from finetui.files import write_whole_file
from store import lines
from store.line_fields import body

if TYPE_CHECKING:
    from finetui.client import Client

REPEATABLE = "data.replay.ratio"  # raised step by step, so one fix after another may change it
WIDTH = 100  # of the comment above a recipe


@dataclass(frozen=True)
class Change:
    """A changed key of the recipe, and the flag that the change is for."""

    key: str
    old: str | None  # None: not there
    new: str | None
    flag: str
    level: str
    why: str
    source: str  # key of the literature list, or empty
    foretold: str = ""  # what similar runs in the store did

    def as_row(self) -> dict[str, str | None]:
        """Return a row of the table `fixes`."""
        named = {"key": self.key, "old": self.old, "new": self.new}
        return {**named, "flag": self.flag, "level": self.level, "action": self.why, "source": self.source}


@dataclass(frozen=True)
class Advice:
    """Something else to do about a flag: a command that needs no new run, what no key of the recipe stands for, or a
    change that is not worth it.
    """

    flag: str
    level: str
    text: str
    source: str
    command: str = ""  # whole, to be typed
    foretold: str = ""  # what similar runs in the store did
    worth: bool | None = None  # None: unknown


@dataclass(frozen=True)
class Fix:
    """The new recipe from a run; `file` is as if it had been read from a file."""

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


def propose(run: RunDir, similar: Callable[[], Sequence[Mapping[str, Any]]] = tuple) -> Fix:
    """Return the recipe that answers a run's flags. `similar`: gives the rows of the named query of that name; a change
    that did not pay in those runs is not made. Raises FixError if no flag warns, and RecipeError.
    """
    meta, old = _read(run)
    flags = [flag_of(line) for line in newest(map(body, events_of(run, lines.Flag)))]
    warnings = [flag for flag in flags if flag.level in WARNS]
    if not warnings:
        others = ", ".join(
            f"{'withdrawn' if flag.state == 'withdrawn' else flag.level}: {flag.flag}" for flag in flags
        )
        harmless = f" (only {others})" if flags else ""
        raise FixError(f"run #{run.number} has no flag that warns{harmless}, so there is nothing to fix")
    tree = old.model_dump(mode="json")
    weighed = _Weighed(run.number, old, similar())
    chosen = fix(tree, warnings, _tried_keys(run, meta, old), lambda *one: weighed(*one).worth is not False)
    advice = list(_advice(run.number, warnings, chosen, weighed))
    # A line break in a name would end the comment of the new recipe, and what follows it would be keys.
    made_from = one_line(str(meta.get("name") or old.name or run.path.name))
    new = changed_recipe(old, [action for _, action in chosen], _next_name(made_from))
    changes = list(_differences(old, new, chosen, weighed))
    text = _header(run.number, made_from, changes) + recipe_file.dump(new)
    path = Path(meta.get("recipe_path") or f"{new.name}.yaml")
    return Fix(run.number, made_from, changes, advice, recipe_file.parse(text, path))


def _advice(
    run: int, warnings: Sequence[Flag], chosen: Sequence[tuple[Flag, Action]], weighed: _Weighed
) -> Iterator[Advice]:
    """Yield each command once, what is not worth it, and all that is left to do about a flag without a change."""
    commands = set()
    for flag in warnings:
        answered = any(flag is other for other, _ in chosen)
        for action in flag.actions:
            expected = weighed(flag, action)
            if action.command in commands or (
                answered and not action.command and expected.worth is not False
            ):
                continue
            commands |= {action.command} - {""}
            command = f"finetui {action.command} {run}" if action.command else ""
            expectation = expected.text if command or expected.worth is False else ""
            yield Advice(
                flag.flag, flag.level, action.text, action.source, command, expectation, expected.worth
            )


def check(proposal: Fix) -> preflight.Report:
    """Check that the new recipe can run: its model, its data. Raises ModelError and DataError."""
    return preflight.check(proposal.recipe, proposal.file.path.parent)


def queue(client: Client, proposal: Fix, report: preflight.Report) -> int:
    """Queue the new recipe as a run made from the old one; return its number. Raises StoreError."""
    fixes = [change.as_row() for change in proposal.changes]
    (number,) = submit.submit(client, proposal.file, [report], parent=proposal.run, fixes=fixes)
    return number


def followed(run: RunDir, recipe: Recipe) -> list[dict[str, str | None]]:
    """Return, as rows of the table `fixes`, the suggestions for a run's flags that a recipe made from it has taken."""
    try:
        changes = propose(run).changes
    except (FixError, RecipeError):  # nothing warns
        return []
    new = recipe.flat()
    return [change.as_row() for change in changes if new.get(change.key) == change.new]


def save(proposal: Fix, out: Path | None) -> Path:
    """Write the recipe to a new file: by default beside the run's own recipe file, if that still exists, else in the
    working directory. Returns its path. Raises FixError.
    """
    path = out or _free_path(proposal)
    try:
        path.touch(exist_ok=False)  # nobody else's file is written over
    except FileExistsError:
        raise FixError(f"{path} exists; name another file with -o") from None
    except OSError as error:
        raise FixError(f"{path} cannot be written ({error.strerror}); name another file with -o") from None
    try:
        write_whole_file(path, proposal.file.text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise FixError(f"{path} cannot be written ({error.strerror}); name another file with -o") from None
    return path


def _read(run: RunDir) -> tuple[dict[str, Any], Recipe]:
    if why := refuse_foreign(run, "fixed"):
        raise FixError(why)
    try:
        meta, recipe = read_submitted(run)
    except ValueError as error:
        raise FixError(f"{run.meta} cannot be read ({error}); the run cannot be fixed") from None
    if isinstance(recipe, Command):
        raise FixError(refuse_command(run, recipe, "fixed; finetui clone changes its arguments"))
    return meta, recipe


def _tried_keys(run: RunDir, meta: dict[str, Any], recipe: Recipe) -> set[str]:
    """Return the keys in which a run differs from the one that it was made from, that one from its own, and so on."""
    tried: set[str] = set()
    while (made_from := parent_of(run, meta.get("parent"))) is not None:
        meta, parent = _read(made_from)
        before, after = parent.flat(), recipe.flat()
        changed_keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        tried |= (
            {"method"} | (changed_keys - set(OF_METHOD)) if "method.name" in changed_keys else changed_keys
        )
        recipe = parent
    return tried - {REPEATABLE}


def changed_recipe(old: Recipe, actions: list[Action], name: str) -> Recipe:
    """Return the recipe with the changes that some actions stand for. Raises pydantic's ValidationError."""
    tree = old.model_dump(mode="json") | {"name": name}
    changes = {key: value for action in actions for key, value in action.change.items()}
    if "method" in changes:  # a rate that is right for one method is wrong for another
        for key in OF_METHOD:
            del tree["train"][key.removeprefix("train.")]
    for key, value in changes.items():
        recipe_file.set_key(tree, key, {"name": value} if key == "method" else value)
    return Recipe.model_validate(tree)


class _Weighed:
    """What is predicted for each action."""

    def __init__(self, run: int, recipe: Recipe, similar: Sequence[Mapping[str, Any]]) -> None:
        self._run, self._recipe, self._similar = run, recipe, similar
        self._flat = recipe.flat()

    def __call__(self, flag: Flag, action: Action) -> Prediction:
        if action.command == SCALE:
            return predict_scaling(self._similar, self._run)
        if not action.change:
            return Prediction(0, text="")
        new = changed_recipe(self._recipe, [action], str(self._recipe.name)).flat()
        keys = ["method.name" if key == "method" else key for key in action.change]
        return predict(self._similar, flag.flag, {key: (self._flat.get(key), new.get(key)) for key in keys})


def _differences(
    old: Recipe, new: Recipe, chosen: list[tuple[Flag, Action]], weighed: _Weighed
) -> Iterator[Change]:
    """Yield every key that differs, with the flag and the action that it comes from."""
    before, after = old.flat(), new.flat()
    of_method = next(((flag, action) for flag, action in chosen if "method" in action.change), None)
    for flag, action in chosen:
        for key in action.change:
            key = "method.name" if key == "method" else key
            yield Change(
                key,
                before.get(key),
                after.get(key),
                flag.flag,
                flag.level,
                action.text,
                action.source,
                weighed(flag, action).text,
            )
    named_keys = {key for _, action in chosen for key in action.change} | {"name", "method.name"}
    for key in sorted((before.keys() | after.keys()) - named_keys):
        if of_method and before.get(key) != after.get(key):
            flag, why = of_method[0], f"Comes with method {new.method.name}."
            yield Change(key, before.get(key), after.get(key), flag.flag, flag.level, why, "")


def _next_name(name: str) -> str:
    """Return the next name: `mine` → `mine-fix` → `mine-fix-2` → `mine-fix-3`."""
    if match := re.fullmatch(r"(.*-fix)(?:-(\d+))?", name):
        return f"{match[1]}-{int(match[2] or 1) + 1}"
    return f"{name}-fix"


def _header(run: int, name: str, changes: list[Change]) -> str:
    lines = [f"# Made by `finetui fix {run}` from run #{run} {name}:"]
    for (flag, why, source), group in groupby(
        changes, lambda change: (change.flag, change.why, change.source)
    ):
        values = ", ".join(
            f"{change.key} {change.old or '(none)'} → {change.new or '(none)'}" for change in group
        )
        sentence = f"{values}, for {flag}: {why}" + (f" [{source}]" if source else "")
        lines += textwrap.wrap(
            one_line(sentence), WIDTH, initial_indent="# - ", subsequent_indent="#   ", break_long_words=False
        )
    return "\n".join(lines) + "\n"


def _free_path(proposal: Fix) -> Path:
    old = proposal.file.path
    bundled = Path(str(files("recipes")))
    folder = old.parent if old.is_file() and not old.is_relative_to(bundled) else Path.cwd()
    name = re.sub(r"[^\w.-]+", "-", str(proposal.recipe.name))
    paths = (folder / f"{name}{end}.yaml" for end in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in paths if not path.exists())
