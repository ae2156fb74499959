"""Damage that shows only later: in a block that a read comes to, and in the log beside the file."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from fake_home import FakeHome, content

from store.ingest import Ingest
from store.projection import Projection

BLOCK = 1 << 18
FIRST_BLOCK = 3 << 12  # behind the headers


def fill(home: FakeHome, *numbers: int) -> None:
    chance = random.Random(numbers[0])
    for number in numbers:
        run = home.run(number)
        run.start()
        for step in range(400):
            run.metrics(step, loss=chance.random(), noise=chance.random())
        run.eval(0, "heldout", [chance.random() for _ in range(200)])


def taken_up(home: FakeHome, projection: Projection) -> dict[str, list[str]]:
    """What is in the tables once the logs are read; a read that finds damage fails, and the next one is right."""
    ingest = Ingest(projection, home.path)
    for _ in range(3):
        ingest.drain()
        with contextlib.suppress(duckdb.Error):
            found = content(projection)
            if not ingest.problem:
                return found
    pytest.fail(f"the database is not made again: {ingest.problem}")


def test_a_damaged_block_is_found_by_the_read_that_comes_to_it(
    home: FakeHome, projection: Projection
) -> None:
    fill(home, 1, 2)
    before = taken_up(home, projection)
    projection.close()
    whole = home.store.read_bytes()
    found = set()
    for start in range(FIRST_BLOCK, len(whole), BLOCK)[1::2]:
        damaged = bytearray(whole)
        damaged[start + 1000] ^= 1
        home.store.write_bytes(damaged)
        again = Projection(home.store)
        at_once = again.generation == 1
        assert taken_up(home, again) == before
        if again.generation == 1:
            found.add("at the start" if at_once else "by a read")
            assert again.notice is not None
            assert again.notice.text.startswith("the database was damaged and is made again from the logs")
        again.close()
    assert "by a read" in found


def cut(log: bytes) -> bytes:
    return log[: len(log) * 2 // 3]


def flipped(log: bytes) -> bytes:
    middle = len(log) // 2
    return log[:middle] + bytes([log[middle] ^ 16]) + log[middle + 1 :]


def its_head_flipped(log: bytes) -> bytes:
    return log[:40] + bytes([log[40] ^ 16]) + log[41:]


def another(log: bytes) -> bytes:
    return b"this is no log of a database" * 100


@pytest.mark.parametrize("spoil", [cut, flipped, its_head_flipped, another])
def test_a_damaged_log_beside_the_file_costs_no_row(
    home: FakeHome, projection: Projection, spoil: Callable[[bytes], bytes]
) -> None:
    fill(home, 1)
    taken_up(home, projection)
    with projection.read() as cursor:
        cursor.execute("CHECKPOINT")
    fill(home, 2)
    before = taken_up(home, projection)
    names = ("store.duckdb", "store.duckdb.wal")
    for name in names:  # as a kill leaves them
        shutil.copyfile(home.path / name, home.path / f"{name}.killed")
    projection.close()
    for name in names:
        Path(home.path / f"{name}.killed").replace(home.path / name)
    log = home.path / "store.duckdb.wal"
    log.write_bytes(spoil(log.read_bytes()))
    again = Projection(home.store)
    assert taken_up(home, again) == before
    again.close()
