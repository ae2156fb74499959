"""A run is its UUID: copies, moves, parents, and homes that were put together."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from fake_home import FakeHome, FakeRun, content, rows

from finetui.files import read_json, write_json
from store import queries
from store.ingest import Ingest
from store.projection import Projection

ROWS = "SELECT run, uuid, copy_of FROM runs ORDER BY run"


def made(home: FakeHome, number: int, name: str = "demo", **fields: object) -> FakeRun:
    run = home.run(number, name)
    write_json(run.path / "run.json", {**read_json(run.path / "run.json"), **fields})
    run.start()
    run.eval(0, "heldout", [30.0, 20.0])
    run.metrics(1, loss=2.0)
    run.eval(1, "heldout", [20.0, 20.0])
    run.end()
    return run


def copied(run: FakeRun, number: int) -> Path:
    return Path(shutil.copytree(run.path, run.path.with_name(f"{number:06d}-demo")))


def digest(projection: Projection) -> str:
    return hashlib.sha256(repr(content(projection)).encode()).hexdigest()


@pytest.mark.parametrize("copy", [1, 9])
def test_a_copied_directory_is_a_copy_whichever_is_read_first(
    home: FakeHome, projection: Projection, ingest: Ingest, copy: int
) -> None:
    run = made(home, 2)
    copied(run, copy)
    if copy == 9:
        ingest.poll()  # it was here before the copy came
    else:
        moved = run.path.rename(home.path / "elsewhere")
        ingest.poll()
        assert rows(projection, ROWS) == [(1, "uuid-2", None)], "all there is, so no copy"
        moved.rename(run.path)
    Ingest(projection, home.path).poll()
    (first, own, of), (second, other, other_of) = sorted(rows(projection, ROWS), key=lambda row: row[0] != 2)
    assert (first, own, of) == (2, "uuid-2", None)
    assert (second, other_of) == (copy, "uuid-2")
    assert other not in (own, None)
    said = rows(projection, "SELECT run, message FROM events WHERE kind = 'copy'")
    assert said == [(copy, "a copy: its run.json has the UUID of 000002-demo, uuid-2")]
    with projection.read() as cursor:
        sql, parameters = queries.run(copy)
        shown = cursor.sql(sql, params=parameters).to_arrow_table().to_pylist()[0]
    assert (shown["copy_of"], shown["uuid"], shown["parent"]) == (2, other, None)


def test_a_run_that_was_given_another_number_is_the_same_run(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = made(home, 2)
    made(home, 3, parent="uuid-2")
    ingest.poll()
    run.path.rename(run.path.with_name("000009-demo"))
    Ingest(projection, home.path).poll()
    assert (9, "uuid-2", None) in rows(projection, ROWS)
    parents = {row["run"]: row["parent"] for row in _table(projection)}
    assert parents[3] == 9
    assert not rows(projection, "SELECT 1 FROM events WHERE kind = 'copy'")
    assert rows(projection, "SELECT count(*) - count(DISTINCT uuid) FROM runs") == [(0,)]


def test_a_parent_is_known_by_its_uuid_and_by_the_number_that_older_versions_wrote(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    made(home, 1)
    made(home, 2, parent="uuid-1")
    made(home, 3, parent=1)
    made(home, 4, parent="uuid-of-another-home")
    made(home, 5, parent=[1])
    ingest.poll()
    assert rows(projection, "SELECT run, parent FROM runs ORDER BY run") == [
        (1, None),
        (2, "uuid-1"),
        (3, "uuid-1"),
        (4, "uuid-of-another-home"),
        (5, None),
    ]
    assert [row["parent"] for row in _table(projection)] == [None, 1, 1, None, None]
    assert "parent" in ingest.damaged[5]


def test_a_copy_has_the_uuid_once_the_original_was_removed(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = made(home, 2)
    copied(run, 9)
    ingest.poll()
    (home.path / "removed").mkdir()
    aside = run.path.rename(home.path / "removed" / "000002-demo~1790000000")
    for again in (ingest, Ingest(projection, home.path)):
        again.poll()
        assert rows(projection, ROWS) == [(9, "uuid-2", None)]
    before = digest(projection)
    projection.rebuild()
    again.poll()
    assert digest(projection) == before
    aside.rename(run.path)
    Ingest(projection, home.path).poll()
    assert [(row[0], row[2]) for row in rows(projection, ROWS)] == [(2, None), (9, "uuid-2")]


def test_homes_that_were_put_together_have_one_content_however_they_are_read(
    home: FakeHome, projection: Projection, ingest: Ingest, tmp_path: Path
) -> None:
    """Two homes with the same numbers; a copy; read as they came, and from nothing."""
    other = FakeHome(tmp_path / "other")
    made(home, 1)
    ingest.poll()
    made(other, 1, uuid="uuid-a")
    second = made(other, 2, uuid="uuid-b", parent="uuid-a")
    for number, path in ((7, other.path / "runs" / "000001-demo"), (5, second.path)):
        arrived = home.path / "runs" / f"{number:06d}-demo"
        shutil.copytree(path, arrived)
        write_json(arrived / "run.json", {**read_json(arrived / "run.json"), "number": number})
        Ingest(projection, home.path).poll()
    shutil.copytree(home.path / "runs" / "000007-demo", home.path / "runs" / "000003-demo")
    Ingest(projection, home.path).poll()
    before = digest(projection)
    assert {row["run"]: row["parent"] for row in _table(projection)} == {1: None, 3: None, 5: 7, 7: None}
    assert rows(projection, "SELECT run FROM runs WHERE copy_of = 'uuid-a'") == [(3,)]
    projection.rebuild()
    Ingest(projection, home.path).poll()
    assert digest(projection) == before


def _table(projection: Projection) -> list[dict[str, int | None]]:
    with projection.read() as cursor:
        sql, parameters = queries.runs()
        return cursor.sql(sql, params=parameters).to_arrow_table().to_pylist()
