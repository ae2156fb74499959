"""What the database may not interrupt is answered by a process of its own, which can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_home import FakeHome
from sql_doc import DOC, _statements

from finetui.client import Client, note
from finetui.errors import StoreError
from finetui.start import program
from store import functions, guard, query_process
from store.functions import read_calls
from store.ingest import Ingest
from store.limits import Limits
from store.projection import Projection
from store.server import Server

SLOW = "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000))"  # a minute, in one block


@pytest.fixture
def server(home: FakeHome, projection: Projection) -> Iterator[Server]:
    made = Server(home.path / "daemon.sock", projection, lambda name, body: {})
    made.start()
    yield made
    made.stop()
    assert not workers(), "no process is left"


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.socket) as made:
        yield made


def workers() -> list[psutil.Process]:
    def command(process: psutil.Process) -> list[str]:
        try:
            return process.cmdline()
        except psutil.Error:
            return []

    return [one for one in psutil.Process().children() if "store.query_worker" in command(one)]


def copies(projection: Projection) -> list[Path]:
    return list(query_process.folder_of(projection.path).glob("*"))


def may_hold(projection: Projection, sql: str) -> bool:
    with projection.read() as cursor:
        return read_calls(cursor, sql).may_hold


@pytest.mark.parametrize(
    "sql",
    [
        SLOW,
        "SELECT repeat('x', 1000)",
        "SELECT list_transform([1], lambda x: x + 1)",
        "SELECT [x + 1 FOR x IN [1]]",
        "SELECT unnest(range(1000))",
        "SELECT replace(name, 'a', name) FROM runs",
        "SELECT pg_sleep(0)",
        f"SELECT x FROM {'(SELECT x || x AS x FROM ' * 9}(SELECT name AS x FROM runs){')' * 9}",
        "SELECT count(*) FROM " + ", ".join(f"runs r{i}" for i in range(20)),
    ],
)
def test_what_may_go_on_in_one_block_has_a_process(projection: Projection, sql: str) -> None:
    assert may_hold(projection, sql)


def test_a_long_statement_is_not_even_read_here(
    client: Client, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_here(*given: Any) -> Any:
        raise AssertionError("it was read in the daemon")

    monkeypatch.setattr(guard, "check", read_here)
    numbers = ", ".join(map(str, range(9000)))
    assert client.query(f"SELECT run FROM runs WHERE run IN ({numbers})").num_rows == 0
    with pytest.raises(StoreError, match=r"^the function query is not allowed here$"):
        client.query(f"SELECT {numbers} FROM query('SELECT 1')")
    with pytest.raises(StoreError, match=r"^one statement at a time: this is 2$"):
        client.query(f"SELECT 1; SELECT {numbers}")


@pytest.mark.parametrize(
    "sql",
    [
        "FROM runs WHERE name LIKE 'a%' AND lower(state) = 'queued' ORDER BY created DESC LIMIT 3",
        "SELECT run, max(value) FILTER (step > 3) OVER (PARTITION BY run), [run, 1][1], {'a': 1}.a FROM metrics",
        "SELECT * FROM range(1000), repeat('x', 10), curve(1, 'train/loss')",
        "SELECT 'run ' || run || ': ' || name || ' (' || state || ', ' || method || ', ' || step || ')' FROM runs",
        "SELECT 'a' || name, -step, created::TIMESTAMP + INTERVAL 1 DAY, name SIMILAR TO 'a.*' FROM runs",
    ],
)
def test_what_people_ask_has_none(projection: Projection, sql: str) -> None:
    assert not may_hold(projection, sql)


def test_no_question_of_the_docs_has_one(projection: Projection) -> None:
    blocks = [part.partition("```")[0] for part in DOC.read_text().split("```sql\n")[1:]]
    asked = [sql for block in blocks for sql in _statements(block)]
    assert len(asked) > 40
    assert [sql for sql in asked if may_hold(projection, sql)] == []


def test_every_function_of_the_list_is_one(projection: Projection) -> None:
    with projection.read() as cursor:
        known = {
            name.lower()
            for (name,) in cursor.execute("SELECT function_name FROM duckdb_functions()").fetchall()
        }
    words = {
        "if",
        "case",
        "coalesce",
        "ifnull",
        "nullif",
        "error",
        "grouping",
        "grouping_id",
        "unnest",
        "count_star",
    }
    words |= {"=", "<>", "<", ">", "<=", ">=", "->", "->>", "mean", "current_timestamp", "current_time"}
    assert functions._QUICK - known - words == set()


def test_the_answer_is_the_same(
    home: FakeHome, ingest: Ingest, client: Client, projection: Projection
) -> None:
    home.run(1, name="a-run").start()
    ingest.poll()
    columns = "run, created, name, [1, 2] AS list, {'a': 1.5} AS struct, NULL AS nothing, to_timestamp(run) AS moment"
    here = client.query(f"SELECT {columns} FROM runs")
    apart = client.query(f"SELECT {columns}, replace(name, 'a', 'b') AS changed FROM runs")
    assert apart.column("changed").to_pylist() == ["b-run"]
    assert apart.drop_columns(["changed"]).equals(here)
    home.run(2).start()
    ingest.poll()
    assert client.query("SELECT repeat(name, 1) FROM runs").num_rows == 2, "what was written since is there"
    assert copies(projection) == []


def test_rows_left_out_are_told(client: Client) -> None:
    sql = "SELECT repeat('x', 10) AS x FROM range(5000)"
    table = client.query(sql, limit=7)
    assert (table.num_rows, note(table)) == (7, "only the first 7 of 5,000 rows are shown")
    assert client.query(sql).num_rows == 5000


def test_errors_are_those_of_the_database(client: Client, projection: Projection) -> None:
    with pytest.raises(StoreError, match=r'^line 1: .*"statee".*did you mean .*"state"') as wrong:
        client.query("SELECT repeat(statee, 2) FROM runs")
    assert wrong.value.kind == "sql"
    with pytest.raises(StoreError, match=r"^Could not convert|could not convert") as late:
        client.query("SELECT repeat('x', 2)::INTEGER + range FROM range(10000)")
    assert late.value.kind == "sql"
    with pytest.raises(StoreError, match=r"^the function query is not allowed here$"):
        client.query("SELECT repeat('x', 1) FROM query('SELECT 1')")
    with pytest.raises(StoreError, match=r"not allowed|disabled by configuration"):
        client.query("SELECT repeat(content, 1) FROM read_text('/etc/hostname')")
    assert copies(projection) == []


def test_time_ends_it(server: Server, client: Client, projection: Projection) -> None:
    with pytest.raises(
        StoreError, match=r"^the query took longer than 1 s and was stopped; ask for less$"
    ) as stopped:
        client.query(SLOW, timeout_s=1)
    assert stopped.value.kind == "timeout"
    assert server.stuck_s == 0
    assert copies(projection) == []


def test_it_can_be_cancelled_and_others_wait_for_a_place(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[str] = []

    def ask(name: str) -> None:
        with pytest.raises(StoreError) as stopped, Client(server.socket) as other:
            other.query(SLOW, query_id=name)
        caught.append(f"{name} {stopped.value}")

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    assert server._flight is not None
    running = server._flight.running
    while len(workers()) < 2 or len(running._work) < 3:
        time.sleep(0.01)
    assert len(workers()) == 2
    assert running._of_users == {}, "the daemon's memory is not theirs"
    for name in ("a", "b", "c"):
        assert client.cancel_query(name)
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(caught) == [f"{name} the query was cancelled" for name in ("a", "b", "c")]
    assert client.query("SELECT repeat('x', 2) AS x").to_pylist() == [{"x": "xx"}], (
        "the places are free again"
    )


def test_it_can_be_stopped_while_something_is_written(
    server: Server, client: Client, projection: Projection
) -> None:
    with projection.write(), pytest.raises(StoreError, match=r"longer than 0\.3 s and was stopped"):
        client.query("SELECT repeat('x', 2)", timeout_s=0.3)
    assert server.stuck_s == 0
    assert client.query("SELECT repeat('x', 2) AS x").to_pylist() == [{"x": "xx"}]


def test_memory_is_its_own(home: FakeHome, projection: Projection) -> None:
    server = Server(
        home.path / "daemon.sock", projection, lambda name, body: {}, limits=Limits(memory_mb=100)
    )
    server.start()
    with Client(server.socket) as client:
        with pytest.raises(StoreError, match=r"memory .*; ask for less$") as stopped:
            client.query("SELECT length(repeat('x', 2000000000 + range::INTEGER)) FROM range(1)")
        assert stopped.value.kind == "refused"
        assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    server.stop()


def test_a_process_that_is_killed_is_told(server: Server, client: Client) -> None:
    def kill() -> None:
        while not (found := workers()):
            time.sleep(0.01)
        time.sleep(0.2)
        found[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(StoreError, match=r"^the process of the query ended with signal 9, as one does"):
        client.query(SLOW)
    thread.join()


def test_without_room_for_the_copy_it_is_refused(
    client: Client, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_process, "SPARE_DISK", 1 << 60)
    with pytest.raises(
        StoreError, match=r"^this query needs a copy of the database \(\d+ MiB\), and .* are free"
    ):
        client.query("SELECT repeat('x', 2)")
    assert copies(projection) == []


def test_it_ends_with_the_daemon_and_a_new_one_clears_up(home: FakeHome, projection: Projection) -> None:
    folder = query_process.folder_of(projection.path)
    (folder / "left").mkdir(parents=True)
    (folder / "left" / "store.duckdb").write_bytes(b"x")
    copy = folder.with_name("copy.duckdb")
    copy.write_bytes(projection.path.read_bytes())
    request: dict[str, Any] = {"sql": SLOW, "database": str(copy), "settings": {}, "memory": 1 << 30}
    process = subprocess.Popen(
        program("store.query_worker"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.close()  # as the system does where the daemon is killed
    assert process.wait(timeout=60) == 1
    assert process.stdout is not None
    process.stdout.close()
    Server(home.path / "daemon.sock", projection, lambda name, body: {})
    assert not folder.exists()
