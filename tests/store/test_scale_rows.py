"""A run's log of scalings in the store, and which runs are similar to one."""

from __future__ import annotations

from typing import Any

import pytest
from fake_home import FakeHome, FakeRun, content, rows

from finetui.log import LogWriter
from store import queries
from store.ingest import Ingest
from store.projection import Projection


def scaled(run: FakeRun, kind: str, **fields: Any) -> None:
    writer = LogWriter(run.path / "scale.jsonl", "scale", run.number)
    writer.write(kind, **{"t": run.tick(), **fields})
    writer.close()


def a_point(half: str, factor: float, change: float, general: float) -> dict[str, Any]:
    part = {"value": general, "lo": general - 0.01, "hi": general + 0.01, "n": 20}
    return {
        "half": half, "factor": factor, "heldout": 3 + change,
        "change": {**part, "value": change, "slice": ""},
        "general": [{**part, "slice": ""}, {**part, "slice": "prose"}],
    }  # fmt: skip


def a_scaling(run: FakeRun, factor: float, kept: float) -> None:
    points = [a_point("choose", factor, -0.6, 0.04), a_point("confirm", 1.0, -0.65, 0.09)]
    scaled(run, "scaling", step=6, factor=factor, helps=True, kept=kept, message="it helps", points=points)


def trained(home: FakeHome, number: int, heldout: float, general: float, **changes: Any) -> FakeRun:
    run = home.run(number, **changes)
    run.start()
    for step, losses in enumerate(((40.0, 20.0), (heldout, general))):
        run.eval(6 * step, "heldout", [losses[0]] * 4)
        run.eval(6 * step, "general", [losses[1]] * 4)
    run.end()
    return run


def ask(projection: Projection, query: queries.Query) -> list[dict[str, Any]]:
    sql, parameters = query
    with projection.read() as cursor:
        return cursor.sql(sql, params=parameters).to_arrow_table().to_pylist()


def test_scalings_are_read_of_a_run_that_has_ended_and_the_last_one_is_shown(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = trained(home, 1, 30.0, 21.0)
    ingest.poll()
    a_scaling(run, 0.5, 0.9)
    a_scaling(run, 0.7, 0.93)
    scaled(run, "scaled", factor=0.7, step=6, output="adapter", path="/made/adapter")
    ingest.notify(1)
    ingest.drain()
    assert [(row["factor"], row["kept"]) for row in ask(projection, queries.scalings(1))] == [
        (0.5, 0.9),
        (0.7, 0.93),
    ]
    found = ask(projection, queries.scale_points(1))
    assert [(row["half"], row["factor"], row["chosen"], row["suite"], row["slice"]) for row in found[:3]] == [
        ("choose", 0.7, True, "heldout", None),
        ("choose", 0.7, True, "general", None),
        ("choose", 0.7, True, "general", "prose"),
    ]
    assert (found[0]["loss"], found[0]["change"], found[1]["change"]) == pytest.approx((2.4, -0.6, 0.04))
    assert len(found) == 6
    (made,) = ask(projection, queries.scaled(1))
    assert (made["factor"], made["output"], made["path"]) == (0.7, "adapter", "/made/adapter")
    messages = [
        text for (text,) in rows(projection, "SELECT message FROM events WHERE kind LIKE 'scal%' ORDER BY t")
    ]
    assert messages == ["scaled: it helps"] * 2 + ["adapter at factor 0.7 written to /made/adapter"]

    before = content(projection)
    again = Ingest(projection, home.path)
    again.poll()
    assert content(projection) == before  # each line once


def test_a_line_that_cannot_be_used_is_set_aside_and_the_journal_is_none_the_worse(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = trained(home, 1, 30.0, 21.0)
    scaled(run, "scaled", factor="much")
    scaled(run, "of a later finetui", message="hello")
    a_scaling(run, 0.7, 0.93)
    ingest.poll()
    assert rows(projection, "SELECT message FROM events WHERE kind = 'unreadable'") == [
        (f"scale.jsonl, byte {_second_line(run)}: factor: 'much' is not a number",)
    ]
    assert rows(projection, "SELECT message FROM events WHERE kind = 'of a later finetui'") == [("hello",)]
    assert rows(projection, "SELECT factor FROM scalings") == [(0.7,)]
    assert rows(projection, "SELECT state FROM runs") == [("finished",)]


def _second_line(run: FakeRun) -> int:
    return len((run.path / "scale.jsonl").read_bytes().split(b"\n")[0]) + 1


def test_runs_are_similar_by_base_task_and_data_and_must_have_ended_well(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    trained(home, 1, 30.0, 21.0)
    a_scaling(trained(home, 2, 32.0, 20.5, train={"lr": 1e-4}), 0.7, 0.93)
    trained(home, 3, 31.0, 20.0, task="completion")
    trained(home, 4, 31.0, 20.0, data={"train": "bundled:docstrings", "heldout": "20%", "limit": None})
    trained(home, 5, 31.0, 20.0, model={"path": "bundled:other", "trust_remote_code": False})
    home.run(6).start()
    ingest.poll()
    one, two = ask(projection, queries.similar(1))
    assert (one["run"], two["run"]) == (1, 2)
    losses = [
        (row["heldout_base"], row["heldout"], row["general_base"], row["general"]) for row in (one, two)
    ]
    assert losses == [pytest.approx((4.0, 3.0, 2.0, 2.1)), pytest.approx((4.0, 3.2, 2.0, 2.05))]
    assert {"key": "train.lr", "value": "0.0001"} in two["params"]
    assert (one["scaling"], two["scaling"], two["scaling_factor"], two["scaling_helps"], two["scaling_kept"]) == (
        None, "it helps", 0.7, True, 0.93,
    )  # fmt: skip
