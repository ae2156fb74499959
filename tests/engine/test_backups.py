"""A backup has all that the database is made of, and nothing else; and it is whole or not there."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from engine.basics.errors import QueueError
from engine.client import backups
from finetui.home import Home
from store.ingest import Ingest
from store.projection import Projection

LINES = (
    '{"kind": "header", "log": "a-b", "t": 1.0}\n'
    '{"kind": "metrics", "t": 2.0, "step": 1, "values": {"train/loss": 2.5}}\n'
)
JOURNAL = (
    '{"kind": "header", "log": "c-d", "t": 1.0}\n'
    '{"kind": "running", "state": "running", "attempt": 1, "t": 1.0}\n'
)


def a_home(path: Path) -> Home:
    home = Home(path)
    home.create()
    run = home.runs / "000001-mine"
    for name, text in {
        "run.json": "{}",
        "journal.jsonl": JOURNAL,
        "environment.json": '{"TOKEN": "secret"}',
        "start.safetensors": "weights",
        "checkpoints/step-000001/trainer.json": "{}",
        "attempts/1/events.jsonl": LINES,
    }.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    home.config.write_text("concurrency = 1\n")
    return home


def test_a_database_can_be_made_from_a_backup(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    told: list[str] = []
    made = backups.write(home, tmp_path / "b.tar.gz", told.append)
    assert (made.runs, made.files, made.path.stat().st_mode & 0o777) == (1, 4, 0o600)
    assert told == ["1 of 1 runs are written", ""]
    with tarfile.open(made.path) as archive:
        assert sorted(archive.getnames()) == [
            "config.toml",
            *(
                f"runs/000001-mine/{name}"
                for name in ("attempts/1/events.jsonl", "journal.jsonl", "run.json")
            ),
        ]
        archive.extractall(tmp_path / "other", filter="data")
    projection = Projection(tmp_path / "other" / "store.duckdb")
    Ingest(projection, tmp_path / "other").poll()
    with projection.read() as cursor:
        assert cursor.execute("SELECT run, step, value FROM metrics").fetchall() == [(1, 1, 2.5)]
    projection.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("b.zip", "is to be a name that ends in .tar.gz"),
        ("config.tar.gz", "is there already"),
        ("no/b.tgz", "cannot"),
    ],
)
def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path, name: str, why: str) -> None:
    home = a_home(tmp_path / "home")
    (tmp_path / "config.tar.gz").write_text("mine")
    with pytest.raises(QueueError, match=why):
        backups.write(home, tmp_path / name, lambda sentence: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.tar.gz", "home"]
    assert (tmp_path / "config.tar.gz").read_text() == "mine"
