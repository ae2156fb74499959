"""What the dashboard asks about its table: the filter, the columns, and what the runs are grouped by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tui import run_filter
from tui.host import Answer
from tui.rows import Row

if TYPE_CHECKING:
    from tui.screens.dashboard import Dashboard

# The key, and what it groups the runs by.
GROUPS = (("s", "state"), ("w", "sweep"), ("t", "tag"), ("m", "method"), ("d", "data"))
COLUMNS = {"data": "data.train"}  # where that is a column
KEYS_HINT = "keys of recipes and metrics: train.lr heldout/token_accuracy"


def ask_filter(screen: Dashboard) -> None:
    def take(text: str) -> None:
        screen.run_list.filter = text
        screen.changed()

    hint = "words, state:running, method=lora, lr>1e-4"
    complete = lambda text: run_filter.complete(text, screen.snapshot.runs)  # noqa: E731
    screen.ask("filter", screen.run_list.filter, hint, take, live=True, complete=complete)


def ask_columns(screen: Dashboard) -> None:
    def take(text: str) -> None:
        keys = tuple(dict.fromkeys(text.replace(",", " ").split()))
        if _are_keys(screen, keys):
            screen.run_list.choose_columns(keys)
            screen.changed()

    shown = " ".join(screen.run_list.columns)
    screen.ask("columns beside the usual", shown, KEYS_HINT, take, complete=_names(screen))


def ask_groups(screen: Dashboard) -> None:
    def group(by: str) -> None:
        screen.run_list.group_by(by)
        screen.changed()

    def take(text: str) -> None:
        if not text:
            screen.host.say("nothing done")
        elif _are_keys(screen, (text,)):
            group(text)

    def ask_column() -> None:
        screen.ask("group by", "", KEYS_HINT, take, complete=_names(screen))

    answers = [Answer(key, by, partial(group, COLUMNS.get(by, by))) for key, by in GROUPS]
    more = [Answer("c", "column", ask_column), Answer("n", "none", partial(group, ""))]
    screen.host.choose("group by:", [*answers, *more])


def _are_keys(screen: Dashboard, keys: tuple[str, ...]) -> bool:
    odd = next((key for key in keys if not run_filter.is_key(key)), None)
    if odd is not None:
        screen.host.say(f"{odd} is no key of a recipe or metric", "bad")
    return odd is None


def _names(screen: Dashboard) -> Callable[[str], str | None]:
    """What completes the name of a column, once the names have come."""
    names: list[str] = []

    def take(rows: list[Row]) -> None:
        from tui.widgets.prompt import Prompt

        names.extend(row["key"] for row in rows)
        for prompt in screen.query(Prompt):  # something may have been typed meanwhile
            prompt.suggest()

    screen.host.in_thread(
        lambda client: client.query(run_filter.NAMES_SQL, limit=run_filter.MOST_VALUES).to_pylist(), take
    )
    return lambda text: run_filter.complete_name(text, names)
