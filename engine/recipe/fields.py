"""Types of fields that the sections of a recipe share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

AUTO = "auto"
SEEN_LIMIT = 100  # training examples scored like held-out ones
TEXT = "text"  # slice of the general suite where the recipe names no other
SAMPLE_TOKENS = 64  # of a text that the base model writes, at most
SAMPLES = "samples"  # suite of texts that the base model wrote; in older logs a slice of the general suite


@dataclass(frozen=True)
class Share:
    """A number of steps or rows, given as a share of the whole ("10%") or as a count (200)."""

    percent: float | None = None
    count: int | None = None

    def of(self, total: int) -> int:
        """Return the count out of `total`, at least 1."""
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


def _check_share(value: Any) -> Any:
    parse_share(value)
    return value


def _check_share_or_auto(value: Any) -> Any:
    return value if value == AUTO else _check_share(value)


def _check_percent(value: Any) -> Any:
    if parse_share(value).percent is None:
        raise ValueError("give a share such as 5%")
    return value


def _check_slices(value: Any) -> Any:
    """Accept a source, or sources by the name of their slice; ValueError with one sentence otherwise."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("give a source, or sources by name such as {mine: my.jsonl}")
    return _check_sources(value)


def _check_choices(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("give files by name such as {arc: arc.jsonl}")
    return _check_sources(value)


def _check_sources(sources: dict[Any, Any]) -> dict[Any, Any]:
    for name, source in sources.items():
        if name == SAMPLES:
            raise ValueError(
                f"{SAMPLES} is what the base model writes itself (evals.samples); choose another name"
            )
        if not re.fullmatch(r"\w[\w-]*", str(name)):
            raise ValueError(f"the slice {name!r} needs a name of letters, digits, - and _")
        if not isinstance(source, str) or not source:
            raise ValueError(f"the slice {name} needs a source, such as my.jsonl")
    return sources


ShareField = Annotated[str | int, BeforeValidator(_check_share)]
ShareOrAuto = Annotated[str | int, BeforeValidator(_check_share_or_auto)]
Percent = Annotated[str, BeforeValidator(_check_percent)]
Choices = Annotated[dict[str, str], BeforeValidator(_check_choices)]
Slices = Annotated[str | dict[str, str], BeforeValidator(_check_slices)]


class Section(BaseModel):
    """The base of all sections: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# The columns of data files that finetui knows; `data.columns` maps a user's own names to these.
Column = Literal[
    "messages",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "text",
    "label",
    "chosen",
    "rejected",
    "system",
    "history",
]
