"""What may come next in a query, and how a query is taken apart."""

from __future__ import annotations

import pytest

from tui.lines.sql import tokens
from tui.widgets.completion import Item, Names, suggest

NAMES = Names(
    (
        Item("runs", "table", "One row per run"),
        Item("run", "column", "number", "runs"),
        Item("state", "column", "where it is", "runs"),
        Item("evals", "table"),
        Item("run", "column", "number", "evals"),
        Item("suite", "column", "", "evals"),
        Item("value", "column", "", "evals"),
        Item("curve", "macro"),
        Item("round", "function"),
    ),
    {"key": ("heldout/loss", "train.lr", "train/loss"), "state": ("failed", "running")},
)


def offered(query: str, *, asked: bool = False) -> list[str]:
    """What is offered where the query has `|`."""
    found = suggest(query.replace("|", ""), query.index("|"), NAMES, asked=asked)
    return [item.insert for item in found.items] if found else []


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("sel|", "select"),
        ("SEL|", "SELECT"),
        ("SELECT val|", "value"),  # not the keyword values, before a table is named
        ("SELECT run, VAL|", "value"),
        ("SELECT 1 FROM runs ORDER BY val|", "value"),
        ("SELECT max(val|", "value"),
        ("val|", "values"),
        ("SELECT run fr|", "from"),
        ("SELECT 1 FROM runs ORDER BY run de|", "desc"),
        ("FROM r|", "runs"),
        ("FROM ev|", "evals"),
        ("SELECT su| FROM evals", "suite"),
        ("SELECT e.s| FROM runs r JOIN evals AS e USING (run)", "suite"),
        ("SELECT r.s| FROM runs r JOIN evals AS e USING (run)", "state"),
        ("SELECT r.| FROM runs r", "run"),
        ("FROM cu|", "curve("),
        ("SELECT rou|", "round("),
        ("FROM curve(1, 'train/|", "train/loss"),
        ("FROM curve(1, 'tr|')", "train.lr"),
        ("SELECT 1 FROM runs WHERE state = 'f|", "failed"),
        ("SELECT 1 FROM runs WHERE state IN ('failed', 'r|", "running"),
        ("SELECT 1 FROM evals WHERE key LIKE 'loss|", "heldout/loss"),
    ],
)
def test_what_is_likely_comes_first(query: str, first: str) -> None:
    assert offered(query)[0] == first


@pytest.mark.parametrize(
    "query",
    [
        "SELECT |",  # nothing typed yet
        "SELECT 'it''s |",  # no value begins so
        "-- sel|",
        "/* sel| */",
        "SELECT 12|",
        "FROM zzz|",
        "FROM runs|",  # whole
        "SELECT 1 FROM evals WHERE suite = 'f|",  # values of another column
        "SELECT 'a'|",
    ],
)
def test_nothing_is_offered_where_nothing_fits(query: str) -> None:
    assert offered(query) == []


def test_tables_alone_come_after_from() -> None:
    assert set(offered("FROM |", asked=True)) == {"runs", "evals", "curve("}


def test_columns_of_the_tables_that_are_named_come_before_others() -> None:
    assert offered("SELECT s| FROM evals")[0] == "suite"
    assert offered("SELECT s| FROM runs")[0] == "state"


def test_each_name_is_offered_once() -> None:
    assert offered("SELECT ru|").count("run") == 1


def test_a_query_is_taken_apart() -> None:
    query = """SELECT "my col", 1.5e-3 -- 'x'\nFROM runs WHERE a = 'it''s' /* open"""
    assert [(token.kind, token.text) for token in tokens(query)] == [
        ("keyword", "SELECT"), ("name", '"my col"'), ("number", "1.5e-3"), ("comment", "-- 'x'"),
        ("keyword", "FROM"), ("name", "runs"), ("keyword", "WHERE"), ("name", "a"), ("text", "'it''s'"),
        ("comment", "/* open"),
    ]  # fmt: skip
