"""What the store says of a run's state now: flags that were withdrawn, preferences, and the step that a stop kept."""

from __future__ import annotations

from typing import Any

import pytest
from fake_home import FakeHome, FakeRun, rows

from store import queries, summary
from store.ingest import Ingest
from store.projection import Projection


def ask(projection: Projection, query: queries.Query) -> list[dict[str, Any]]:
    sql, parameters = query
    with projection.read() as cursor:
        return cursor.sql(sql, params=parameters).to_arrow_table().to_pylist()


def flag(
    run: FakeRun, step: int, level: str, state: str | None, name: str = "forgetting", **more: Any
) -> None:
    told = {} if state is None else {"state": state}
    run.write("flag", step=step, flag=name, suite="general", level=level, message="m", **told, **more)


@pytest.fixture
def home_of_flags(home: FakeHome, projection: Projection) -> Projection:
    run = home.run(1)
    run.start()
    worst = [{"id": "general-0", "before": 1.0, "after": 2.0}]
    flag(run, 10, "warn", "raised", effect=0.2, worst=worst)
    flag(run, 20, "critical", "raised", effect=0.4, worst=worst)
    flag(run, 30, "critical", "confirmed", effect=0.3, worst=worst)
    flag(run, 40, "warn", "weakened", effect=0.1, worst=[{"id": "general-1", "before": 1.0, "after": 1.5}])
    flag(run, 10, "warn", "raised", "endless")
    flag(run, 20, "warn", "fading", "endless")
    flag(run, 30, "info", "withdrawn", "endless")
    old = home.run(2)
    old.start()
    flag(old, 10, "warn", None, per=None)
    Ingest(projection, home.path).poll()
    return projection


def test_the_last_line_of_a_flag_says_how_it_stands(home_of_flags: Projection) -> None:
    now = ask(home_of_flags, ("SELECT * FROM flags_now", {}))
    assert [(row["run"], row["flag"], row["state"], row["level"], row["worst_level"]) for row in now] == [
        (1, "endless", "withdrawn", "info", "warn"),
        (1, "forgetting", "weakened", "warn", "critical"),
        (2, "forgetting", "raised", "warn", "warn"),
    ]
    assert (now[1]["step"], now[1]["effect"], now[1]["worst_step"], now[1]["worst_effect"]) == (
        40,
        0.1,
        20,
        0.4,
    )
    first, second = ask(home_of_flags, queries.runs())
    assert (first["flags"], first["flag_level"]) == (1, "warn")
    assert (second["flags"], second["flag_level"]) == (1, "warn")
    assert [row["flags"] for row in ask(home_of_flags, queries.compare_table([1, 2]))] == [1, 1]
    assert [(row["flag"], row["example"]) for row in ask(home_of_flags, queries.worst(1))] == [
        ("forgetting", "general-1")
    ]


def test_a_flag_that_is_only_confirmed_is_no_event(home_of_flags: Projection) -> None:
    said = rows(home_of_flags, "SELECT message, level FROM events WHERE kind = 'flag' AND run = 1 ORDER BY t")
    assert said == [
        ("forgetting: m", "warn"),
        ("forgetting: m", "error"),
        ("forgetting: weakened: m", "warn"),
        ("endless: m", "warn"),
        ("endless: fading: m", "warn"),
        ("endless: withdrawn: m", "info"),
    ]


def pairs(run: FakeRun, step: int, nll: list[float], margins: list[float], preference_loss: float) -> None:
    ids = [f"pair-{i}" for i in range(len(nll))]
    run.write(
        "eval",
        step=step,
        suite="heldout",
        values={"loss": {"value": sum(nll) / 30}, "preference_loss": {"value": preference_loss}},
        examples={"id": ids, "nll": nll, "tokens": [10, 10, 10], "right": [5, 5, 5], "margin": margins},
        seconds=0.5,
    )


def test_preferences_go_by_the_preference_loss(home: FakeHome, projection: Projection) -> None:
    """The chosen answers of run 1 become less likely, while its pairs come to be told apart."""
    for number, margin, loss in ((1, 2.0, 0.127), (2, 0.5, 0.474)):
        run = home.run(number, task={"name": "dpo", "beta": 0.1})
        run.start()
        pairs(run, 0, [20.0, 21.0, 22.0], [0.0] * 3, 0.693)
        pairs(run, 10, [20.0 + 5 * margin] * 3, [margin, margin + 0.1, margin - 0.1], loss)
    Ingest(projection, home.path).poll()
    first, second = ask(projection, queries.runs())
    assert (first["heldout"], first["heldout_best"], second["heldout"]) == (0.127, 0.127, 0.474)
    board = ask(projection, queries.leaderboard())
    assert [(row["run"], row["heldout_best"], row["best_step"]) for row in board] == [
        (1, 0.127, 10),
        (2, 0.474, 10),
    ]
    assert [row["heldout_base"] for row in ask(projection, queries.compare_table([1, 2]))] == [0.693, 0.693]
    (paired,) = ask(projection, queries.paired(1, 2))
    assert (paired["per"], paired["n"]) == ("pair", 3)
    assert paired["difference"] == pytest.approx(0.474 - 0.127, abs=0.002)
    assert 0 < paired["lo"] < paired["difference"] < paired["hi"]


def scored(
    home: FakeHome, number: int, losses: dict[int, float], plan: dict[str, Any], **recipe: Any
) -> None:
    run = home.run(number, **recipe)
    run.start()
    run.write("plan", total_steps=20, **plan)
    for step, loss in losses.items():
        run.eval(step, "heldout", [10 * loss, 10 * loss])


def test_only_what_can_be_compared_is_and_the_base_model_is_nobodys_result(
    home: FakeHome, projection: Projection
) -> None:
    here = {"train_set": "a", "heldout_set": "h", "heldout_tokens": 20}
    scored(home, 1, {0: 1.0, 10: 1.5, 20: 1.7}, here)  # never better than its base model
    scored(home, 2, {0: 1.0, 20: 1.2}, here, data={"train": "the/same/rows/elsewhere.jsonl"})
    scored(home, 3, {0: 1.0}, here)  # has no result yet
    scored(home, 4, {0: 0.9, 20: 0.8}, {**here, "heldout_tokens": 12})  # another tokenizer
    scored(home, 5, {0: 0.9, 20: 0.7}, {**here, "heldout_set": "other"})
    scored(home, 6, {0: 0.9, 20: 0.1}, here, task="classification")
    Ingest(projection, home.path).poll()
    board = ask(projection, queries.leaderboard())
    assert {
        (row["run"], row["place"], row["heldout_best"], row["best_step"], row["unit"]) for row in board
    } == {
        (2, 1, 1.2, 20, "nats per token"),
        (1, 2, 1.5, 10, "nats per token"),
        (4, 1, 0.8, 20, "nats per token"),
        (5, 1, 0.7, 20, "nats per token"),
        (6, 1, 0.1, 20, "nats per text"),
    }
    first, *_ = ask(projection, ("SELECT * FROM results ORDER BY run", {}))
    assert (first["train_set"], first["heldout_base"], first["heldout"]) == ("a", 1.0, 1.7)
    assert first["gain"] == pytest.approx(-0.7)
    assert ask(projection, queries.runs())[2]["heldout_best"] is None
    before = rows(projection, "SELECT * FROM run_summary ORDER BY ALL")
    with projection.write() as cursor:
        for number in range(1, 7):
            summary.repair(cursor, number)
    assert rows(projection, "SELECT * FROM run_summary ORDER BY ALL") == before


def test_runs_that_only_their_seed_tells_apart(home: FakeHome, projection: Projection) -> None:
    for number, changes in enumerate(({"seed": 1}, {"seed": 2}, {"train": {"lr": 1e-3}}), 1):
        home.run(number, **changes)
    Ingest(projection, home.path).poll()
    first, second, third = (
        hash for (hash,) in rows(projection, "SELECT seedless_hash FROM runs ORDER BY run")
    )
    assert first == second != third
    assert len(first) == 16


def test_results_of_a_stopped_run_are_those_of_the_step_that_was_kept(
    home: FakeHome, projection: Projection
) -> None:
    for number, kept in ((1, 10), (2, None)):
        run = home.run(number)
        run.start()
        for step, loss in ((0, 30.0), (10, 10.0), (20, 25.0)):
            run.metrics(step, loss=1.0)
            run.eval(step, "heldout", [loss, loss + 1, loss - 1])
            run.eval(step, "general", [10.0 + step / 10, 11.0 + step / 10])
        told = {} if kept is None else {"kept_step": kept}
        run.write(
            "end",
            status="finished",
            step=20,
            error=None,
            reason="stopped by a flag" if kept else None,
            **told,
        )
    Ingest(projection, home.path).poll()
    first, second = ask(projection, queries.runs())
    assert (first["heldout"], second["heldout"]) == pytest.approx((1.0, 2.5))
    assert [ask(projection, queries.run(number))[0]["kept_step"] for number in (1, 2)] == [10, None]
    for query, suite_row in ((queries.baselines, 0), (queries.slices, 0)):
        assert [ask(projection, query(number))[suite_row]["step"] for number in (1, 2)] == [10, 20]
    (paired,) = ask(projection, queries.paired(1, 2))
    assert (paired["step_a"], paired["step_b"], paired["per"]) == (10, 20, "token")
    assert paired["difference"] == pytest.approx(1.5)
    increases = [row["increase"] for row in ask(projection, ("FROM forgotten(1)", {}))]
    assert increases == pytest.approx([0.1, 0.1])
