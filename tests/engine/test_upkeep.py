"""The daemon writes the database's file anew by itself, where that is worth it and nothing goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.queue.upkeep import Upkeep
from finetui.errors import StoreError
from store import compaction
from store.projection import Projection


@pytest.fixture
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Projection]:
    """A file most of which holds nothing."""
    monkeypatch.setattr(compaction, "WORTH_IT", 1 << 20)
    made = Projection(tmp_path / "store.duckdb")
    fill = "INSERT INTO system_metrics SELECT range, '{}', random() FROM range({})"
    delete = "DELETE FROM system_metrics WHERE key = 'gone'"
    for sql in (fill.format("gone", 1_500_000), fill.format("kept", 1000), delete):
        for one in (sql, "CHECKPOINT"):
            with made.read() as cursor:
                cursor.execute(one)
    yield made
    made.close()


def test_the_file_is_compacted_while_nothing_goes_on(emptied: Projection) -> None:
    upkeep, before = Upkeep(emptied), emptied.path.stat().st_size
    upkeep.look(idle=False)
    assert emptied.path.stat().st_size >= before
    upkeep.look(idle=True)
    after = emptied.path.stat().st_size
    assert after < before / 2
    inode = emptied.path.stat().st_ino
    upkeep.look(idle=True)  # there is nothing more to gain
    assert emptied.path.stat().st_ino == inode


def test_who_asks_twice_gets_one_result_and_errors_are_sentences(
    emptied: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = Upkeep(emptied)
    assert upkeep.compact(0) == {}
    found = upkeep.compact(60)
    assert found["after"] < found["before"]
    monkeypatch.setattr(Projection, "compact", broken)
    with pytest.raises(StoreError, match=r"^the database could not be compacted: .*; it is as it was$"):
        upkeep.compact(60)


def broken(projection: Projection) -> tuple[int, int]:
    raise OSError(5, "Input/output error")
