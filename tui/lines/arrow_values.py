"""Values of an Arrow table as people and text formats take them, also those for which Python has nothing."""

from __future__ import annotations

import datetime
from typing import Any

_UNBOUNDED = {"date32": 2**31 - 1, "timestamp": 2**63 - 1}  # what DuckDB has for infinity
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_CYCLE = 146_097  # days of 400 years, after which the calendar is the same again
# Types of which only a text says enough.
_TEXT = ("month_day_nano_interval", "binary", "large_binary", "fixed_size_binary")


def values(column: Any) -> list[Any]:
    """The values of an Arrow array: intervals and bytes, and moments beyond Python's years, as DuckDB writes them."""
    if not any(name in str(column.type) for name in _TEXT):
        try:
            return list(column.to_pylist())
        except (OverflowError, ValueError):  # an infinite moment, or one outside the years 1 to 9999
            pass
    return [_value(one) for one in column]


def rows(table: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow table whose columns have names of their own."""
    columns = [values(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _value(scalar: Any) -> Any:
    kind = str(scalar.type)
    if not scalar.is_valid:
        return None
    if kind.startswith(("list", "large_list", "fixed_size_list")):
        return [_value(one) for one in scalar.values]
    if kind.startswith("map"):
        return [(_value(one["key"]), _value(one["value"])) for one in scalar.values]
    if kind.startswith("struct"):
        return {name: _value(one) for name, one in scalar.items()}
    if kind == "month_day_nano_interval":
        return _interval(*scalar.as_py())
    if kind.startswith(_TEXT):
        return "".join(
            chr(one) if 32 <= one < 127 and one != 92 else f"\\x{one:02X}" for one in scalar.as_py()
        )
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return _moment(scalar, kind)


def _moment(scalar: Any, kind: str) -> str:
    """A date, or a moment in UTC, of any year, as DuckDB has it."""
    most = next(most for name, most in _UNBOUNDED.items() if kind.startswith(name))
    if abs(scalar.value) == most:
        return "infinity" if scalar.value > 0 else "-infinity"
    per_second = next((n for unit, n in _PER_SECOND.items() if kind.startswith(f"timestamp[{unit}")), 0)
    days, rest = divmod(scalar.value, 86_400 * per_second) if per_second else (scalar.value, 0)
    cycles, days = divmod(days, _CYCLE)
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days)
    year = date.year + 400 * cycles
    day, era = f"{year if year > 0 else 1 - year:04}-{date:%m-%d}", "" if year > 0 else " (BC)"
    clock = f" {_clock(rest * 1_000_000 // per_second)}{'+00' if 'tz=' in kind else ''}" if per_second else ""
    return f"{day}{era}{clock}"


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """`1 year 2 months 3 days 04:05:06.5`, as DuckDB has it."""
    years = int(months / 12)
    parts = [
        f"{count} {unit}{'' if abs(count) == 1 else 's'}"
        for count, unit in ((years, "year"), (months - 12 * years, "month"), (days, "day"))
        if count
    ]
    if nanoseconds or not parts:
        parts.append(f"{'-' if nanoseconds < 0 else ''}{_clock(abs(nanoseconds) // 1000)}")
    return " ".join(parts)


def _clock(microseconds: int) -> str:
    seconds, rest = divmod(microseconds, 1_000_000)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"
