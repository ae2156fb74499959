"""Client and server over a real Unix socket."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from fake_home import FakeHome

import store.server
from finetui.client import Client, note
from finetui.errors import PartialResult, StoreError, Unavailable
from finetui.start import ROOT
from store import guard
from store.functions import Calls
from store.ingest import Ingest
from store.limits import LargeAnswers, Limits
from store.projection import Projection
from store.server import Server


def actions(name: str, body: dict[str, Any]) -> dict[str, Any]:
    if name == "submit":
        return {"run": 7, "body": body}
    if name == "break":
        raise RuntimeError("wires crossed")
    raise StoreError(f"run #{body['run']} has ended; resume it instead", "conflict")


@pytest.fixture
def server(home: FakeHome, projection: Projection) -> Iterator[Server]:
    made = Server(home.path / "daemon.sock", projection, actions)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.socket) as made:
        yield made


def test_queries_come_back_as_tables(home: FakeHome, ingest: Ingest, client: Client) -> None:
    run = home.run(1)
    run.start()
    run.metrics(1, loss=float("nan"))
    ingest.poll()
    assert client.query("SELECT run, state FROM runs").to_pylist() == [{"run": 1, "state": "running"}]
    assert str(client.query("SELECT value FROM metrics").to_pylist()) == "[{'value': nan}]"
    assert client.named("runs").column("run").to_pylist() == [1]
    assert client.named("curves", runs=[1], key="train/loss", buckets=10).column("step").to_pylist() == [1]
    assert client.query("SELECT run FROM runs WHERE run = 9").num_rows == 0


IN_TOKYO = """
import sys
from pathlib import Path
from store import Projection, Server
home = Path(sys.argv[1])
server = Server(home / "daemon.sock", Projection(home / "store.duckdb"), lambda name, body: {})
server.start()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def client_of_tokyo(home: FakeHome, projection: Projection) -> Iterator[Client]:
    """A client of a daemon that lives in another time zone, which the database asks for once in a process."""
    projection.close()
    command = [sys.executable, "-c", IN_TOKYO, str(home.path)]
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with Client(home.path / "daemon.sock") as made:
            yield made
        process.stdin.close()


def test_an_answer_is_a_frame_of_pandas_and_polars_with_moments_in_utc(client_of_tokyo: Client) -> None:
    sql = """SELECT 1 AS run, 'a' AS name, to_timestamp(1.5) AS moment, TIMESTAMP '2030-01-31 02:00' AS clock,
             strftime(moment, '%H') AS hour UNION ALL SELECT NULL, NULL, NULL, NULL, NULL ORDER BY run"""
    table = client_of_tokyo.query(sql)
    assert table.schema.field("moment").type == pa.timestamp("us", "UTC")
    assert table.schema.field("clock").type == pa.timestamp("us"), "a time without a zone stays as it is"
    assert table["hour"].to_pylist() == ["09", None], "in SQL, hours and days are those of the daemon's zone"
    second = datetime.fromtimestamp(1.5, UTC)
    frame = table.to_pandas()
    assert (str(frame["moment"].dtype), frame["moment"][0]) == ("datetime64[us, UTC]", second)
    assert frame["moment"].isna().tolist() == frame["run"].isna().tolist() == [False, True]
    import polars  # here: not in every process that collects tests

    polars_frame = polars.from_arrow(table)
    assert isinstance(polars_frame, polars.DataFrame)
    assert polars_frame.schema["moment"] == polars.Datetime("us", "UTC")
    assert polars_frame.rows() == [(1, "a", second, datetime(2030, 1, 31, 2), "09"), (None,) * 5]


def test_rows_beyond_the_limit_are_cut_and_it_says_so(client: Client) -> None:
    table = client.query("SELECT * FROM range(100000)", limit=5)
    assert table.num_rows == 5
    assert note(table) == "only the first 5 of 100,000 rows are shown"
    assert note(client.query("SELECT * FROM range(5)", limit=5)) is None
    assert client.query("SELECT * FROM range(100000)").num_rows == 100_000


def test_without_a_limit_it_is_all_rows_or_an_error(
    home: FakeHome, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "answer_bytes", 100_000)
    server = Server(home.path / "daemon.sock", projection, actions, lambda wait_s: "logs are being read")
    server.start()
    with Client(server.socket) as client:
        with pytest.warns(PartialResult, match=r"^logs are being read; a part is still missing here$"):
            client.query("SELECT 1")
        large = "SELECT range, repeat('x', 100) AS text FROM range(20000)"
        with pytest.raises(
            StoreError, match=r"^not all rows fit: only the first \d+ of 20,000 rows are shown"
        ) as error:
            client.query(large)
        assert error.value.kind == "too_large"
        table = client.query(large, limit=20_000)
        assert 0 < table.num_rows < 1000
        assert table.column("range").to_pylist() == list(range(table.num_rows))
        assert str(note(client.query("SELECT * FROM range(9)", limit=3))).startswith(
            "only the first 3 of 9 rows"
        )
        with pytest.raises(StoreError, match="a row of the answer has more than"):
            client.query("SELECT repeat('x', 200000)")
    server.stop()


def test_other_limits_hold_for_queries_from_now_on(server: Server, client: Client) -> None:
    assert client.query("SELECT 1").num_rows == 1
    server.use(Limits(seconds=0.2, answer_mb=1))
    with pytest.raises(StoreError, match=r"longer than 0\.2 s and was stopped"):
        client.query("SELECT count(*) FROM range(100000000000)")
    with pytest.raises(StoreError, match="not all rows fit"):
        client.query("SELECT * FROM range(1000000)")


def test_a_large_answer_has_a_place_until_it_is_sent(
    home: FakeHome, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LargeAnswers, "SEND_S", 1000.0)
    monkeypatch.setattr(LargeAnswers, "AT_ONCE", 1)
    sql = "SELECT * FROM range(700000)"
    server = Server(home.path / "daemon.sock", projection, actions, limits=Limits(seconds=0.5))
    server.start()
    with Client(server.socket) as client:
        for _ in range(3):
            assert client.query(sql).num_rows == 700_000
        assert server._flight is not None
        give_back = server._flight.running.large.take(10)  # the server lets go of the last one in a moment
        assert give_back is not None
        with pytest.raises(StoreError, match=r"^other large answers are being sent; ask again"):
            client.query(sql, timeout_s=20)
        assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
        give_back()
        assert client.query(sql).num_rows == 700_000
    server.stop()


def test_what_the_screen_asks_comes_before_sql_where_memory_is_short(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def hog() -> None:
        with pytest.raises(StoreError) as stopped, Client(server.socket) as other:
            other.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
        told.append(str(stopped.value))

    thread = threading.Thread(target=hog)
    thread.start()
    assert server._flight is not None
    while not server._flight.running._work:
        time.sleep(0.01)
    fetch, asked = store.server.fetch, list[int]()

    def short_of_memory(*given: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise duckdb.OutOfMemoryException("failed to pin block")
        return fetch(*given)

    monkeypatch.setattr(store.server, "fetch", short_of_memory)
    assert client.named("runs").num_rows == 0
    thread.join(timeout=30)
    assert told == ["the query was stopped, for it took more memory than is left for queries; ask for less"]
    assert len(asked) == 2


def test_requests_that_are_none_are_refused(client: Client) -> None:
    with pytest.raises(StoreError, match=r"^the statement has 300,007 characters; 100,000 are allowed$"):
        client.query("SELECT " + "1" * 300_000)
    with pytest.raises(StoreError, match=r"^`limit` has to be a whole number, not 'all'$"):
        client.query("SELECT 1", limit="all")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"^`sql` has to be text"):
        client.query(None)  # type: ignore[arg-type]


def test_a_query_that_cannot_be_interrupted_holds_up_nobody(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PATIENCE_S", 0.1)
    monkeypatch.setattr(Calls, "may_hold", False)  # as of one that the list has overlooked
    slow = "SELECT sha256(repeat('a', 200000000))"
    with pytest.raises(
        StoreError, match=r"longer than 0\.05 s, and the database cannot interrupt it"
    ) as stopped:
        client.query(slow, timeout_s=0.05)
    assert stopped.value.kind == "timeout"
    assert server.stuck_s > 0
    assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    assert server.stop() is False, "the process has to end now"
    while server.stuck_s:
        time.sleep(0.01)


def test_actions_reach_the_daemon_and_come_back(client: Client) -> None:
    assert client.action("submit", recipe="x", deep={"a": [1, None]}) == {
        "run": 7,
        "body": {"recipe": "x", "deep": {"a": [1, None]}},
    }


def test_errors_cross_with_message_and_kind(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoreError, match=r"^run #3 has ended; resume it instead$") as refused:
        client.action("cancel", run=3)
    assert refused.value.kind == "conflict"
    with pytest.raises(StoreError, match="wires crossed") as broken:
        client.action("break")
    assert broken.value.kind == "internal"
    with pytest.raises(StoreError, match=r"there is no query named 'runz'; known: .*runs") as unknown:
        client.named("runz")
    assert unknown.value.kind == "not_found"
    with pytest.raises(StoreError, match=r"curves: .*'key'") as missing:
        client.named("curves", runs=[1])
    assert missing.value.kind == "refused"
    with pytest.raises(StoreError, match=r'line 1: .*"statee".*did you mean .*"state"') as wrong:
        client.query("SELECT statee FROM runs")
    assert wrong.value.kind == "sql"


def test_a_long_query_is_stopped_when_time_is_up(client: Client) -> None:
    with pytest.raises(StoreError, match=r"longer than 0\.2 s") as stopped:
        client.query("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", timeout_s=0.2)
    assert stopped.value.kind == "timeout"
    assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_query_can_be_cancelled_from_another_thread(client: Client) -> None:
    caught: list[StoreError] = []

    def ask() -> None:
        try:
            client.query(
                "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", query_id="q1"
            )
        except StoreError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not client.cancel_query("q1"):
        time.sleep(0.01)
    thread.join(timeout=20)
    assert [error.kind for error in caught] == ["cancelled"]
    assert client.cancel_query("q1") is False


def test_one_client_serves_many_threads(client: Client) -> None:
    found: list[int] = []

    def ask(n: int) -> None:
        for i in range(20):
            found.append(client.query(f"SELECT {n * 100 + i} AS x").column("x")[0].as_py())

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(n * 100 + i for n in range(6) for i in range(20))


def test_the_socket_is_closed_to_others(server: Server) -> None:
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600


def test_nobody_there_is_unavailable(tmp_path: Path, server: Server) -> None:
    with pytest.raises(Unavailable, match="no daemon answers"):
        Client(tmp_path / "none.sock")
    client = Client(server.socket)
    server.stop()
    assert not server.socket.exists()
    with pytest.raises(Unavailable, match="stopped answering"):
        client.query("SELECT 1")
    server.start()
    with Client(server.socket) as again:
        assert again.query("SELECT 1").num_rows == 1


def test_an_old_socket_is_replaced(home: FakeHome, projection: Projection, server: Server) -> None:
    server.stop()
    server.socket.write_text("left by a killed daemon")
    server.start()
    with Client(server.socket) as client:
        assert client.query("SELECT 1").num_rows == 1


def test_the_client_needs_no_duckdb_and_the_package_needs_nothing() -> None:
    script = (
        "import sys, json, store; light = [m for m in ('duckdb', 'pyarrow') if m in sys.modules];"
        "from finetui.client import Client; import store.queries;"
        "print(json.dumps([light, [m for m in ('duckdb', 'torch', 'textual') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]
