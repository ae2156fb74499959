"""A flag with its evidence and actions, as its line in the log has it. No arrays: every command reads flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from math import nan
from typing import Any, Literal

# info: worth knowing, nothing is wrong. watch: a leading sign, not yet shown. warn and critical: shown, twice in a row.
Level = Literal["info", "watch", "warn", "critical"]
LEVELS: tuple[Level, ...] = ("info", "watch", "warn", "critical")
WARNS = LEVELS[2:]
# What became of a flag since its line before; engine/flags/states.py has the rules.
State = Literal["raised", "confirmed", "weakened", "fading", "withdrawn"]


@dataclass(frozen=True)
class Worst:
    """An example that got much worse; nats per token."""

    id: str
    before: float
    after: float


@dataclass(frozen=True)
class Forecast:
    """The effect expected at a later step; `lo` and `hi` are an 80% interval, nats per token."""

    step: int
    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Action:
    """Something to do about a flag.

    `change` is the change of the recipe, by dotted key (`{"train.lr": 1e-4}`), and empty where no key stands for it.
    `source` is a key of the literature list in docs/flags.md, empty for common sense. `command` is what does it without
    a new run, after `finetui` and before the run's number; empty where none does.
    """

    text: str
    change: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    command: str = ""


@dataclass(frozen=True)
class Flag:
    """A statement with its evidence. `effect`, `lo` and `hi` (95%) are in nats per token where it is about a loss."""

    flag: str
    level: Level
    step: int
    since_step: int
    suite: str
    effect: float
    lo: float
    hi: float
    n: int  # examples
    looks: int  # evaluations so far, step 0 not counted
    message: str
    actions: tuple[Action, ...] = ()  # in the order in which to try them
    worst: tuple[Worst, ...] = ()
    slice: str = ""  # of the suite; empty: all of it
    lost: int | None = None  # tokens right under the base model and wrong now
    gained: int | None = None  # the other way round
    forecast: Forecast | None = None
    state: State = "raised"
    per: str = "token"  # what the effect is a mean over, where it is in nats: token, text or pair
    advice: tuple[str, ...] = field(init=False)  # the actions as sentences, for the log and the screen

    def __post_init__(self) -> None:
        object.__setattr__(self, "advice", tuple(action.text for action in self.actions))


def flag_of(line: Mapping[str, Any]) -> Flag:
    """Return a flag from the fields of its line in the log, of whatever program: what is not there has its default, or
    is NaN.
    """
    fields = {each.name: each.default for each in dataclasses.fields(Flag) if each.init}
    plain = {name: line.get(name) for name in fields if name not in ("actions", "worst", "forecast")}
    values: dict[str, Any] = {
        name: (nan if fields[name] is MISSING else fields[name]) if value is None else value
        for name, value in plain.items()
    }
    values["level"] = values["level"] if values["level"] in LEVELS else "info"
    values["suite"] = str(line.get("suite") or "")
    forecast = line.get("forecast") or {}
    return Flag(
        **values,
        actions=tuple(
            Action(
                str(one["text"]), one.get("change") or {}, one.get("source") or "", one.get("command") or ""
            )
            for one in _objects(line.get("actions"))
            if "text" in one
        ),
        worst=tuple(
            Worst(str(one["id"]), one["before"], one["after"])
            for one in _objects(line.get("worst"))
            if "id" in one and all(isinstance(one.get(key), int | float) for key in ("before", "after"))
        ),
        forecast=Forecast(**forecast) if forecast.get("value") is not None else None,
    )


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []
