"""Log lines as types: written, read back, tolerated, and none of their fields forgotten by the store."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_home import FakeHome, content, rows

from engine.runs.events import events_of
from engine.runs.home import RunDir
from finetui.log import LogWriter, read_log
from store import lines
from store.ingest import Ingest
from store.journal_lines import JOURNAL, Ended, Other, Priority, Starting
from store.line_fields import Bad, BadLine, body, fields_of, last_line, read, read_lines, write
from store.projection import Projection
from store.scale_lines import LOG_NAME
from store.states import RunState

ALL = [(log, kind) for log, kinds in lines.LOGS.items() for kind in kinds.values()]
IDS = [f"{log}-{kind.kind}" for log, kind in ALL]

# What the daemon reads from the worker's log, but nobody asks the store for.
NOT_STORED = {"sample.ended", "sample.fits"}


def filled(kind: Any, numbers: Iterator[int], name: str = "") -> Any:
    """A line, or a part of one, with a value of its own in every field."""
    values = {}
    for field in fields_of(kind):
        values[field.name] = _value(field, numbers, f"{name or kind.kind}-{field.name}")
    return kind(**values)


def _value(field: Any, numbers: Iterator[int], text: str) -> Any:
    if field.parts is not None:
        part = filled(field.parts, numbers, text)
        return {"object": part, "object of objects": {"some": part}, "list of objects": [part]}[field.type]
    number = next(numbers)
    if field.name == "state":
        return RunState.PAUSED.value
    return {
        "whole number": number,
        "number": number + 0.5,
        "text": text,
        "true/false": True,
        "any": [text],
        "object of numbers": {text: number + 0.5},
        "object of values": {text: [number + 0.5]},
        "list of numbers": [number + 0.5],
        "list of whole numbers": [number],
        "list of texts": [text],
        "list of values": [text],
    }[field.type]


def leaves(line: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """(name of a field, what its value looks like in JSON), parts of parts as well."""
    for field in fields_of(type(line)):
        value = getattr(line, field.name)
        while isinstance(value, list | dict):
            value = next(iter(value.items() if isinstance(value, dict) else value))
            value = value[-1] if isinstance(value, tuple) else value
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}.{field.name}")
        elif value is True:  # the name tells it from others
            yield f"{prefix}.{field.name}", f'"{field.name}": true'
        else:
            yield f"{prefix}.{field.name}", json.dumps(value).strip('"')


# ---- writing and reading -----------------------------------------------------------------------------


@pytest.mark.parametrize(("log", "kind"), ALL, ids=IDS)
def test_what_is_written_is_what_is_read(tmp_path: Path, log: str, kind: Any) -> None:
    line = filled(kind, itertools.count(1))
    writer = LogWriter(tmp_path / "log", "worker")
    write(writer, line, sync=True, t=5.0)
    writer.close()
    assert list(read_lines(tmp_path / "log", lines.LOGS[log])) == [(5.0, line)]
    assert last_line(tmp_path / "log", kind) == line
    *_, entry = read_log(tmp_path / "log")
    assert read(kind, entry) == line
    assert (entry["kind"], entry["t"]) == (kind.kind, 5.0)


def test_the_writer_of_logs_begins_with_a_header(tmp_path: Path) -> None:
    LogWriter(tmp_path / "log", "worker", 7, 2).close()
    (entry,) = read_log(tmp_path / "log")
    assert set(entry) == {field.name for field in fields_of(lines.Header)} | {"kind", "t"}
    header = read(lines.Header, entry)
    assert (header.source, header.run, header.attempt, header.version) == ("worker", 7, 2, 1)


@pytest.mark.parametrize(("log", "kind"), ALL, ids=IDS)
def test_every_field_has_a_meaning_and_every_kind_says_what_it_is(log: str, kind: Any) -> None:
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")  # what dataclass writes where there is none
    for field in fields_of(kind):
        assert field.meaning, field.name


def test_what_is_not_there_is_left_out_or_null() -> None:
    end = {"status": "failed", "step": 0, "error": "x", "reason": None}
    assert body(lines.End(RunState.FAILED, error="x")) == end
    assert json.dumps(body(Ended(RunState.PAUSED, 2, 3))) == (
        '{"state": "paused", "attempt": 2, "exit_code": 3, "signal": null}'
    )


# ---- tolerance -----------------------------------------------------------------------------------------


def test_unknown_fields_are_passed_over_and_missing_ones_have_their_default() -> None:
    assert read(lines.Checkpoint, {"kind": "checkpoint", "t": 1, "step": 3, "colour": "red"}) == (
        lines.Checkpoint(step=3)
    )
    assert read(lines.Sample, {"step": 3, "index": None, "ended": None}) == lines.Sample(step=3)
    assert read(lines.Eval, {"step": 3, "values": {"loss": 0.5}}).values == {"loss": lines.Result(0.5)}


@pytest.mark.parametrize(
    ("kind", "entry", "why"),
    [
        (lines.Metrics, {"values": {}}, "step is missing"),
        (lines.Metrics, {"step": 3, "values": 7}, "values: not an object"),
        (lines.Metrics, {"step": "x", "values": {}}, "step: 'x' is not a whole number"),
        (lines.Metrics, {"step": 2**63, "values": {}}, "step: 9223372036854775808 is too large"),
        (lines.Sample, {"step": 3, "index": 2**31}, "index: 2147483648 is too large"),
        (lines.Flag, {"step": 3, "forecast": 0.3}, "forecast: not an object"),
        (lines.Eval, {"step": 3, "examples": {"id": 7}}, "examples: id: not a list"),
        (lines.Examples, {"rows": [{"prompt": "x"}]}, "rows: id is missing"),
    ],
)
def test_a_bad_value_is_told(kind: Any, entry: dict[str, Any], why: str) -> None:
    with pytest.raises(BadLine) as told:
        read(kind, entry)
    assert str(told.value) == why


def test_a_bad_line_stops_no_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    entries: list[Any] = [
        {"kind": "header", "log": "x"},
        {"kind": "starting", "state": "starting", "attempt": "first"},  # the attempt is needed
        {
            "kind": "ended",
            "t": "now",
            "state": "failed",
            "exit_code": "x",
            "signal": [9],
        },  # the codes are not
        {"kind": "priority"},
        {"kind": "hidden", "t": 4, "state": "paused", "reason": "of a later finetui"},
        {"kind": 7},
        [],
        {"kind": "priority", "t": 5, "priority": 3},
    ]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"kind": "priority", "pri')
    assert list(read_lines(log, JOURNAL, Other)) == [
        (0.0, Bad(2, "attempt: 'first' is not a whole number")),
        (0.0, Bad(3, "exit_code: 'x' is not a whole number")),
        (0.0, Ended("failed")),
        (0.0, Bad(4, "priority is missing")),
        (4.0, Other("paused", "of a later finetui")),
        (0.0, Other()),
        (0.0, Bad(7, "not an object")),
        (5.0, Priority(3)),
    ]
    assert list(read_lines(log, {"priority": Priority})) == [
        (0.0, Bad(4, "priority is missing")),
        (0.0, Bad(7, "not an object")),
        (5.0, Priority(3)),
    ]
    assert read(Ended, {"state": 7, "reason": 7}, strict=False) == Ended(None, reason="7")
    assert last_line(log, Priority) == Priority(3)
    assert last_line(log, Starting) is None
    assert list(read_lines(tmp_path / "none", JOURNAL)) == []


# ---- the store ------------------------------------------------------------------------------------------


def test_the_store_keeps_every_field_of_every_line(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    """A field that its type has and no table gets is found here, with its name."""
    run, numbers = home.run(1), itertools.count(70_001, 7)
    hardware = LogWriter(home.path / "hardware.jsonl", "hardware")
    wanted: dict[str, str] = {}
    for log, kind in ALL:
        line = filled(kind, numbers)
        if log == "hardware.jsonl":
            write(hardware, line, t=1.0)
        elif log == "journal.jsonl":
            run.journal(line.kind, **body(line))
        elif log == LOG_NAME:
            scales = LogWriter(run.path / LOG_NAME, "scale", 1)
            write(scales, line)
            scales.close()
        else:
            run.write(line.kind, **body(line))
        wanted |= leaves(line, kind.kind)
    ingest.poll()
    assert not rows(projection, "FROM events WHERE kind = 'unreadable'")
    # With the names of its columns: some of them are true or false.
    named = "SELECT to_json(d)::VARCHAR FROM {} d"
    answers = [
        row for table in ("drift_answers", "run_summary") for row in rows(projection, named.format(table))
    ]
    kept = json.dumps([content(projection), [json.loads(text) for (text,) in answers]]).replace("\\", "")
    assert {name for name, value in wanted.items() if value not in kept} == NOT_STORED


# ---- what a resume takes back -----------------------------------------------------------------------------


def test_the_store_and_the_engine_take_back_the_same(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    rng = random.Random(11)
    for number in range(1, 9):
        run, last = home.run(number), 0
        for attempt in range(1, 5):
            if attempt > 1:
                last = rng.randrange(-1, last + 1)
                run.write("resume", attempt, from_step=last)
            for step in range(last + 1, last + rng.randrange(2, 9)):
                run.metrics(step, attempt, loss=1.0)
                if rng.random() < 0.4:
                    run.write("checkpoint", attempt, step=step, path=f"{attempt}")
                last = step
        ingest.poll()
        written = events_of(RunDir(run.path), lines.Metrics, lines.Checkpoint)
        steps = [line.step for line in written if isinstance(line, lines.Metrics)]
        assert steps == list(range(steps[0], steps[-1] + 1)), "each step once"
        checkpoints = [(line.step, line.path) for line in written if isinstance(line, lines.Checkpoint)]
        of_run = "WHERE run = $run ORDER BY step"
        assert rows(projection, f"SELECT step FROM metrics {of_run}", run=number) == [
            (step,) for step in steps
        ]
        assert rows(projection, f"SELECT step, path FROM checkpoints {of_run}", run=number) == checkpoints


def test_lines_of_no_step_and_of_the_resumed_attempt_stay(home: FakeHome) -> None:
    run = home.run(1)
    run.write("plan", total_steps=9)
    run.metrics(1, loss=1.0)
    run.write("phase", 2, phase="loading", step=5)
    run.write("resume", 2, from_step=0)
    run.metrics(1, 2, loss=2.0)
    kept = events_of(RunDir(run.path), lines.Plan, lines.Phase, lines.Metrics)
    assert kept == [
        lines.Plan(total_steps=9),
        lines.Phase("loading", 5),
        lines.Metrics(1, {"train/loss": 2.0}),
    ]
    assert events_of(RunDir(run.path), lines.Metrics, before=2) == [lines.Metrics(1, {"train/loss": 1.0})]


# ---- what it costs to import ------------------------------------------------------------------------------


def test_lines_and_states_import_nothing_heavy() -> None:
    code = "import store.lines, store.states, engine.runs.lifecycle, engine.attempt.shim, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"duckdb", "pyarrow", "pydantic", "numpy", "torch", "textual", "typer", "rich"}
    assert heavy.isdisjoint(done.stdout.split())
