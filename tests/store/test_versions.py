"""Homes that go from one DuckDB to another and back: 1.5 and 2, each in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fake_home import FakeHome

ROOT = Path(__file__).parents[2]
LATER = Path(sys.prefix) / "duckdb-2"  # scripts/install.sh

TAKE_UP = """
import json, os, sys
from pathlib import Path
import duckdb
from fake_home import content
from store.ingest import Ingest
from store.projection import Projection
home = Path(sys.argv[1])
projection = Projection(home / sys.argv[2])
ingest = Ingest(projection, home)
ingest.drain()
told = {
    "duckdb": duckdb.__version__,
    "file": projection.path.name,
    "generation": projection.generation,
    "notice": projection.notice and projection.notice.text,
    "problem": ingest.problem,
    "content": content(projection),
}
print(json.dumps(told), flush=True)
if sys.argv[3] == "kill":
    os._exit(0)
projection.close()
"""


def take_up(home: FakeHome, version: str, end: str = "close", file: str = "store.duckdb") -> dict[str, Any]:
    """What a process with that DuckDB finds in the home. `kill`: its log is left beside the file."""
    folders = [ROOT, ROOT / "tests" / "store"]
    if version == "2":
        folders.insert(0, LATER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", TAKE_UP, str(home.path), file, end]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["duckdb"].startswith(f"{version}."), "`make install` puts both there"
    assert told["problem"] is None
    return told


def more(home: FakeHome, number: int) -> None:
    run = home.run(number)
    run.start()
    for step in range(20):
        run.metrics(step, loss=1.0 / (step + 1))


def test_a_file_of_the_earlier_duckdb_goes_to_the_later_and_back(home: FakeHome) -> None:
    more(home, 1)
    assert take_up(home, "1.5", "kill")["generation"] == 1
    ends = (("2", "kill"), ("1.5", "close"), ("2", "close"), ("1.5", "close"))
    for number, (version, end) in enumerate(ends, 2):
        more(home, number)
        told = take_up(home, version, end)
        assert (told["file"], told["generation"], told["notice"]) == ("store.duckdb", 0, None)
        assert len(told["content"]["metrics"]) == 20 * number
    assert told["content"] == take_up(home, "1.5", file="anew.duckdb")["content"]


def test_a_file_of_the_later_duckdb_is_left_by_the_earlier_and_goes_on_with_the_later(home: FakeHome) -> None:
    more(home, 1)
    assert take_up(home, "2", "kill")["generation"] == 1
    files = [home.store, home.path / "store.duckdb.wal"]
    later = [path.read_bytes() for path in files]
    for number, generation in ((2, 1), (3, 0)):
        more(home, number)
        told = take_up(home, "1.5")
        assert (told["file"], told["generation"]) == ("store-for-duckdb-1.5.duckdb", generation)
        assert "store.duckdb was written by a later DuckDB than this one" in told["notice"]
        assert len(told["content"]["metrics"]) == 20 * number
    assert [path.read_bytes() for path in files] == later
    again = take_up(home, "2")
    assert (again["file"], again["generation"], again["notice"]) == ("store.duckdb", 0, None)
    assert again["content"] == told["content"]
    assert not list(home.path.glob("*aside*"))
