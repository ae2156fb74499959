"""What DuckDB says, said for people."""

from __future__ import annotations

import math

import duckdb
import pytest

from store.explain import explain

M = "CREATE TABLE m AS SELECT unnest(['nan'::DOUBLE, 1, 'inf'::DOUBLE]) AS value"


def said(sql: str) -> str:
    with duckdb.connect() as connection:
        connection.execute(M)
        with pytest.raises(duckdb.Error) as caught:
            connection.execute(sql)
    return explain(caught.value)


@pytest.mark.parametrize(
    "call",
    ["stddev", "stddev_pop", "variance", "var_pop", "sem", "skewness", "kurtosis_pop", "corr", "regr_r2"],
)
def test_a_spread_over_a_run_that_diverged_names_nan_and_what_to_do(call: str) -> None:
    arguments = "value, value" if call in ("corr", "regr_r2") else "value"
    query = f"SELECT {call}({arguments}) FROM m"
    if call not in ("skewness", "kurtosis_pop") and not duckdb.__version__.startswith("1."):
        with duckdb.connect() as connection:  # DuckDB 2 has a result
            assert math.isnan(connection.execute(M).execute(query).fetchall()[0][0])
        return
    sentence = said(query)
    assert "NaN" in sentence
    assert sentence.endswith("leave them out with WHERE isfinite(value)")


def test_what_is_advised_helps() -> None:
    with duckdb.connect() as connection:
        query = "SELECT stddev(value) FROM (VALUES ('nan'::DOUBLE), (1), (2), ('inf'::DOUBLE)) m(value)"
        assert connection.execute(f"{query} WHERE isfinite(value)").fetchall()


@pytest.mark.parametrize(
    ("sql", "begins"),
    [
        ("SELECT * FROM runz", "line 1: table with name runz does not exist; "),
        (
            "SELECT foo FROM m",
            'line 1: referenced column "foo" not found in FROM clause; did you mean "value"',
        ),
        ("SELECT 'a'::INT", "line 1: could not convert string 'a' to INT32"),
        ("SELECT 1 FROM", ("syntax error at end of input", 'line 1: syntax error at or near "FROM"')),
    ],
)
def test_a_sentence_begins_small(sql: str, begins: str | tuple[str, ...]) -> None:
    assert said(sql).startswith(begins)


@pytest.mark.parametrize(
    "first", ["SELECT clause without a list", "GROUP BY clause cannot contain it", "JSON is wrong"]
)
def test_a_word_in_capitals_stays(first: str) -> None:
    assert explain(duckdb.BinderException(f"Binder Error: {first}!\n\nLINE 1: x")) == f"line 1: {first}"
    assert explain(duckdb.BinderException("Binder Error: A column is missing")) == "a column is missing"
