"""Columns and views that answer what people ask: numbers of recipes, versions, checkpoints, places, hardware."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_home import T0, FakeHome, rows

from finetui.log import LogWriter
from store import guard
from store.ingest import Ingest
from store.projection import Projection

DOCS = Path(__file__).parents[2] / "docs" / "sql.md"


def test_a_number_of_the_recipe_sorts_as_a_number(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    for number, rank in enumerate((16, 4, 8), start=1):
        home.run(number, method={"name": "lora", "r": rank, "dora": True, "lr": "1e-3"})
    ingest.poll()
    query = "SELECT run, value, number FROM params WHERE key = $key ORDER BY number, run"
    assert rows(projection, query, key="method.r") == [(2, "4", 4.0), (3, "8", 8.0), (1, "16", 16.0)]
    assert [row[2] for row in rows(projection, query, key="train.lr")] == [2e-4] * 3
    for key in ("method.dora", "method.lr", "data.heldout"):
        assert {row[2] for row in rows(projection, query, key=key)} == {None}, f"{key} is no number"


def test_versions_of_a_run_can_be_asked_for(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    home.run(1)
    ingest.poll()
    assert rows(projection, "FROM libraries ORDER BY library") == [
        (1, "python", "3.11.9"),
        (1, "torch", "2.9.1"),
    ]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, [1, 2]),
        ({"task": {"name": "classification"}}, [1, 1]),
        ({"data": {"train": "bundled:docstrings", "heldout": "20%"}}, [1, 1]),
        ({"data": {"train": "bundled:docstrings", "heldout": "10%", "limit": 9}}, [1, 1]),
        ({"method": {"name": "full"}, "train": {"lr": 1.0}}, [1, 2]),
    ],
)
def test_places_are_among_runs_that_can_be_compared(
    home: FakeHome, projection: Projection, ingest: Ingest, changes: dict[str, object], places: list[int]
) -> None:
    for number, more in ((1, {}), (2, changes)):
        run = home.run(number, **more)
        run.start()
        run.eval(0, "heldout", [30.0, 20.0])
        run.eval(1, "heldout", [10.0 * number, 9.0])
    ingest.poll()
    assert [place for (place,) in rows(projection, "SELECT place FROM leaderboard ORDER BY run")] == places


def test_the_use_of_hardware_is_an_average_over_time(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    """Samples come five times as often while something runs."""
    log = LogWriter(home.path / "hardware.jsonl", "hardware")
    times = [*((2.0 * k, 100.0) for k in range(101)), *((200.0 + 10.0 * k, 0.0) for k in range(1, 101))]
    for t, value in times:
        log.write("sample", t=T0 + t, values={"gpu0/util": value})
    log.write("sample", t=T0 + 90_000.0, values={"gpu0/util": 100.0})  # the daemon was not running
    log.close()
    ingest.poll()
    query = "SELECT key, average, highest, hours FROM hardware_use($since)"
    day = rows(projection, query, since=T0)
    assert day == [("gpu0/util", pytest.approx((200 + 60) / 1260 * 100), 100.0, pytest.approx(1260 / 3600))]
    assert rows(projection, query, since=T0 + 300.0)[0][1] == pytest.approx(60 / 960 * 100, rel=0.02)
    assert rows(projection, query, since=T0 + 80_000.0) == []


def test_every_documented_query_is_allowed_and_runs(projection: Projection) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    queries = [query.strip() for block in blocks for query in block.split(";") if query.strip()]
    assert len(queries) > 15
    for query in queries:
        assert guard.run(projection, query).table.num_columns, query
