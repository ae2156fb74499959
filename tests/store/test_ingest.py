"""Logs in, tables out: each line once, in order, whatever the lines hold."""

from __future__ import annotations

import json
import math
import os
import shutil

import pytest
from fake_home import T0, FakeHome, FakeRun, content, rows

from store import queries
from store.ingest import Ingest
from store.projection import Projection


def busy_run(home: FakeHome, number: int = 1) -> FakeRun:
    run = home.run(number)
    run.start()
    run.write("plan", total_steps=100, parameters=2_000_000, trainable=40_000, device="cpu", precision="fp32")
    run.write("phase", phase="training", step=0, detail=None)
    run.write(
        "examples",
        suite="heldout",
        rows=[{"id": f"heldout-{i}", "prompt": "p", "target": "t"} for i in range(3)],
    )
    run.eval(0, "heldout", [30.0, 31.0, 32.0])
    run.eval(0, "general", [20.0, 21.0, 22.0])
    for step in range(1, 21):
        run.metrics(step, loss=3.0 - step / 10, lr=1e-4)
    run.eval(20, "heldout", [20.0, 21.0, 22.0])
    run.eval(20, "general", [24.0, 21.5, 22.0])
    run.write("sample", step=20, index=0, prompt="def", text=" main():")
    flag = {"flag": "forgetting", "level": "warn", "since_step": 10, "suite": "general", "n": 3, "looks": 2}
    worst = [{"id": "general-0", "before": 2.0, "after": 2.4}]
    effect = {"effect": 0.15, "lo": 0.1, "hi": 0.2, "message": "general loss is up"}
    more = {
        "slice": "samples",
        "lost": 41,
        "gained": 7,
        "forecast": {"step": 90, "value": 0.3, "lo": 0.2, "hi": 0.5},
    }
    more["actions"] = [{"text": "add replay", "change": {"data.replay.ratio": 0.05}, "source": "bethune2025"}]
    run.write("flag", step=20, **flag, **effect, **more, advice=["add replay"], worst=worst)
    run.write("checkpoint", step=20, path="checkpoints/step-000020", bytes=1234)
    peaks = {"measured_mb": 800.0, "limit_mb": 4096.0, "micro_tokens": 512, "device": "cpu"}
    run.write("memory", step=20, cause="end", predicted_mb=880.0, **peaks)
    run.write("memory", step=20, cause="end", predicted_mb=None, **peaks)
    return run


def test_every_table_gets_what_the_logs_say(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = busy_run(home)
    run.write("end", status="finished", step=20, error=None)
    run.end()
    (home.path / "hardware.jsonl").write_text(
        '{"kind":"header","log":"hw","version":1,"source":"hardware","run":null,"attempt":null,"t":1}\n'
        '{"kind":"device","t":2,"name":"gpu0","label":"NVIDIA H100"}\n'
        '{"kind":"sample","t":3,"values":{"cpu/percent":12.5,"gpu0/util":99}}\n'
    )
    assert ingest.drain() > 0
    row = rows(
        projection,
        "SELECT run, uuid, name, slug, dir, state, priority, model, method, task, seed, step, total_steps, phase,"
        " attempt, pid, trainable, created FROM runs",
    )
    assert row == [
        (1, "uuid-1", "demo", "demo", str(run.path), "finished", 0, "bundled:stdlib-2m", "lora", "sft", 7, 20, 100,
         "training", 1, None, 40_000, T0)
    ]  # fmt: skip
    assert rows(
        projection, "SELECT exit_code, peak_rss_mb, pid, device, first_step, last_step FROM attempts"
    ) == [(0, 512.5, 2001, "cpu", 1, 20)]
    assert ("method.r", "16") in rows(projection, "SELECT key, value FROM params")
    assert not rows(projection, "FROM params WHERE key = 'data.limit'")
    assert rows(projection, "SELECT count(*) FROM metrics WHERE key LIKE 'train/%'") == [(40,)]
    assert rows(projection, "SELECT value FROM curve(1, 'heldout/loss')") == [(3.1,), (2.1,)]
    assert rows(projection, "SELECT count(*), count(lo) FROM evals") == [(8, 4)]
    assert rows(projection, "SELECT count(*), min(nll) FROM eval_examples") == [(12, 20.0)]
    assert rows(projection, "SELECT count(*) FROM examples") == [(3,)]
    assert rows(projection, "SELECT prompt, text FROM samples") == [("def", " main():")]
    assert rows(projection, "SELECT flag, level, n, looks, advice FROM flags") == [
        ("forgetting", "warn", 3, 2, '["add replay"]')
    ]
    assert rows(
        projection,
        "SELECT slice, lost, gained, forecast_step, forecast, forecast_lo, forecast_hi,"
        " actions::JSON->0->'change'->>'data.replay.ratio', actions::JSON->0->>'source' FROM flags",
    ) == [("samples", 41, 7, 90, 0.3, 0.2, 0.5, "0.05", "bethune2025")]
    assert rows(projection, "SELECT step, bytes FROM checkpoints") == [(20, 1234)]
    sql, parameters = queries.memory(1)
    assert rows(projection, sql, **parameters) == [
        (1, 20, "end", predicted, 800.0, error, 4096.0, 512, "cpu")
        for predicted, error in ((880.0, pytest.approx(0.1)), (None, None))
    ]
    assert rows(projection, "SELECT n_rows FROM datasets") == [(10,)]
    assert rows(projection, "SELECT key, value FROM system_metrics ORDER BY key") == [
        ("cpu/percent", 12.5),
        ("gpu0/util", 99.0),
    ]
    assert rows(projection, "SELECT value FROM meta WHERE key = 'device/gpu0'") == [("NVIDIA H100",)]
    assert rows(projection, "SELECT example FROM forgotten(1) LIMIT 1") == [("general-0",)]


def test_what_was_measured_of_each_example_is_kept(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = home.run(1)
    run.eval(0, "heldout", [30.0, 31.0])
    examples = {"id": ["a", "b"], "nll": [3.0, 4.0], "tokens": [5, 6], "right": [2, 3], "slice": ["x", "y"]}
    examples |= {
        "lost": [1, 0],
        "gained": [0, 2],
        "kl": [0.25, None],
        "tempered": {"0.7": [3.5, 4.5], "2.0": [2.5, 3.5]},
    }
    run.write("eval", step=3, suite="general", values={}, examples=examples)
    ingest.drain()
    assert rows(
        projection,
        "SELECT example, slice, nll, lost, gained, kl, (tempered->>'$.\"2.0\"')::DOUBLE FROM eval_examples"
        " ORDER BY step, example",
    ) == [
        ("heldout-0", None, 30.0, None, None, None, None),
        ("heldout-1", None, 31.0, None, None, None, None),
        ("a", "x", 3.0, 1, 0, 0.25, 2.5),
        ("b", "y", 4.0, 0, 2, None, 3.5),
    ]


def test_a_flag_without_slice_flips_or_forecast_has_none(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = home.run(1)
    run.write("flag", step=20, flag="nan", level="critical", slice="", lost=None, gained=None, forecast=None)
    ingest.drain()
    found = rows(projection, "SELECT slice, lost, gained, forecast_step, forecast, actions FROM flags")
    assert found == [(None, None, None, None, None, "[]")]


def test_ended_runs_are_clustered_and_live_ones_are_not(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    done, going = busy_run(home, 1), busy_run(home, 2)
    ingest.poll()
    done.end()
    ingest.poll()
    assert rows(projection, "SELECT DISTINCT run FROM metrics_cold") == [(1,)]
    assert rows(projection, "SELECT DISTINCT run FROM metrics_live") == [(2,)]
    stored = rows(projection, "SELECT key, step FROM metrics_cold ORDER BY rowid")
    assert stored == sorted(stored)
    assert len(stored) == rows(projection, "SELECT count(*) FROM metrics_live")[0][0]
    assert going.number == 2


def test_times_are_the_same_wherever_metrics_are(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = home.run(1)
    run.start()
    run.write("metrics", step=1, t=1_790_000_000.1234567, values={"train/loss": 2.0})
    times = "SELECT t FROM metrics UNION ALL SELECT t FROM curve(1, 'train/loss')"
    ingest.poll()
    assert rows(projection, times) == [(1_790_000_000.123457,)] * 2
    run.end()
    ingest.poll()
    assert not rows(projection, "FROM metrics_live")
    assert rows(projection, times) == [(1_790_000_000.123457,)] * 2


def test_nothing_new_writes_nothing(home: FakeHome, ingest: Ingest) -> None:
    busy_run(home)
    assert ingest.poll() > 0
    assert ingest.poll() == 0
    assert ingest.drain() == 0


def test_a_torn_last_line_is_waited_for(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = busy_run(home)
    ingest.poll()
    line = (
        json.dumps({"kind": "metrics", "t": T0, "step": 21, "values": {"train/loss": 0.5}}).encode() + b"\n"
    )
    for cut in (10, len(line) - 1):
        with run.events().open("ab") as file:
            file.write(line[:cut])
        ingest.poll()
        assert not rows(projection, "FROM metrics WHERE step = 21")
        with run.events().open("ab") as file:
            file.write(line[cut:])
        ingest.poll()
        assert rows(projection, "SELECT value FROM metrics WHERE step = 21") == [(0.5,)]
        with projection.write() as cursor:
            cursor.execute("DELETE FROM metrics_live WHERE step = 21")
    assert not rows(projection, "FROM events WHERE kind = 'unreadable'")


BAD_LINES = [
    b'{"kind": "metrics", "t": 1, "step": 2, "val',
    b"\xff\xfe\x00 not text",
    b"[1, 2, 3]",
    b'{"t": 5}',
    b'{"kind": "metrics", "t": 5, "step": "x", "values": {}}',
    b'{"kind": "metrics", "t": 5, "step": 1e400, "values": {"a": 1}}',
    b'{"kind": "metrics", "t": 5, "step": 99999999999999999999, "values": {"a": 1}}',
    b'{"kind": "metrics", "t": 5, "step": 3, "values": {"a": "high"}}',
    b'{"kind": "metrics", "t": 5, "step": 3, "values": 7}',
    b'{"kind": "eval", "t": 5, "step": 3, "suite": "s", "values": {"loss": {"value": 1}}, "examples": {"id": ["a"]}}',
    *(
        b'{"kind": "eval", "t": 5, "step": 3, "suite": "s", "examples": {"id": ["a"], "nll": [1], "tokens": [1], %s}}'
        % more
        for more in (b'"lost": [1, 2]', b'"tempered": 7', b'"tempered": {"2.0": []}', b'"right": [1e12]')
    ),
    b'{"kind": "examples", "t": 5, "suite": "s", "rows": [{"prompt": "no id"}]}',
    b'{"kind": "examples", "t": 5, "suite": "s", "rows": 7}',
    b'{"kind": "eval", "t": 5, "step": 3, "suite": "s", "values": {"loss": 1}, "examples": {"id": 7}}',
    b'{"kind": "resume", "t": 5, "from_step": "x"}',
    b'{"kind": "sample", "t": 5, "step": 3, "index": 99999999999}',
    b'{"kind": "flag", "t": null, "step": 3}',
    b'{"kind": "flag", "t": 5, "step": 3, "forecast": 0.3}',
    b"[" * 100_000,
]


def test_unreadable_lines_are_set_aside(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = busy_run(home)
    before = run.clock
    for bad in BAD_LINES:
        with run.events().open("ab") as file:
            file.write(bad + b"\n")
        run.metrics(30, loss=1.0)
    ingest.poll()
    assert ingest.problem is None
    assert rows(projection, "SELECT count(*) FROM metrics WHERE step = 30") == [(len(BAD_LINES),)]
    assert not rows(projection, "FROM metrics WHERE step IN (2, 3) AND key = 'a'")
    aside = rows(
        projection, "SELECT run, attempt, t, message, body FROM events WHERE kind = 'unreadable' ORDER BY t"
    )
    assert len(aside) == len(BAD_LINES)
    assert aside[0][:3] == (1, 1, before)
    assert "events.jsonl, byte" in aside[0][3]
    assert aside[0][4] == BAD_LINES[0].decode()


def test_text_that_no_database_takes_is_mended(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = busy_run(home)
    with run.events().open("ab") as file:
        file.write(b'{"kind":"log","t":5,"level":"info","message":"half \\ud83d pair, nul \\u0000"}\n')
    ingest.poll()
    assert ingest.problem is None
    assert rows(projection, "SELECT message FROM events WHERE kind = 'log'") == [("half ? pair, nul \0",)]


def test_a_line_that_the_database_refuses_is_found_and_set_aside(
    home: FakeHome, projection: Projection, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from store import rows as translation

    def too_large(batch, run, attempt, entry, line):  # type: ignore[no-untyped-def]
        batch.add("samples", run=run.run, attempt=attempt, step=1, idx=2**40, t=1.0)

    monkeypatch.setitem(translation._WORKER, "sample", too_large)
    run = busy_run(home)
    for step in range(21, 25):
        run.metrics(step, loss=0.1)
    for _ in range(4):
        ingest.poll()
    assert ingest.problem is None
    assert rows(projection, "SELECT count(*) FROM events WHERE kind = 'unreadable'") == [(1,)]
    assert rows(projection, "SELECT count(*) FROM metrics WHERE key = 'train/loss'") == [(24,)]


def test_a_number_that_is_none_costs_no_other(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    """NaN and infinities of an evaluation are written as null."""
    run = home.run(1)
    run.start()
    examples = {
        "id": ["a", "b"],
        "nll": [1.0, None],
        "tokens": [2, 2],
        "right": [1, 0],
        "tempered": {"2": [1, None]},
    }
    values = {"loss": {"value": 0.5}, "mine": {"value": None, "n": 2}}
    run.write("eval", step=1, suite="heldout", values=values, examples=examples)
    ingest.poll()
    assert rows(projection, "SELECT key, value FROM evals") == [("loss", 0.5)]
    assert rows(projection, "SELECT example, nll FROM eval_examples ORDER BY 1") == [("a", 1.0), ("b", None)]
    assert not rows(projection, "FROM events WHERE kind = 'unreadable'")


def test_nan_and_infinities_survive(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = home.run(1)
    run.start()
    for step, value in enumerate([2.0, math.nan, math.inf, -math.inf, 1.0, math.nan]):
        run.metrics(step, loss=value)
    ingest.poll()
    values = [value for (value,) in rows(projection, "SELECT value FROM curve(1, 'train/loss')")]
    assert str(values) == "[2.0, nan, inf, -inf, 1.0, nan]"
    assert (
        str(rows(projection, "SELECT last, last_step, best, best_step, n FROM run_summary"))
        == "[(nan, 5, 1.0, 4, 6)]"
    )


def test_numbers_that_json_lacks_are_spelled(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = home.run(1)
    run.start()
    for step, value in enumerate([math.nan, math.inf, -math.inf], 1):
        run.metrics(step, loss=value)
    logged = [json.loads(line)["values"] for line in run.events().read_text().splitlines()[1:]]
    assert [values["train/loss"] for values in logged] == ["NaN", "Infinity", "-Infinity"]
    run.eval(3, "heldout", [math.nan, 1.0])
    ingest.poll()
    assert str(rows(projection, "SELECT nll FROM eval_examples ORDER BY example")) == "[(nan,), (1.0,)]"
    assert str(rows(projection, "SELECT value FROM curve(1, 'heldout/loss')")) == "[(nan,)]"
    assert not rows(projection, "FROM events WHERE kind = 'unreadable'")


def test_summaries_follow_the_points(home: FakeHome, projection: Projection) -> None:
    ingest = Ingest(projection, home.path, batch_rows=3)
    run = home.run(1)
    run.start()
    losses = [5.0, 3.0, 4.0, 3.0, 6.0, 3.5, 7.0]
    for step, loss in enumerate(losses):
        run.metrics(step, loss=loss, accuracy=loss / 10)
        if step % 2:
            ingest.poll()
    ingest.poll()
    assert rows(
        projection, "SELECT key, last, last_step, best, best_step, n FROM run_summary ORDER BY key"
    ) == [
        ("train/accuracy", 0.7, 6, 0.7, 6, 7),
        ("train/loss", 7.0, 6, 3.0, 1, 7),
    ]


def test_whether_higher_is_better_may_be_said_of_a_metric(home: FakeHome, projection: Projection) -> None:
    run = home.run(1)
    run.start()
    for step, value in enumerate([0.2, 0.7, 0.5], 1):
        values = {"speed": {"value": value, "higher_is_better": True},
                  "my_score": {"value": value, "higher_is_better": False}, "plain": value}  # fmt: skip
        run.write("eval", step=step, suite="heldout", values=values)
        Ingest(projection, home.path).poll()
    best = "SELECT key, best, best_step, higher_is_better FROM run_summary ORDER BY key"
    expected = [
        ("heldout/my_score", 0.2, 1, False),
        ("heldout/plain", 0.2, 1, False),
        ("heldout/speed", 0.7, 2, True),
    ]
    assert rows(projection, best) == expected
    run.end(state="interrupted")
    run.start(attempt=2)
    run.write("resume", attempt=2, from_step=2)  # the summaries are worked out afresh
    Ingest(projection, home.path).poll()
    assert rows(projection, best) == expected


def test_the_best_of_a_score_is_its_greatest_and_a_confusion_matrix_is_in_the_event(
    home: FakeHome, projection: Projection
) -> None:
    run = home.run(1)
    run.start()
    for step, value in enumerate([0.2, 0.7, 0.5]):
        values = {"loss": {"value": value}, "macro_f1": {"value": value}, "rougeL": {"value": value}}
        run.write("eval", step=step, suite="heldout", values=values, confusion=[[step, 1], [0, 3]])
    Ingest(projection, home.path).poll()
    best = "SELECT key, best, best_step FROM run_summary ORDER BY key"
    assert rows(projection, best) == [
        ("heldout/loss", 0.5, 2),  # at step 0 it is the base model's
        ("heldout/macro_f1", 0.7, 1),
        ("heldout/rougeL", 0.7, 1),
    ]
    matrix = (
        "SELECT (body::JSON -> 'confusion')::VARCHAR FROM events WHERE kind = 'eval' ORDER BY t DESC LIMIT 1"
    )
    assert rows(projection, matrix) == [("[[2,1],[0,3]]",)]


def resumed(home: FakeHome, between: object = None) -> FakeRun:
    run = busy_run(home)
    run.journal("interrupted", state="interrupted", attempt=1, signal=9)
    if callable(between):
        between()
    run.journal("requeued", state="queued")
    run.start(2)
    run.write("resume", 2, from_step=10)
    for step in range(11, 16):
        run.metrics(step, attempt=2, loss=9.0 + step)
    return run


@pytest.mark.parametrize("when", ["one round", "two rounds", "after the run had ended"])
def test_a_resume_supersedes_the_steps_after_its_checkpoint(
    home: FakeHome, projection: Projection, ingest: Ingest, when: str
) -> None:
    def between() -> None:
        if when == "two rounds":
            ingest.poll()

    if when == "after the run had ended":
        run = busy_run(home)
        run.end("failed", exit_code=1)
        ingest.poll()
        assert not rows(projection, "FROM metrics_live")
        run.journal("requeued", state="queued")
        run.start(2)
        run.write("resume", 2, from_step=10)
        for step in range(11, 16):
            run.metrics(step, attempt=2, loss=9.0 + step)
        ingest.notify(1)
    else:
        resumed(home, between)
    ingest.poll()
    expected = [(step, 3.0 - step / 10) for step in range(1, 11)] + [
        (step, 9.0 + step) for step in range(11, 16)
    ]
    assert rows(projection, "SELECT step, value FROM curve(1, 'train/loss')") == pytest.approx(expected)
    for table in ("evals", "eval_examples", "samples", "flags", "checkpoints"):
        assert not rows(projection, f"FROM {table} WHERE step > 10"), table
    summary = rows(
        projection, "SELECT last, last_step, best, best_step, n FROM run_summary WHERE key = 'train/loss'"
    )
    assert summary == [(24.0, 15, 2.0, 10, 15)]
    assert rows(projection, "SELECT last_step, n FROM run_summary WHERE key = 'heldout/loss'") == [(0, 1)]
    assert rows(projection, "SELECT step, state, attempt, ended FROM runs") == [(15, "running", 2, None)]
    assert rows(projection, "SELECT attempt, resumed_from FROM attempts ORDER BY attempt") == [
        (1, None),
        (2, 10),
    ]


def test_an_attempt_without_a_checkpoint_starts_over(
    home: FakeHome, ingest: Ingest, projection: Projection
) -> None:
    run = busy_run(home)
    run.journal("interrupted", state="interrupted", attempt=1)
    run.start(2)
    run.write("resume", 2, from_step=-1)
    ingest.poll()
    assert rows(projection, "SELECT step, attempt FROM runs") == [(0, 2)]
    assert rows(projection, "SELECT resumed_from FROM attempts WHERE attempt = 2") == [(None,)]
    assert not rows(projection, "FROM metrics")
    said = rows(projection, "SELECT message FROM events WHERE kind = 'resume'")
    assert said == [("started over: there was no checkpoint",)]


def test_attempts_are_read_in_order_even_when_all_are_there(home: FakeHome, projection: Projection) -> None:
    resumed(home)
    Ingest(projection, home.path, batch_rows=4).poll()
    small = content(projection)
    projection.rebuild()
    Ingest(projection, home.path).poll()
    assert content(projection) == small


def test_a_rebuild_has_the_content_of_the_rounds(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = resumed(home, ingest.poll)
    ingest.poll()
    with run.events(2).open("ab") as file:
        file.write(b"not json\n")
    ingest.poll()
    run.metrics(16, attempt=2, loss=math.nan, token_accuracy=0.25)
    run.eval(16, "heldout", [1.0, 2.0, 3.0], attempt=2)
    run.end(attempt=2)
    other = busy_run(home, 2)
    ingest.poll()
    other.journal("cancel", reason="asked")
    other.end("cancelled", exit_code=3)
    ingest.poll()
    grown = content(projection)
    assert all(grown[table] for table in ("metrics", "run_summary", "events", "attempts"))
    projection.rebuild()
    assert not content(projection)["metrics"]
    ingest.poll()
    assert content(projection) == grown


def test_a_rebuild_in_another_order_has_the_same_content(
    home: FakeHome, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where two runs name one example differently, and whether their ends fall into one batch or several."""
    resumed(home)
    for number, suite in ((2, "seen"), (3, "heldout"), (4, "general")):
        other = busy_run(home, number)
        other.write("examples", suite=suite, rows=[{"id": "shared", "prompt": "p", "target": "t"}])
        other.end()
    contents = []
    for batch_rows in (7, 200, 100_000):
        for backwards in (False, True):
            ingest = Ingest(projection, home.path, batch_rows=batch_rows)
            every = ingest._all
            monkeypatch.setattr(ingest, "_all", lambda: every()[:: -1 if backwards else 1])  # noqa: B023
            ingest.poll()
            assert ingest.problem is None
            contents.append(content(projection))
            projection.rebuild()
    assert contents[0]["examples"]
    assert all(one == contents[0] for one in contents)


def test_a_new_ingest_goes_on_where_the_old_one_was(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = busy_run(home)
    ingest.poll()
    before = content(projection)
    again = Ingest(projection, home.path)
    assert again.poll() == 0
    assert content(projection) == before
    run.metrics(21, loss=0.5)
    assert again.poll() == 1


def test_a_run_is_seen_only_once_it_is_acknowledged(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    ingest.poll()
    path = home.path / "runs" / "000003-late"
    path.mkdir(parents=True)
    ingest.poll()
    assert not rows(projection, "FROM runs")
    (path / "run.json").write_text("{}")
    ingest.poll()
    assert rows(projection, "SELECT run, name, state FROM runs") == [(3, "late", "queued")]


def test_a_copy_of_a_run_takes_nothing_over(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = home.run(2)
    run.start()
    run.metrics(1, loss=2.0)
    ingest.poll()
    for name in (f"{run.path.name}.bak", f"{run.path.name}-old", "000002-a"):
        shutil.copytree(run.path, run.path.with_name(name))
    run.metrics(2, loss=1.0)
    Ingest(projection, home.path).poll()
    assert rows(projection, "SELECT step FROM metrics WHERE key = 'train/loss' ORDER BY step") == [(1,), (2,)]
    assert rows(projection, "SELECT dir FROM runs") == [(str(run.path),)]


def test_a_broken_run_json_still_gives_a_row(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    path = home.path / "runs" / "000003-odd"
    path.mkdir(parents=True)
    (path / "run.json").write_text('{"name": ')
    busy_run(home, 4)
    ingest.poll()
    assert rows(projection, "SELECT run, name FROM runs ORDER BY run") == [(3, "odd"), (4, "demo")]
    assert rows(projection, "SELECT run, message FROM events WHERE kind = 'unreadable'")[0][0] == 3


def test_waiting_for_is_the_daemons_word(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    first, _ = home.run(1), home.run(2)
    projection.set_waiting({1: "run #7 is running", 2: "run #1 is before it"})  # before ingest has seen them
    ingest.poll()
    projection.set_waiting({1: "run #7 is running", 2: "run #1 is before it"})
    assert rows(projection, "SELECT waiting_for FROM runs ORDER BY run") == [
        ("run #7 is running",),
        ("run #1 is before it",),
    ]
    first.start()
    ingest.poll()
    assert rows(projection, "SELECT waiting_for FROM runs ORDER BY run") == [
        (None,),
        ("run #1 is before it",),
    ]
    projection.set_waiting({})
    assert rows(projection, "SELECT DISTINCT waiting_for FROM runs") == [(None,)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_may_not_be_read_stops_no_other(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    closed, open_run = busy_run(home, 1), busy_run(home, 2)
    closed.events().chmod(0)
    ingest.poll()
    assert rows(projection, "SELECT DISTINCT run FROM metrics") == [(2,)]
    closed.events().chmod(0o600)
    ingest.poll()
    assert rows(projection, "SELECT count(DISTINCT run) FROM metrics") == [(2,)]
    assert open_run.number == 2
