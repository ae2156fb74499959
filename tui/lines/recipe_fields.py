"""The fields of the form, made from the recipe's own models: those that the chosen method and task use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from engine.recipe.annotations import models_in, plain
from engine.recipe.methods import DEFAULT_LR, DEFAULT_WARMUP
from engine.recipe.sections import Recipe
from engine.recipe.sweep import OF_SEARCH
from engine.recipe.tasks import RATE
from tui.lines.recipe_draft import MISSING, SWEEP, Draft

RUN = "run"  # the section of what stands at the top of a recipe
SECTIONS = (RUN, "model", "method", "task", "data", "train", "evals", "flags", SWEEP)
KINDS = ("method", "task")  # sections with a model for each name

SEARCH_HELP = {
    "runs": "How many runs are drawn; without it, every combination becomes a run.",
    "draw_seed": "The same seed draws the same runs.",
    "search": "grid: every combination; random: drawn; tpe: proposed by Optuna from the results.",
    "stop_losers": "Stop runs that can no longer beat the best one.",
    "max_hours": "Hours of all its runs together, after which none is started any more.",
    "max_cost": "The same in the currency of price_per_hour.",
}
SEARCH_CHOICES = {"search": ("grid", "random", "tpe"), "stop_losers": (False, True)}

# Keys that a task does not use; a key that the recipe has is shown all the same, to be taken out.
UNUSED: dict[str, tuple[str, ...]] = {
    "sft": ("flags.displacement",),
    "completion": ("flags.displacement", "data.reasoning", "data.history"),
    "dpo": ("data.replay", "evals.few_shot"),
    "classification": (
        "flags.displacement", "flags.forgetting", "flags.template", "data.replay", "data.reasoning", "data.history",
        "evals.general", "evals.choices", "evals.metrics", "evals.generate", "evals.max_new_tokens", "evals.samples",
        "evals.drift", "evals.few_shot",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One value of a recipe."""

    key: str  # dotted
    section: str
    label: str
    help: str
    default: Any = MISSING  # what holds where the recipe says nothing; MISSING: it has to say it
    choices: tuple[Any, ...] = ()
    hint: str = ""  # what may be typed
    is_text: bool = False  # whatever is typed is the value, and no YAML

    @property
    def is_of_sweep(self) -> bool:
        return self.section == SWEEP


def fields_of(draft: Draft) -> list[Field]:
    """The fields in the order of the sections."""
    known = {
        field.key: field for field in _all_fields(_name(draft, "method", "lora"), _name(draft, "task", "sft"))
    }
    chosen = [_for(draft, field) for field in known.values() if _is_used(draft, field.key)]
    strange = [key for key in draft.problems if key and key not in known and draft.value(key) is not MISSING]
    for key in strange:  # misspelt, or of another method: x takes it out
        section = key.partition(".")[0] if "." in key else RUN
        if section in SECTIONS and not isinstance(draft.value(key), dict):
            chosen.append(Field(key, section, _label(key), "Not a key of this recipe.", None))
    chosen += _sweep_fields(draft)
    return sorted(chosen, key=lambda field: SECTIONS.index(field.section))


def problem_of(draft: Draft, field: Field, fields: list[Field]) -> str:
    """What is wrong with a field. What is said of a whole section stands at its first field that has to be given."""
    varied = field.key.removeprefix(f"{SWEEP}.")  # what is wrong with a value of a sweep is said of its key
    if said := draft.problems.get(field.key) or (field.is_of_sweep and draft.problems.get(varied)):
        return said
    section = field.section
    said = draft.problems.get(section, "")
    first = next((one for one in fields if one.section == section and one.default is MISSING), None)
    return said if field is first else ""


def known_keys(section: str, name: str) -> set[str]:
    """The keys of a method or a task."""
    return set(_model_of(section, name).model_fields)


def _name(draft: Draft, section: str, default: str) -> str:
    name = draft.value(f"{section}.name")
    return name if isinstance(name, str) and name in _names(section) else default


@cache
def _names(section: str) -> tuple[str, ...]:
    models = models_in(Recipe.model_fields[section].annotation)
    return tuple(get_args(model.model_fields["name"].annotation)[0] for model in models)


@cache
def _model_of(section: str, name: str) -> type[BaseModel]:
    return models_in(Recipe.model_fields[section].annotation)[_names(section).index(name)]


@cache
def _all_fields(method: str, task: str) -> tuple[Field, ...]:
    return tuple(_walk(Recipe, "", {"method": method, "task": task}))


def _walk(model: type[BaseModel], prefix: str, names: dict[str, str]) -> Iterator[Field]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        if key in KINDS:
            yield from _walk(_model_of(key, names[key]), f"{key}.", names)
        elif inner := models_in(info.annotation):
            yield from _walk(inner[0], f"{key}.", names)
        else:
            default = info.get_default(call_default_factory=True)
            yield Field(
                key,
                key.partition(".")[0] if "." in key else RUN,
                _label(key),
                info.description or "",
                _default(key, default, names),
                _names(prefix.rstrip("."))
                if prefix.rstrip(".") in KINDS and name == "name"
                else choices(info.annotation),
                " or ".join(dict.fromkeys(_hints(info.annotation))),
                set(plain(info.annotation)) <= {str},
            )


def _default(key: str, default: Any, names: dict[str, str]) -> Any:
    if key == "task.name":
        return "sft"
    if key == "train.lr":
        return DEFAULT_LR[names["method"]] * RATE[names["task"]]
    if key == "train.warmup":
        return DEFAULT_WARMUP[names["method"]]
    if default is not PydanticUndefined:
        return default
    return None if key == "data.replay.source" else MISSING  # of a section that need not be there


def _label(key: str) -> str:
    return (key.partition(".")[2] or key).removesuffix(".do")


def _for(draft: Draft, field: Field) -> Field:
    """The default of the name is that of the file."""
    if field.key != "name":
        return field
    return Field(**{**vars(field), "default": draft.path.stem})


def _is_used(draft: Draft, key: str) -> bool:
    if draft.value(key) is not MISSING:
        return True
    unused = UNUSED[_name(draft, "task", "sft")]
    if any(key == one or key.startswith(f"{one}.") for one in unused):
        return False
    match key:
        case "train.sharding":
            processes = draft.value("processes")
            return isinstance(processes, int) and processes > 1
        case "train.compile":
            return draft.value("method.name") != "shira"
        case "data.replay.ratio":
            return draft.value("data.replay.source") is not MISSING
    flag, _, margin = key.rpartition(".")
    return not (margin in ("warn", "critical", "per_gain") and draft.value(f"{flag}.do") == "off")


def _sweep_fields(draft: Draft) -> Iterator[Field]:
    """Each key that is varied, and how; nothing where nothing is."""
    if not draft.sweep:
        return
    for key in draft.sweep:
        if key not in OF_SEARCH:
            yield Field(
                f"{SWEEP}.{key}", SWEEP, str(key), f"Values of {key}: a list, or a range to draw from.", None
            )
    for key in OF_SEARCH:
        default = {
            "draw_seed": 0,
            "stop_losers": False,
            "search": "random" if draft.sweep.get("runs") else "grid",
        }
        yield Field(
            f"{SWEEP}.{key}",
            SWEEP,
            key,
            SEARCH_HELP[key],
            default.get(key),
            SEARCH_CHOICES.get(key, ()),
            "a number",
        )


def given(draft: Draft, field: Field) -> Any:
    """What the recipe says of a field; MISSING where it says nothing."""
    if field.is_of_sweep:
        return draft.sweep.get(field.key.removeprefix(f"{SWEEP}."), MISSING)
    return draft.value(field.key)


# ---- types ---------------------------------------------------------------------------------------


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a field that has only a few; none where it has others, too."""
    found: list[Any] = []
    for one in plain(annotation):
        if get_origin(one) is Literal:
            found += get_args(one)
        elif one is bool:
            found += (True, False)
        else:
            return ()
    return tuple(found)


def _hints(annotation: Any) -> Iterator[str]:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    for one in plain(annotation):
        if get_origin(one) is Literal:
            yield ", ".join(map(str, get_args(one)))
        elif get_origin(one) is list:
            yield "[a, b]"
        elif get_origin(one) is dict:
            yield "{name: value}"
        else:
            yield words.get(one, "")
