"""The file: made, found, rebuilt, reopened."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from fake_home import FakeHome, content, rows

from finetui.errors import StoreError
from store import snapshot
from store.ingest import Ingest
from store.projection import Projection


def fill(home: FakeHome) -> None:
    run = home.run(1)
    run.start()
    for step in range(50):
        run.metrics(step, loss=1.0)


def fill_more(home: FakeHome) -> None:
    run = home.run(2)
    run.start()
    run.metrics(1, loss=3.0)


# Tables, views and macros with their comments.
DESCRIBED = """
SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal
UNION ALL SELECT 'view', view_name, comment FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 'macro', function_name, comment FROM duckdb_functions() WHERE NOT internal ORDER BY ALL"""


def asides(home: FakeHome) -> list[str]:
    return [path.name for path in home.path.glob("store.duckdb.aside*") if not path.name.endswith(".wal")]


def test_this_is_the_duckdb_that_was_asked_for() -> None:
    """`make test` runs this file twice, the second time with DuckDB 2 first on the path."""
    first = os.environ["PYTHONPATH"].split(os.pathsep)
    asked = any(Path(folder).name == "duckdb-2" for folder in first)
    assert not asked or duckdb.__version__.startswith("2.")


def test_every_table_column_view_and_macro_explains_itself(projection: Projection) -> None:
    assert not rows(projection, "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL")
    assert not rows(projection, "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL")
    missing = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND coalesce(comment, '') = ''"
    assert not rows(projection, missing)
    macros = "SELECT function_name, comment FROM duckdb_functions() WHERE NOT internal"
    found = dict(rows(projection, macros))
    expected = {
        "baselines",
        "changes",
        "choices",
        "compare",
        "curve",
        "distance",
        "drift",
        "forgotten",
        "hardware_use",
        "slices",
        "worst",
    }
    assert set(found) == expected
    assert all(found.values())


def test_a_new_file_is_made_without_pandas(tmp_path: Path) -> None:
    """DuckDB imports it with the first parameter, and that takes longer than to make the file."""
    script = (
        "import sys; from pathlib import Path; from store.projection import Projection;"
        "Projection(Path(sys.argv[1])).close(); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "store.duckdb")], check=True)
    assert (tmp_path / "store.duckdb").exists()


def test_an_instance_is_locked_down(projection: Projection) -> None:
    settings = {
        "enable_external_access": "false",
        "lock_configuration": "true",
        "python_enable_replacements": "false",
        "autoload_known_extensions": "false",
    }
    for name, value in settings.items():
        found = rows(projection, "SELECT value FROM duckdb_settings() WHERE name = $name", name=name)
        assert found == [(value,)], name
    with pytest.raises(duckdb.InvalidInputException), projection.write() as cursor:
        cursor.execute("SET threads = 1")


def test_content_stays_over_a_restart(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    fill(home)
    ingest.poll()
    before = content(projection)
    projection.close()
    again = Projection(home.store)
    assert again.generation == 0
    assert content(again) == before
    assert Ingest(again, home.path).poll() == 0
    again.close()


def other_version(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = 'old' WHERE key = 'schema'")


def no_tables(path: Path) -> None:
    path.unlink()
    duckdb.connect(str(path)).close()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 1000)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def header_overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = bytes(8192)
    path.write_bytes(data)


DAMAGED = (no_tables, not_a_database, cut, header_overwritten)


@pytest.mark.parametrize("spoil", [other_version, no_tables, not_a_database, cut, header_overwritten])
def test_a_file_that_cannot_be_used_is_rebuilt(
    home: FakeHome, projection: Projection, ingest: Ingest, spoil: object
) -> None:
    fill(home)
    ingest.poll()
    before = content(projection)
    projection.close()
    assert callable(spoil)
    spoil(home.store)
    again = Projection(home.store)
    assert again.generation == 1
    assert len(asides(home)) == 1
    if spoil in DAMAGED:
        assert again.notice is not None
        assert asides(home)[0] in again.notice.text
    else:
        assert again.notice is None
    Ingest(again, home.path).poll()
    assert content(again) == before
    again.close()


def test_other_words_are_replaced_in_place(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    """Comments, views and macros hold no rows: a file of a version that had others is not rebuilt."""
    fill(home)
    ingest.poll()
    before = content(projection)
    projection.close()
    with duckdb.connect(str(home.store)) as connection:
        connection.execute("COMMENT ON COLUMN runs.name IS 'an older word'")
        connection.execute("DROP VIEW leaderboard")
        connection.execute("CREATE VIEW older AS SELECT 1 AS one")
        connection.execute("CREATE OR REPLACE MACRO curve(a) AS TABLE SELECT a")
        connection.execute("UPDATE meta SET value = 'older' WHERE key = 'words'")
    again = Projection(home.store)
    assert (again.generation, again.notice, asides(home)) == (0, None, [])
    assert content(again) == before
    comment = "SELECT comment FROM duckdb_columns() WHERE table_name = 'runs' AND column_name = 'name'"
    assert rows(again, comment) == [("name from the recipe",)]
    assert rows(again, "SELECT count(*) FROM leaderboard") == [(0,)]
    assert rows(again, "SELECT count(*) FROM curve(1, 'train/loss')") == [(50,)]
    assert not rows(again, "SELECT * FROM duckdb_views() WHERE view_name = 'older'")
    again.close()


def written_by_a_later_duckdb(path: Path) -> None:
    """Raise the storage version in the first header, with its checksum, as DuckDB computes it."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 12, 10_000)
    checksum = 5381
    for (word,) in struct.iter_unpack("<Q", data[8:4096]):
        checksum ^= word * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    struct.pack_into("<Q", data, 0, checksum)
    path.write_bytes(data)


def test_a_file_of_a_later_duckdb_is_left_as_it_is(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    fill(home)
    ingest.poll()
    before = content(projection)
    projection.close()
    written_by_a_later_duckdb(home.store)
    later = home.store.read_bytes()
    for generation in (1, 0):  # the second time the file beside it is there
        again = Projection(home.store)
        assert again.generation == generation
        assert again.notice is not None
        assert "was written by a later DuckDB" in again.notice.text
        assert again.path.name in again.notice.text
        Ingest(again, home.path).poll()
        assert content(again) == before
        again.close()
    assert home.store.read_bytes() == later
    assert not asides(home)


def test_only_the_latest_spoilt_file_is_kept(home: FakeHome, projection: Projection) -> None:
    projection.rebuild()
    projection.rebuild()
    assert len(asides(home)) == 1


def test_a_file_held_by_another_process_is_left_alone(home: FakeHome, projection: Projection) -> None:
    script = (
        "import sys; from pathlib import Path; from store import Projection; Projection(Path(sys.argv[1]))"
    )
    other = subprocess.run([sys.executable, "-c", script, str(home.store)], capture_output=True, text=True)
    assert other.returncode != 0
    assert "is held by process" in other.stderr.splitlines()[-1]
    assert not asides(home)
    assert rows(projection, "SELECT count(*) FROM runs") == [(0,)]


def fail(projection: Projection) -> None:
    """What DuckDB raises when an instance is of no more use (a full disk at commit, say)."""
    with projection.write() as cursor:
        cursor.execute("INSERT INTO meta VALUES ('lost', 'yes')")
        raise duckdb.FatalException(
            "FATAL Error: database has been invalidated because of a previous fatal error"
        )


def test_after_a_fatal_error_the_file_is_reopened_and_ingest_goes_on(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    fill(home)
    ingest.poll()
    before = content(projection)
    with pytest.raises(duckdb.FatalException):
        fail(projection)
    assert content(projection) == before
    run = home.run(2)
    run.start()
    run.metrics(1, loss=3.0)
    assert ingest.poll() > 0
    assert rows(projection, "SELECT count(*) FROM runs") == [(2,)]
    assert projection.generation == 0


def test_ingest_survives_a_failure_in_the_middle_of_a_round(
    home: FakeHome, projection: Projection, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from store.batch import Batch

    fill(home)
    apply = Batch.apply

    def failing(self: Batch, cursor: duckdb.DuckDBPyConnection) -> None:
        apply(self, cursor)
        raise duckdb.FatalException("FATAL Error: database has been invalidated")

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "apply", failing)
        assert ingest.poll() == 0
        assert ingest.problem is not None
    assert not rows(projection, "FROM metrics")
    assert ingest.poll() > 0
    assert ingest.problem is None
    assert rows(projection, "SELECT count(*), count(DISTINCT step) FROM metrics") == [(50, 50)]


def test_a_file_made_anew_in_the_middle_of_a_round_is_read_from_the_start(
    home: FakeHome, projection: Projection, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from store.writing import Writer

    fill(home)
    ingest.poll()
    before = content(projection)
    fill_more(home)
    flush = Writer.flush

    def flush_into_another(self: Writer, *given: Any) -> None:
        monkeypatch.setattr(Writer, "flush", flush)
        projection.rebuild()
        flush(self, *given)

    monkeypatch.setattr(Writer, "flush", flush_into_another)
    assert ingest.poll() == 0
    assert ingest.problem is None
    ingest.poll()
    assert rows(projection, "SELECT count(*), count(DISTINCT step) FROM metrics WHERE run = 1") == [(50, 50)]
    assert set(before["metrics"]) < set(content(projection)["metrics"])


def test_compaction_keeps_every_row_and_gives_the_space_of_those_that_are_gone(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    fill(home)
    ingest.poll()
    with projection.write() as cursor:
        cursor.execute("INSERT INTO system_metrics SELECT range, 'noise', random() FROM range(500000)")
    with projection.write() as cursor:
        cursor.execute("CHECKPOINT")
        cursor.execute("DELETE FROM system_metrics")
    before, described = content(projection), rows(projection, DESCRIBED)
    larger, smaller = projection.compact()
    assert smaller < larger / 2
    assert projection.path.stat().st_size == smaller
    assert content(projection) == before
    assert rows(projection, DESCRIBED) == described
    fill_more(home)
    assert ingest.poll() > 0  # on from where it was
    projection.close()
    again = Projection(home.store)
    assert again.generation == 0
    assert rows(again, "SELECT run, count(*) FROM metrics GROUP BY run ORDER BY run") == [(1, 50), (2, 1)]
    again.close()
    assert not asides(home)


def test_a_compaction_that_has_no_room_leaves_the_file_as_it_is(
    home: FakeHome, projection: Projection, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home)
    ingest.poll()
    before = content(projection)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
        with pytest.raises(StoreError, match="are free on the disk"):
            projection.compact()
    assert content(projection) == before
    assert sorted(path.name for path in home.path.glob("store.duckdb*")) == ["store.duckdb"]


def test_a_snapshot_is_a_file_for_other_tools(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    fill(home)
    ingest.poll()
    target = home.path / "out.duckdb"
    with projection.read() as reader:  # a client that has not read its answer to the end
        reader.execute("FROM metrics")
        taken = snapshot.write(projection, target)
    with duckdb.connect(str(target), read_only=True) as other:
        assert other.execute("SELECT count(*) FROM curve(1, 'train/loss')").fetchone() == (50,)
        sql = "SELECT epoch(value::TIMESTAMPTZ) FROM meta WHERE key = 'snapshot'"
        assert other.execute(sql).fetchone() == (int(taken),)
    command = [sys.executable, "-c", f"import duckdb; duckdb.connect({str(projection.path)!r})"]
    opened = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Could not set lock" in opened.stderr, "the daemon alone may open its file, afterwards as before"


def test_a_snapshot_that_ends_early_leaves_what_was_there(home: FakeHome, projection: Projection) -> None:
    target = home.path / "out.duckdb"
    target.write_text("what was there")
    with pytest.raises(StoreError, match=r"is the database itself: name another file"):
        snapshot.write(projection, projection.path)

    def end(copied: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        snapshot.write(projection, target, end)
    with pytest.raises(StoreError, match=r"was not written: No such file or directory"):
        snapshot.write(projection, home.path / "none" / "out.duckdb")
    assert target.read_text() == "what was there"
    assert not list(home.path.glob(".out*")), "nothing is left beside it"


FULL_DISK = """
import resource, sys
from pathlib import Path
from store import Ingest, Projection
home = Path(sys.argv[1])
projection = Projection(home / "store.duckdb")
ingest = Ingest(projection, home, batch_rows=2000)
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))  # no file is written beyond
for _ in range(3):
    ingest.poll()
    print("problem:", ingest.problem, flush=True)
try:
    with projection.read() as cursor:
        cursor.execute("CHECKPOINT")
except Exception as error:
    print("checkpoint:", type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ingest.poll()
print("problem:", ingest.problem, flush=True)
projection.close()
"""


def test_a_full_disk_stops_ingest_until_there_is_room(home: FakeHome, projection: Projection) -> None:
    projection.close()
    run = home.run(1)
    run.start()
    for step in range(5_000):
        run.metrics(step, loss=step * 0.1, noise=(step * 7919 % 1000) / 3)
    script = [sys.executable, "-c", FULL_DISK, str(home.path)]
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{Path(__file__).parents[2]}"}
    done = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    full, *_, free = [line for line in done.stdout.splitlines() if line.startswith("problem:")]
    assert full.startswith("problem: the logs are not read into the database for now: ")
    assert "File too large" in full
    assert "checkpoint: FatalException" in done.stdout
    assert free == "problem: None"
    again = Projection(home.store)
    assert again.generation == 0
    counts = "SELECT count(*), count(DISTINCT (step, key)), (SELECT sum(n) FROM run_summary) FROM metrics"
    assert rows(again, counts) == [(10_000, 10_000, 10_000)]
    again.close()
    assert not asides(home)


def test_a_reader_whose_instance_fails_is_told_to_ask_again(projection: Projection) -> None:
    from store.guard import told

    with pytest.raises(duckdb.FatalException) as failed, projection.read():
        raise duckdb.FatalException(
            "FATAL Error: database has been invalidated because of a previous fatal error"
        )
    assert told(failed.value).kind == "restarted"
    assert rows(projection, "SELECT 1") == [(1,)]
