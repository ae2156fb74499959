"""Two databases that were made from the same logs have the same digests, and a run that differs is named."""

from __future__ import annotations

import shutil
from pathlib import Path

from fake_home import FakeHome, rows

from store import digests
from store.ingest import Ingest
from store.projection import Projection


def fill(home: FakeHome, number: int) -> None:
    run = home.run(number)
    run.start()
    run.metrics(1, loss=2.0, lr=float("nan"))
    run.eval(1, "heldout", [1.0, 2.0])
    run.write("resume", from_step=0)
    run.metrics(1, loss=1.5)
    run.end()


def of(projection: Projection) -> digests.Digests:
    return digests.of_rows(rows(projection, digests.sql()))


def test_a_run_that_differs_from_its_logs_is_named(
    home: FakeHome, projection: Projection, ingest: Ingest, empty_store: Path
) -> None:
    fill(home, 1)
    ingest.poll()  # in two rounds, and below in one
    fill(home, 2)
    ingest.poll()
    shutil.copyfile(empty_store, home.path / "again.duckdb")
    again = Projection(home.path / "again.duckdb")
    Ingest(again, home.path).poll()
    read = of(again)
    again.close()
    assert of(projection) == read
    assert {part for part in read[1] if part in ("metrics", "evals", "runs", "run_summary")} == {
        *("metrics", "evals", "runs", "run_summary")
    }
    with projection.write() as cursor:
        cursor.execute("UPDATE run_summary SET last = 0 WHERE run = 1 AND key = 'train/loss'")
        cursor.execute("DELETE FROM eval_examples WHERE run = 1 AND nll = 2")
        cursor.execute("UPDATE runs SET waiting_for = 'its turn' WHERE run = 2")  # not from the logs
    kept = of(projection)
    assert (
        digests.difference(kept[1], read[1])
        == "1 rows of eval_examples, and 2 in the logs; other values in run_summary"
    )
    assert digests.difference(kept[2], read[2]) is None
