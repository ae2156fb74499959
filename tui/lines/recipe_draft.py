"""A recipe that is being written: its text is the truth, and every change of a field makes another text.

So comments, order and style of a file that somebody wrote stay as they are, and the text beside the form is what
`finetui run` would read.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from engine.basics.errors import RecipeError
from engine.recipe import recipe_file, yaml_text
from engine.recipe.kinds import is_command
from engine.recipe.methods import DEFAULT_LR, DEFAULT_WARMUP
from engine.recipe.recipe_file import SHORT, RecipeFile
from engine.recipe.sections import Recipe
from engine.recipe.tasks import RATE
from engine.recipe.yaml_text import BadYaml

MISSING = object()  # what a recipe says of a key that it does not have
SWEEP = "sweep"
ORDER = tuple(Recipe.model_fields)  # of keys that are added
EMPTY = "method: lora\n"  # a recipe from nothing: what cannot be guessed is missing


@dataclass(frozen=True)
class Draft:
    """`path` is what the recipe is called in messages, and where its relative paths start; `parent` the run that it was
    made from.
    """

    text: str
    path: Path
    parent: int | None = None

    @cached_property
    def tree(self) -> Any:
        """The recipe as YAML has it; None where it cannot be read."""
        try:
            tree = yaml_text.load(self.text)
        except BadYaml:
            return None
        return tree if isinstance(tree, dict) else {} if tree is None else None

    @cached_property
    def file(self) -> RecipeFile | RecipeError:
        """The runs that it stands for, or why it stands for none."""
        try:
            file = recipe_file.parse(self.text, self.path)
        except RecipeError as error:
            return error
        return RecipeError(NO_COMMAND) if file.command else file

    @property
    def problems(self) -> Mapping[str, str]:
        """Sentences by key; "" is for what is wrong with all of it."""
        if not isinstance(self.file, RecipeError):
            return {}
        return self.file.by_key or {"": str(self.file).removeprefix(str(self.path)).lstrip(":, ")}

    @property
    def complaints(self) -> list[str]:
        """The same as sentences that say where."""
        return [f"{key}: {said}" if key else said for key, said in self.problems.items()]

    @property
    def count(self) -> int:
        """The runs that it stands for; 0 where something is wrong with it."""
        return 0 if isinstance(self.file, RecipeError) else len(self.file.recipes)

    @property
    def name(self) -> str:
        given = self.value("name")
        return str(given) if given is not MISSING and given is not None else self.path.stem

    @property
    def is_named(self) -> bool:
        return self.value("name") not in (MISSING, None)

    def value(self, key: str) -> Any:
        """What the recipe says of a dotted key; MISSING where it says nothing."""
        tree, seen = self.tree, ""
        for part in key.split("."):
            if isinstance(tree, dict) and part in tree:
                tree = tree[part]
            elif isinstance(tree, str) and SHORT.get(seen) == part:
                pass  # the section is written as this value alone
            else:
                return MISSING
            seen = f"{seen}.{part}" if seen else part
        return tree

    @property
    def sweep(self) -> dict[str, Any]:
        """What is varied, and how it is searched."""
        section = self.tree.get(SWEEP) if self.tree else None
        return section if isinstance(section, dict) else {}

    def kept(self) -> dict[str, Any]:
        """As it is remembered while it is neither queued nor saved."""
        return {"text": self.text, "path": str(self.path), "parent": self.parent, "name": self.name}

    # ---- changes: each is a new draft, and raises BadYaml where the text cannot be read

    def with_value(self, key: str, value: Any) -> Draft:
        tree = self._loaded()
        section, _, last = key.rpartition(".")
        is_short = SHORT.get(section) == last and not isinstance(self.value(section), dict)
        first = key.partition(".")[0]
        if first not in tree and first in ORDER:
            before = [one for one in tree if one in ORDER and ORDER.index(one) < ORDER.index(first)]
            tree.insert(len(before), first, {})
        recipe_file.set_key(tree, section if is_short else key, value)
        return self._of(tree)

    def without(self, key: str) -> Draft:
        """The key's default is back; a section that has nothing left goes with it."""
        tree = self._loaded()
        _remove(tree, key)
        return self._of(tree)

    def with_sweep(self, key: str, values: Any) -> Draft:
        """Vary a key, or set how the runs are found; None: no more."""
        tree = self._loaded()
        section = tree.get(SWEEP)
        if not isinstance(section, dict):
            section = {}
        section.pop(key, None)
        if values is not None:
            section[key] = values
        if section:
            tree[SWEEP] = section
        else:
            tree.pop(SWEEP, None)
        return self._of(tree)

    def with_kind(
        self, section: str, name: str, known: set[str], aside: dict[tuple[str, str], dict[str, Any]]
    ) -> Draft:
        """Another method or task. Keys that it does not know are put `aside`, and are there again with the old one."""
        tree = self._loaded()
        old = tree.get(section)
        if isinstance(old, dict):
            before = str(old.get("name"))
            aside[section, before] = {key: old.pop(key) for key in list(old) if key not in known}
        else:
            old = {"name": old}
        old["name"] = name
        old.update(aside.pop((section, name), {}))
        tree[section] = name if len(old) == 1 else old
        return self._of(tree)

    def plain(self) -> Draft:
        """Without what follows from the method and the task: a run's recipe has it filled in."""
        method, task = self.value("method.name"), self.value("task.name")
        rate = RATE.get(task if isinstance(task, str) else "sft", 1.0)
        draft = self
        if method in DEFAULT_LR:
            for key, default in (("lr", DEFAULT_LR[method] * rate), ("warmup", DEFAULT_WARMUP[method])):
                if draft.value(f"train.{key}") == default:
                    draft = draft.without(f"train.{key}")
        return draft

    def _loaded(self) -> Any:
        tree = yaml_text.load(self.text, lines=True)
        if tree is None:
            tree = yaml_text.load("{}", lines=True)
            tree.fa.set_block_style()
        if not isinstance(tree, dict):
            raise BadYaml("a recipe is a mapping with at least `model`, `method` and `data`")
        return tree

    def _of(self, tree: Any) -> Draft:
        return replace(self, text=_dumped(tree))


NO_COMMAND = "it is the recipe of a command, which has no form: finetui clone changes its arguments"


def _remove(tree: Any, key: str) -> None:
    section, _, last = key.rpartition(".")
    parent = tree
    for part in section.split(".") if section else ():
        parent = parent.get(part) if isinstance(parent, dict) else None
    if isinstance(parent, dict):
        parent.pop(last, None)
    if section and (not parent or (isinstance(parent, str) and SHORT.get(section) == last)):
        _remove(tree, section)
    elif section and isinstance(parent, dict) and list(parent) == [SHORT.get(section)]:
        recipe_file.set_key(tree, section, parent[SHORT[section]])  # the name alone stands for it


def _dumped(value: Any, *, flow: bool = False) -> str:
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10**6  # no line breaks inside a value
    if flow:
        yaml.default_flow_style = True
    yaml.dump(value, text)
    return text.getvalue()


def shown(value: Any) -> str:
    """A value in one line, as it may be typed."""
    if value is None:
        return "null"
    if isinstance(value, str) and value:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return _dumped(value, flow=True).strip().removesuffix("...").strip()


def typed(text: str) -> Any:
    """The value that a typed text stands for. Raises BadYaml."""
    return yaml_text.load(text, lines=True)


def from_file(path: Path) -> Draft:
    """The recipe in a file, whatever is wrong with it. Raises RecipeError where there is none."""
    draft = Draft(recipe_file.read_text(path), path.absolute())
    if is_command(draft.tree):
        raise RecipeError(f"{path}: {NO_COMMAND}")
    return draft


def from_tree(tree: dict[str, Any], path: Path, parent: int) -> Draft:
    return Draft(_dumped(tree), path, parent)


def from_nothing(folder: Path) -> Draft:
    return Draft(EMPTY, folder / "new-run.yaml")
