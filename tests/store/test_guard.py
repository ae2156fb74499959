"""A user's SQL reads, and does nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from fake_home import FakeHome, rows

from finetui.errors import StoreError
from store import answers, guard
from store.ingest import Ingest
from store.limits import Limits
from store.projection import Projection

ALLOWED = [
    "SELECT 1",
    "FROM runs",
    "  -- a comment\n SELECT run FROM runs;",
    "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
    "VALUES (1), (2)",
    "TABLE runs",
    "DESCRIBE runs",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE metrics",
    "EXPLAIN SELECT * FROM runs",
    "EXPLAIN ANALYZE SELECT * FROM runs",
    "EXPLAIN (FORMAT json) SELECT * FROM runs",
    "/* why */ EXPLAIN FROM runs",
    "PIVOT run_summary ON key IN ('train/loss') USING any_value(last) GROUP BY run",
    "FROM curve(1, 'train/loss')",
    "FROM compare(1, 2)",
    "FROM forgotten(1)",
    "FROM leaderboard",
    "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE comment IS NOT NULL",
    "SELECT unnest([1, 2]), to_timestamp(1), regexp_extract('a1', '[0-9]')",
    "SELECT * FROM range(3), (SELECT avg(value) OVER (PARTITION BY run) FROM metrics)",
    "SELECT ';', 'drop table runs'",
]

REFUSED = [
    "SELECT 1; SELECT 2",
    "COMMIT; DROP TABLE runs",
    "SELECT 1; COMMIT; DROP TABLE runs",
    "DROP TABLE runs",
    "DELETE FROM runs",
    "INSERT INTO meta VALUES ('a', 'b')",
    "UPDATE runs SET name = 'x'",
    "MERGE INTO meta USING meta m ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO meta VALUES ('a', 'b') RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE runs SET name = 'x' RETURNING *) SELECT * FROM x",
    "WITH x AS (COPY runs TO '/tmp/stolen.csv') SELECT 1",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '/tmp/stolen.csv') SELECT 1)",
    "EXPLAIN ANALYZE WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x",
    "EXPLAIN ANALYZE DELETE FROM runs",
    "EXPLAIN ANALYZE (SELECT 1); DELETE FROM runs",
    "EXPLAIN EXPLAIN ANALYZE DELETE FROM runs",
    "EXPLAIN /* a */ ANALYZE DELETE FROM runs",
    "CREATE TABLE x (a INT)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "ALTER TABLE runs ADD COLUMN x INT",
    "SELECT 1 AS a INTO x",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SET threads = 1",
    "SET GLOBAL enable_external_access = true",
    "RESET lock_configuration",
    "SET VARIABLE a = 1",
    "PRAGMA enable_external_access = true",
    "PRAGMA memory_limit = '100GB'",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "PRAGMA table_info('runs')",
    "ATTACH '/tmp/other.duckdb'",
    "DETACH store",
    "USE memory",
    "COPY runs TO '/tmp/stolen.csv'",
    "COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "EXPORT DATABASE '/tmp/stolen'",
    "IMPORT DATABASE '/tmp/stolen'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "CONNECT 'x'",
    "DISCONNECT",
    "UPDATE EXTENSIONS",
    "CREATE SECURE VIEW x AS SELECT 1",
    "CREATE TRIGGER x AFTER INSERT ON meta FOR EACH ROW SELECT 1",
    "CALL enable_logging()",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_path = '/tmp/stolen')",
    "SELECT * FROM system.main.enable_logging()",
    'SELECT * FROM "enable_logging"()',
    "DESCRIBE SELECT * FROM enable_logging()",
    "SUMMARIZE SELECT * FROM enable_logging()",
    "EXPLAIN ANALYZE SELECT * FROM enable_logging()",
    "SELECT (SELECT count(*) FROM enable_logging())",
    "WITH x AS (SELECT * FROM enable_logging()) SELECT * FROM x",
    "SELECT * FROM enable_profiling()",
    "SELECT * FROM query('SELECT * FROM enable_' || 'logging()')",
    "SELECT * FROM query_table('runs')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM enable_logging()'))",
    "SELECT * FROM checkpoint('store')",
    "SELECT * FROM force_checkpoint('store')",
    "SELECT * FROM truncate_duckdb_logs()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM seq_scan()",
    "SELECT * FROM python_map_function()",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM read_single_csv_file('/etc/passwd')",
    "SELECT * FROM read_single_json_file('/etc/passwd')",
    "SELECT * FROM read_single_parquet_file('/etc/passwd')",
    "SELECT * FROM parquet_page_index('/etc/passwd')",
    "SELECT * FROM python_arrow_scan(1)",
    "SELECT * FROM add_grammar_extension('x')",
    "SELECT * FROM remove_grammar_extension('x')",
    "SELECT * FROM create_external_resource('x')",
    "SELECT * FROM register_external_resource('x')",
    "SELECT * FROM register_external_resource_type('x')",
    "SELECT * FROM deregister_external_resource('x')",
    "SELECT * FROM destroy_external_resource('x')",
    "SELECT * FROM duckdb_external_resources()",
    "SELECT * FROM duckdb_live_query_metrics()",
    "SELECT * FROM '/etc/passwd.csv'",
    "SELECT * FROM 'https://example.org/x.parquet'",
    "SELECT getenv('HOME')",
    "SELECT write_log('x')",
    "SELECT sleep_ms(100000)",
    "SELECT nextval('s')",
    "SELECT setval('s', 1)",
    "SELECT __internal_barrier(1)",
    "SELECT * FROM secret_local_table",
    "SELECT " + "1 + " * 5000 + "1 AS x FROM nowhere",
    "",
    "   ",
    "-- only a comment",
]


@pytest.fixture
def filled(home: FakeHome, projection: Projection) -> Projection:
    run = home.run(1)
    run.start()
    run.metrics(1, loss=2.0)
    Ingest(projection, home.path).poll()
    return projection


def test_show_tables_has_macros_and_describe_has_comments(filled: Projection) -> None:
    everything = guard.run(filled, "show tables;").table.to_pylist()
    named = {row["name"]: row["kind"] for row in everything}
    assert (named["runs"], named["results"], named["curve(run, key)"]) == ("table", "view", "macro")
    assert all(row["comment"] for row in everything)
    for statement in ("DESCRIBE evals", " desc EVALS ;"):
        columns = guard.run(filled, statement).table.to_pylist()
        assert columns[0] == {"column_name": "run", "column_type": "INTEGER", "comment": "number of the run"}
        assert [row["column_name"] for row in columns][-1] == "seconds"
    (macro,) = guard.run(filled, "DESCRIBE curve").table.to_pylist()
    assert (macro["macro"], macro["parameters"]) == ("curve", "run, key")
    assert "column_name" in guard.run(filled, "DESCRIBE SELECT 1 AS one").table.column_names
    with pytest.raises(StoreError, match="nothing"):
        guard.run(filled, "DESCRIBE nothing")


def test_what_reads_is_allowed(filled: Projection) -> None:
    for sql in ALLOWED:
        guard.run(filled, sql)


def test_everything_else_is_refused_and_changes_nothing(filled: Projection, tmp_path: Path) -> None:
    secret_local_table = __import__("pyarrow").table({"a": [1]})  # DuckDB would look in callers' variables
    before = sorted(path.name for path in Path("/tmp").glob("stolen*"))
    for sql in REFUSED:
        with pytest.raises(StoreError) as refused:
            guard.run(filled, sql)
        assert refused.value.kind in ("refused", "sql"), sql
        assert str(refused.value).strip(), sql
        assert "Traceback" not in str(refused.value)
        assert "\n" not in str(refused.value), sql
    assert sorted(path.name for path in Path("/tmp").glob("stolen*")) == before
    assert rows(filled, "SELECT count(*) FROM runs") == [(1,)]
    assert rows(
        filled, "SELECT current_setting('enable_external_access'), current_setting('lock_configuration')"
    ) == [(False, True)]
    assert secret_local_table.num_rows == 1


def test_a_with_writes_no_file_that_the_database_itself_may_write(filled: Projection) -> None:
    """DuckDB lets it write beside its own file, and DuckDB 2 takes COPY as the body of a WITH."""
    beside = filled.path.with_name(f"{filled.path.name}.compact")
    with pytest.raises(StoreError, match=r"^(COPY in a WITH is not allowed here|a CTE needs a SELECT)$"):
        guard.run(filled, f"WITH x AS (COPY (SELECT 1) TO '{beside}') SELECT 1")
    assert not beside.exists()


def test_rows_that_nobody_asks_for_are_not_made(filled: Projection, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once would be in memory, whatever the limit of an answer."""
    monkeypatch.setattr(answers, "COUNT_S", 0.0)
    sql = "SELECT CASE WHEN range = 20000000 THEN error('too far') ELSE range END AS n FROM range(100000000)"
    answer = guard.run(filled, sql, limit=2)
    assert answer.table.to_pylist() == [{"n": 0}, {"n": 1}]
    assert answer.note is not None
    assert answer.note.startswith("only the first 2 of more than ")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT statee FROM runs", r'line 1: referenced column "statee" not found.*did you mean .*"state"'),
        ("SELECT 1\nFROM rnus", r'line 2: table with name rnus does not exist; did you mean "runs"\?'),
        ("SELECT\n  1 +\nFROM runs WHERE", r"line 3: syntax error at"),
        ("SELECT nosuch(1)", r"line 1: scalar Function with name nosuch does not exist"),
        ("DROP TABLE runs", "DROP is not allowed here: the store is only read; use SELECT"),
        ("SELECT 1; SELECT 2", "one statement at a time: this is 2"),
    ],
)
def test_errors_say_where_and_what_instead(filled: Projection, sql: str, expected: str) -> None:
    with pytest.raises(StoreError, match=expected):
        guard.run(filled, sql)


def test_a_writer_goes_on_beside_a_long_query_which_then_is_stopped(filled: Projection) -> None:
    running = guard.Running()
    ended: list[str] = []

    def ask() -> None:
        sql = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
        try:
            guard.run(filled, sql, timeout_s=60, running=running, query_id="long")
        except StoreError as error:
            ended.append(error.kind)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.1)
    with filled.write() as cursor:
        cursor.execute("INSERT INTO meta VALUES ('beside', 'yes')")
    while not running.stop("long"):
        time.sleep(0.01)
    thread.join(timeout=30)
    assert ended == ["cancelled"]
    assert rows(filled, "SELECT value FROM meta WHERE key = 'beside'") == [("yes",)]


def test_the_time_limit_also_holds_while_rows_are_fetched(filled: Projection) -> None:
    with pytest.raises(StoreError) as stopped:
        guard.run(filled, "SELECT * FROM range(100000000000) WHERE range < 0", timeout_s=0.2)
    assert stopped.value.kind == "timeout"


def test_rows_that_are_on_their_way_are_stopped_with_the_same_sentence(filled: Projection) -> None:
    sql = "SELECT * FROM range(100000000000) WHERE range % 1000 = 0"
    with pytest.raises(StoreError, match=r"^the query took longer than 0\.3 s and was stopped") as stopped:
        guard.run(filled, sql, timeout_s=0.3)
    assert stopped.value.kind == "timeout"


def test_queries_that_take_too_much_memory_together_are_stopped(
    filled: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = guard.Running()
    monkeypatch.setattr(guard, "resident_bytes", lambda: 1 << 50)
    assert guard.run(filled, "SELECT 1 AS one", running=running).table.num_rows == 1
    with pytest.raises(StoreError, match="took more memory than is left") as stopped:
        guard.run(
            filled, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", running=running
        )
    assert stopped.value.kind == "refused"


def test_the_database_has_the_limits_of_the_configuration(home: FakeHome) -> None:
    made = Projection(home.path / "small.duckdb", Limits(memory_mb=200, threads=1, temp_mb=300))
    sql = "SELECT current_setting(name) FROM (SELECT 1) WHERE true"
    names = ("memory_limit", "threads", "max_temp_directory_size")
    found = [rows(made, sql.replace("name", f"'{name}'"))[0][0] for name in names]
    made.close()
    assert found == ["190.7 MiB", 1, "286.1 MiB"]


def test_too_much_memory_is_an_error_and_not_the_end(home: FakeHome) -> None:
    small = Projection(home.path / "small.duckdb", Limits(memory_mb=64))
    try:
        with pytest.raises(StoreError, match=r"^the query needs more memory than there is .*; ask for less$"):
            guard.run(small, "SELECT list(range) FROM range(100000000)")
        assert guard.run(small, "SELECT 1 AS one").table.to_pylist() == [{"one": 1}]
    finally:
        small.close()
