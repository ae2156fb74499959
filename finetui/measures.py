"""What a program logs in one call, as a line of its run's log. Called at every training step, so it has to be quick.

Most of a call is spent in `repr` of the floats; the names are looked up once, and kept as they stand in the line. By
json.dumps, of ten values and with the write, it took a quarter longer. What a call costs: benchmarks/logging_cost.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any

from finetui.log import spelled
from finetui.names import our_name

MOST_NAMES = 10_000  # that are kept; a program that makes up names as it goes has more
DEEPEST = 20  # dictionaries in dictionaries
LARGEST = 2**63


class Measures:
    """Makes lines of kind `metrics`. Not for use from several threads."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` gets a sentence for each thing that is left out, again each time."""
        self._warn = warn
        self._starts: dict[str, str] = {}  # name as it is logged → as it begins in the line: `"train/loss":`
        self._logged_as: dict[str, str] = {}  # the reverse

    def line(self, values: Mapping[str, Any], step: int) -> bytes | None:
        """Return a line of now; None where there is no number in it."""
        parts: list[str] = []
        self._add(values, parts)
        if not parts:
            return None
        return (
            f'{{"kind":"metrics","t":{time.time()!r},"step":{step},"values":{{{",".join(parts)}}}}}\n'
        ).encode()

    def _add(self, values: Mapping[str, Any], parts: list[str]) -> None:
        starts = self._starts
        for name, value in values.items():
            kind = type(value)
            if kind is float and isfinite(value):
                text = repr(value)
            elif kind is int and -LARGEST < value < LARGEST:
                text = str(value)
            else:
                self._add_other(name, value, parts)
                continue
            start = starts.get(name)
            parts.append((self._start(name) if start is None else start) + text)

    def _add_other(self, name: Any, value: Any, parts: list[str]) -> None:
        """Add what is no plain number."""
        if isinstance(value, Mapping):
            if str(name).count("/") < DEEPEST:
                self._add({f"{name}/{inner}": of_it for inner, of_it in value.items()}, parts)
            else:
                self._warn(f"{str(name)[:40]}… is nested too deeply and is left out")
            return
        number = as_number(value)
        if number is None and isinstance(value, int):
            self._warn(f"{name} is left out: it is too large for a number of 64 bits")
        elif number is None:
            self._warn(f"{name} is left out: {type(value).__name__} is no number")
        else:
            word = repr(number) if isfinite(number) else f'"{spelled(number)}"'
            parts.append(self._start(name) + word)

    def _start(self, name: Any) -> str:
        if len(self._starts) >= MOST_NAMES:
            self._starts.clear()
            self._logged_as.clear()
        start = encode_basestring_ascii(our_name(str(name))) + ":"
        other = self._logged_as.setdefault(start, name)
        if other != name:
            self._warn(f"{other} and {name} are both {start[1:-2]} here: in one call, the later counts")
        self._starts[name] = start
        return start


def as_number(value: Any) -> float | int | None:
    """Return a number, also that of a NumPy or torch scalar, or of an array with one element; None for what is none."""
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        if hasattr(value, "item"):
            value = value.item()
        return int(value) if isinstance(value, bool) else float(value)
    except Exception:  # whatever a class of the user's raises; an array has many elements
        return None


def as_step(step: Any) -> int | None:
    """Return a step: a whole number from 0 on; None for what is none."""
    if type(step) is int:
        number: float | int | None = step
    else:
        number = as_number(step)
    if number is None or not 0 <= number < LARGEST or number != int(number):
        return None
    return int(number)
