"""The recipe: one YAML file that describes a run, validated before anything is queued.

Torch-free, so that the command line and the screen can use it.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

OnFlag = Literal["warn", "stop", "off"]


class RecipeError(Exception):
    """A recipe that cannot run; `str()` is one sentence with file, line, key and what to do."""


@dataclass(frozen=True)
class Share:
    """A number of steps or rows, given as a share of the whole ("10%") or as a count (200)."""

    percent: float | None = None
    count: int | None = None

    def of(self, total: int) -> int:
        """The count out of `total`, at least 1."""
        return max(1, round(total * self.percent / 100)) if self.percent is not None else self.count or 1


def parse_share(value: str | int) -> Share:
    """Read "10%" or a whole number; ValueError otherwise."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            percent = float(value.strip()[:-1])
        except ValueError:
            percent = -1.0
        if 0 < percent <= 100:
            return Share(percent=percent)
    elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Share(count=value)
    raise ValueError("give a share such as 10% or a whole number above 0")


def _checked_share(value: Any) -> Any:
    parse_share(value)
    return value


ShareField = Annotated[str | int, BeforeValidator(_checked_share)]


class Section(BaseModel):
    """What all sections share: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(Section):
    path: str = Field(description="`bundled:NAME`, a local directory, or a hub id")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for models you trust."
    )


class Full(Section):
    name: Literal["full"] = Field(description="Train every weight.")


class Lora(Section):
    name: Literal["lora"] = Field(description="Train low-rank adapters on a frozen base.")
    r: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale: the adapter's output is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Names of the layers that get an adapter, or `all-linear`."
    )


class QLora(Section):
    name: Literal["qlora"] = Field(description="LoRA on a base held in 4 bits (bitsandbytes).")
    r: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale: the adapter's output is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Names of the layers that get an adapter, or `all-linear`."
    )
    quant: Literal["nf4", "fp4"] = Field("nf4", description="4-bit number format of the base.")
    double_quant: bool = Field(True, description="Quantise the quantisation constants as well.")


def _method_by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Method = Annotated[Full | Lora | QLora, Field(discriminator="name"), BeforeValidator(_method_by_name)]


class Replay(Section):
    source: str = Field(
        description="General data mixed into the training data: bundled:NAME, a file or a hub id."
    )
    ratio: float = Field(0.05, gt=0, lt=1, description="Share of the training tokens that comes from it.")


class Data(Section):
    train: str = Field(description="`bundled:NAME`, a .jsonl, .json, .csv or .parquet file, or a hub id.")
    heldout: ShareField | str = Field(
        "10%", description="A share of the training rows, chosen by content hash, or a source of its own."
    )
    replay: Replay | None = Field(None, description="General data to mix in against forgetting.")
    limit: int | None = Field(None, ge=1, description="Use the first N rows (in content-hash order) only.")


class Train(Section):
    epochs: float = Field(1.0, gt=0, description="Passes over the training data; `max_steps` wins if given.")
    max_steps: int | None = Field(None, ge=1, description="Optimiser steps.")
    lr: float | None = Field(None, gt=0, description="Peak learning rate; by method if not given.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning-rate curve after warm-up."
    )
    warmup: ShareField = Field("5%", description="Steps of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay (matrices only).")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    tokens_per_step: int = Field(
        8192, ge=1, description="Tokens (padding not counted) in one optimiser step."
    )
    micro_tokens: int = Field(4096, ge=1, description="Tokens (padding counted) in one forward pass.")
    max_length: Literal["auto"] | int = Field(
        "auto", description="Longest example in tokens; longer ones are cut."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Number format of the forward pass."
    )
    checkpoint_every: ShareField = Field("20%", description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="How many of the latest checkpoints stay on disk.")


class Evals(Section):
    every: ShareField = Field(
        "10%", description="Steps between evaluations; step 0 and the end are always evaluated."
    )
    general: str | None = Field(
        "bundled:stdlib-prose",
        description="Text that the base model could already do, watched for forgetting.",
    )
    limit: int = Field(200, ge=2, description="Most examples scored per suite.")
    generate: int = Field(4, ge=0, description="Held-out prompts answered at each evaluation.")
    max_new_tokens: int = Field(48, ge=1, description="Longest answer, in tokens.")


class Flags(Section):
    overfitting: OnFlag = Field("warn", description="Held-out loss has turned up beyond noise.")
    forgetting: OnFlag = Field(
        "warn", description="General loss is above the base model's beyond noise and margin."
    )


# Full fine-tuning moves every weight, adapters only a few: their usual rates differ by ten.
DEFAULT_LR = {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4}


class Recipe(Section):
    """Everything about a run that is decided before it starts."""

    name: str | None = Field(None, description="Shown in lists; the file's name if not given.")
    model: Annotated[ModelSpec, BeforeValidator(lambda v: {"path": v} if isinstance(v, str) else v)] = Field(
        description="The base model: a path, or a section with `path`."
    )
    method: Method = Field(description="What is trained.")
    task: Literal["sft"] = Field("sft", description="What the loss is.")
    data: Data = Field(description="Training and held-out data.")
    train: Train = Field(default_factory=Train, description="How long, how fast, how much at once.")
    evals: Evals = Field(default_factory=Evals, description="What is measured on the way.")
    flags: Flags = Field(default_factory=Flags, description="What to do when a run goes wrong.")
    seed: int = Field(0, ge=0, description="Seed of data order, initialisation and dropout.")

    @model_validator(mode="after")
    def _fill_method_defaults(self) -> Recipe:
        if self.train.lr is not None:
            return self
        train = self.train.model_copy(update={"lr": DEFAULT_LR[self.method.name]})
        return self.model_copy(update={"train": train})

    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the resolved recipe without its name."""
        body = self.model_dump(mode="json", exclude={"name"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]

    def flat(self) -> dict[str, str]:
        """`{"method.r": "16", …}`: one entry per leaf, as stored in the table `params`."""
        return dict(_leaves(self.model_dump(mode="json"), ""))


def _leaves(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else key)
    elif value is not None:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


# ---- reading a file ------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as read: its text, and the recipes it stands for (several when it has a sweep)."""

    path: Path
    text: str
    recipes: list[Recipe]
    swept: list[str]  # keys that the sweep varies, empty without one


def read(path: Path, overrides: list[str] | None = None) -> RecipeFile:
    """Read, override (`key=value`), expand the sweep, validate. Raises RecipeError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such recipe; give the path of a .yaml file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    return parse(text, path, overrides)


def parse(text: str, path: Path, overrides: list[str] | None = None) -> RecipeFile:
    """`read` for a text already in memory; `path` is for messages and for the default name."""
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"{path}, line {line}: not valid YAML: {error.problem}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with at least `model`, `method` and `data`")
    from_command_line = {_override(tree, item) for item in overrides or []}
    sweep = tree.pop("sweep", None) or {}
    swept = _check_sweep(sweep, path)
    tree.setdefault("name", path.stem)
    recipes = []
    for values in itertools.product(*(sweep[key] for key in swept)):
        for key, value in zip(swept, values, strict=True):
            _set(tree, key, value)
        recipes.append(_validate(tree, path, from_command_line))
    return RecipeFile(path, text, recipes, swept)


def _check_sweep(sweep: Any, path: Path) -> list[str]:
    if not isinstance(sweep, dict):
        raise RecipeError(f"{path}, key sweep: give a mapping such as `train.lr: [1.0e-4, 3.0e-4]`")
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            line = _line(sweep, [key])
            raise RecipeError(f"{path}, line {line}, key sweep.{key}: give a list of values")
    return list(sweep)


def _override(tree: Any, item: str) -> str:
    key, sign, value = item.partition("=")
    if not sign or not key:
        raise RecipeError(f"override {item!r}: write key=value, for example train.lr=1.0e-4")
    try:
        _set(tree, key.strip(), YAML(typ="safe").load(value))
    except MarkedYAMLError as error:
        raise RecipeError(f"override {item!r}: the value is not valid YAML: {error.problem}") from None
    return key.strip()


def _set(tree: Any, dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        inner = tree.get(name)
        if isinstance(inner, str) and name in ("method", "model"):  # shorthand: a name alone
            inner = tree[name] = {"name" if name == "method" else "path": inner}
        elif not isinstance(inner, dict):
            inner = tree[name] = {}
        tree = inner
    tree[last] = value


def _validate(tree: Any, path: Path, from_command_line: set[str]) -> Recipe:
    try:
        return Recipe.model_validate(_plain(tree))
    except ValidationError as error:
        sentences: dict[str, list[str]] = {}  # a union fails once per branch: one line per key
        for problem in error.errors():
            loc = [part for part in problem["loc"] if _is_key(part)]
            where = _where(tree, loc, path, from_command_line)
            sentences.setdefault(where, []).append(_sentence(problem, loc))
        lines = [f"{where}: {', or '.join(dict.fromkeys(said))}" for where, said in sentences.items()]
        raise RecipeError("\n".join(lines)) from None


def _plain(value: Any) -> Any:
    """Ruamel's scalar types as plain Python ones."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _is_key(part: Any) -> bool:
    # Pydantic puts the union branch ("lora", "literal['auto']", "list[str]") into the location.
    branches = {"full", "lora", "qlora", "int", "str", "ModelSpec"}
    return not (isinstance(part, str) and (part in branches or "[" in part))


def _where(tree: Any, loc: list[Any], path: Path, from_command_line: set[str]) -> str:
    key = ".".join(map(str, loc))
    if any(key == item or key.startswith(f"{item}.") for item in from_command_line):
        return f"command line, key {key}"
    line = _line(tree, loc)
    return f"{path}, line {line}, key {key}" if line else f"{path}, key {key or '(top)'}"


def _line(tree: Any, loc: list[Any]) -> int | None:
    """The line of the deepest part of `loc` that stands in the file."""
    found = None
    for part in loc:
        try:
            mark = tree.lc.item(part) if isinstance(part, int) else tree.lc.key(part)
            found, tree = mark[0] + 1, tree[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return found


def _sentence(problem: Any, loc: list[Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key; {hint}"
    if kind == "missing":
        return "is required and is not there; add it"
    if kind in ("union_tag_invalid", "union_tag_not_found", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected") or "full, lora, qlora")
        known = re.findall(r"[\w-]+", expected)
        near = difflib.get_close_matches(str(context.get("tag") or problem["input"]), known, n=1)
        return f"must be one of {expected}" + (f"; did you mean `{near[0]}`?" if near else "")
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]} (got {problem.get('input')!r})"


def _known_keys(loc: list[Any]) -> list[str]:
    """Keys allowed at a place in the recipe; of every branch where the type is a union."""
    types: list[Any] = [Recipe]
    for part in loc:
        types = [
            inner
            for model in types
            if part in model.model_fields
            for inner in _models_in(model.model_fields[part].annotation)
        ]
    keys = [key for model in types for key in model.model_fields]
    return list(dict.fromkeys([*keys, "sweep"] if not loc else keys))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for arg in get_args(annotation) for model in _models_in(arg)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
