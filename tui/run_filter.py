"""The run table's filter and order: `lora state:running lr>1e-4`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from store.states import RunState
from tui.rows import Run

_TERM = re.compile(r"^([a-z_#.-]+)(!=|>=|<=|[:=<>])(.+)$")
_UNFINISHED = re.compile(r"^[a-z_#.-]+(!=|>=|<=|[:=<>])$")
MOST_VALUES = 100_000  # rows of an answer to `values_sql`
Params = Mapping[str, Mapping[int, str]]  # key of the recipe → run → value
_FIELDS: dict[str, Callable[[Run], Any]] = {
    "#": lambda run: run.number,
    "run": lambda run: run.number,
    "name": lambda run: run.name,
    "state": lambda run: run.state,
    "method": lambda run: run.method,
    "model": lambda run: run.model,
    "tag": lambda run: run.tags,
    "group": lambda run: run.queue_group,
    "flags": lambda run: run.flags,
    "step": lambda run: run.step,
    "train": lambda run: run.loss,
    "heldout": lambda run: run.heldout,
    "held-out": lambda run: run.heldout,
    "general": lambda run: run.general,
}
_COMPARE = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}

# What `s` goes through; the table marks the column.
SORTS: dict[str, Callable[[Run], Any]] = {
    "#": attrgetter("number"),
    "name": attrgetter("name"),
    "method": attrgetter("method"),
    "state": attrgetter("state"),
    "train": attrgetter("loss"),
    "held-out": attrgetter("heldout"),
    "general": attrgetter("general"),
    "flags": attrgetter("flags"),
}


def parameters(text: str) -> set[str]:
    """Keys of the recipe that a filter asks for: whatever is compared and is no column of the table."""
    terms = [_TERM.match(term) for term in text.lower().split()]
    return {term[1] for term in terms if term and term[1] not in (*_FIELDS, "sweep")}


def unknown(text: str, params: Params) -> str:
    """What of a filter can pass no run because there is no such thing, in a sentence; empty where all is known.
    `params`: the answers that have come.
    """
    for term in text.lower().split():
        match = _TERM.match(term)
        if match is None:
            continue
        name, sign, wanted = match.groups()
        if name == "state" and sign in ":=" and not any(wanted in state for state in RunState):
            return f"no state is {wanted}: {', '.join(RunState)}"
        if name in params and not params[name]:
            return f"no run has a key {name}"
        if sign in _COMPARE and not _is_number(wanted):
            return f"{name}{sign} needs a number (got {wanted})"
    return ""


def complete(text: str, runs: Iterable[Run]) -> str | None:
    """A filter with its last term completed: a name of a column, or what runs have there; None where none fits."""
    before, space, term = text.rpartition(" ")
    name, sign, wanted = term.partition(":") if ":" in term else term.partition("=")
    if not sign:
        options = sorted(f"{field}:" for field in (*_FIELDS, "sweep") if field != "#")
    elif name == "state":
        options = list(RunState)
    elif name in ("method", "model", "group"):
        options = sorted({str(_FIELDS[name](run)) for run in runs})
    elif name == "tag":
        options = sorted({tag for run in runs for tag in run.tags.split()})
    else:
        return None
    start = wanted if sign else name
    found = next((one for one in options if start and one.startswith(start) and one != start), None)
    return f"{before}{space}{name + sign if sign else ''}{found}" if found else None


def values_sql(key: str) -> str:
    """The query for the values of a key of the recipe, or of one whose last part it is, by run. The key is one word of
    letters, dots and underscores: `parameters` has no others.
    """
    return f"SELECT run, value FROM params WHERE key = '{key}' OR key LIKE '%.{key}'"


def is_key(text: str) -> bool:
    """Whether a text can be a key of a recipe or the name of a metric."""
    return re.fullmatch(r"[\w./-]+", text) is not None


def column_sql(key: str) -> str:
    """The query for a column that the user chose, by run: a key of the recipe, or the last value of a metric. `key`
    passes `is_key`.
    """
    return (
        f"{values_sql(key)} UNION ALL SELECT run, last::VARCHAR AS value FROM run_summary WHERE key = '{key}'"
    )


# The names of all columns that can be chosen.
NAMES_SQL = "SELECT DISTINCT key FROM params UNION SELECT DISTINCT key FROM run_summary ORDER BY key"


def complete_name(text: str, names: Iterable[str]) -> str | None:
    """Columns with the last one's name completed; None where no name begins so."""
    before, space, start = text.rpartition(" ")
    found = next((name for name in names if start and name.startswith(start) and name != start), None)
    return f"{before}{space}{found}" if found else None


def test_of(text: str, params: Params, runs: Iterable[Run], *, fuzzy: bool) -> Callable[[Run], bool]:
    """Whether a run passes all terms of a filter; an unfinished term lets everything pass. `runs`: all that there are:
    `sweep:5` are those of the sweep that run 5 belongs to. `fuzzy`: of a word it is enough to have its letters in
    their order.
    """
    terms = text.lower().split()
    sweeps = {str(run.number): run.sweep for run in runs} if "sweep" in text.lower() else {}
    tests = [_fuzzy(term) if fuzzy and is_word(term) else _test_of(term, params, sweeps) for term in terms]
    return lambda run: all(test(run) for test in tests)


def _words(run: Run) -> str:
    return f"#{run.number} {run.name} {run.method} {run.state} {run.model} {run.standing}"


def is_word(term: str) -> bool:
    """Whether a term of a filter is looked for as it is."""
    return not (_TERM.match(term) or _UNFINISHED.match(term))


def _fuzzy(term: str) -> Callable[[Run], bool]:
    def passes(run: Run) -> bool:
        for text in (run.name, run.method, run.model):
            letters = iter(text.lower())
            if all(letter in letters for letter in term):
                return True
        return False

    return passes


def _test_of(term: str, params: Params, sweeps: Mapping[str, str]) -> Callable[[Run], bool]:
    if _UNFINISHED.match(term):
        return lambda run: True
    match = _TERM.match(term)
    if not match:
        return lambda run: term in _words(run).lower()
    name, sign, wanted = match.groups()
    if name == "sweep":
        sweep = sweeps.get(wanted.removeprefix("#")) or None
        return lambda run: (run.sweep == sweep) != (sign == "!=")
    values = params.get(name, {})
    actual = _FIELDS.get(name, lambda run: values.get(run.number))
    if sign in _COMPARE:
        return lambda run: _compares(_COMPARE[sign], actual(run), wanted)
    return lambda run: _equal(actual(run), wanted, part=sign == ":") != (sign == "!=")


def _compares(compare: Callable[[float, float], bool], actual: Any, wanted: str) -> bool:
    try:
        return actual is not None and compare(float(actual), float(wanted))
    except ValueError:
        return False


def _equal(actual: Any, wanted: str, part: bool) -> bool:
    if isinstance(actual, str) and not _is_number(actual):
        return wanted in actual.lower() if part else actual.lower() == wanted
    try:
        return actual is not None and float(actual) == float(wanted)
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def arrange(
    runs: tuple[Run, ...],
    text: str,
    sort: str,
    down: bool,
    params: Params,
    columns: Params | None = None,
    fuzzy: bool = False,
) -> list[Run]:
    """The runs that pass, in order; runs without a value come last either way. `columns`: values of those that the user
    chose, which may be sorted by, too.
    """
    chosen = list(filter(test_of(text, params, runs, fuzzy=fuzzy), runs) if text.split() else runs)
    if sort == "#":
        return sorted(chosen, key=SORTS["#"], reverse=down)
    key = SORTS.get(sort) or _by_value((columns or {}).get(sort, {}))
    known = sorted((run for run in chosen if key(run) is not None), key=SORTS["#"], reverse=True)
    known.sort(key=key, reverse=down)
    return known + [run for run in chosen if key(run) is None]


def same_place(before: Run, after: Run, sort: str, test: Callable[[Run], bool]) -> bool:
    """Whether a run that has moved on stands where it stood, in an order by `arrange`; `test`: see `test_of`."""
    key = SORTS.get(sort, SORTS["#"])  # of the user's columns, the values have come otherwise
    return key(before) == key(after) and test(before) == test(after)


def _by_value(values: Mapping[int, str]) -> Callable[[Run], Any]:
    """Numbers by their size, and where one is none, all as words."""
    if all(map(_is_number, values.values())):
        return lambda run: float(values[run.number]) if run.number in values else None
    return lambda run: values.get(run.number)
