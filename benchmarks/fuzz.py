"""Damage to every file of a home, and what it costs: `python -m benchmarks.fuzz [--runs 2000] [--seed 0] [--docs]`.

A home of --runs runs is made, one file of each (but of every tenth) is damaged in one way, and the home is taken up as
the daemon does it: the queue's records, the logs into the database. Held means: no error, the undamaged runs whole,
every other run there, none started again, no file changed but by lines added to a journal. Checkpoints, caches,
config.toml, the hardware log and the database are damaged in the same ways, each on its own.

`--docs` writes the figures into docs/damage.md. The same, with fewer, is a test: tests/engine/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import random
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.basics.errors import ConfigError
from engine.queue import accept, config
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import checkpoints, journal
from engine.runs.events import events_of
from engine.runs.home import RunDir, run_dirs
from finetui.files import write_json
from finetui.home import Home
from finetui.log import LogWriter
from store.ingest import Ingest
from store.journal_lines import Ended, Interrupted, Running, Starting
from store.lines import WORKER
from store.projection import Projection
from store.states import RunState

DOCS = Path(__file__).parent.parent / "docs" / "damage.md"
MARK, END = "<!-- made:fuzz -->", "<!-- end -->"
RECIPE = {"model": {"path": "bundled:stdlib-2m"}, "method": {"name": "lora"}, "data": {"train": "x.jsonl"}}
POINTS = 12  # of train/loss in a whole run
T = 1_790_000_000.0

ODD_LINES = (
    b"", b"{}", b"[]", b"null", b"0", b'"text"', b"\x00" * 50, b"\xff\xfe\xfd", b"[" * 5000, b'{"a":' * 5000,
    b'{"kind": 7}', b'{"kind": "metrics"}', b'{"kind": "metrics", "t": "x", "step": {}, "values": []}',
    b'{"kind": "metrics", "t": 1e999, "step": 1e999, "values": {"a": 1}}', b'{"kind": "ended", "state": ["x"]}',
    b'{"kind": "metrics", "t": 1, "step": 99999999999999999999, "values": {"a": 1}}',
    b'{"kind": "metrics", "t": 1, "step": 1, "values": {"": NaN, "b": "-Infinity", "c": null, "d": [1]}}',
    b'{"kind": "starting", "state": "starting", "attempt": -5}', b'{"kind": "submitted", "state": "flying"}',
    b'{"kind": "eval", "t": 1, "step": 1, "suite": {}, "values": {"loss": {}, "x": "y"}, "examples": []}',
    b'{"kind": "sample", "t": 1, "step": 1, "prompt": "\\ud800", "text": "\\u0000"}', b'{"kind": "end", "status": {}}',
    b'{"kind": "checkpoint", "t": 1, "step": 1, "path": "../../../etc", "bytes": -1}', b'{"exit_code": []}',
    b'{"kind": "resume", "t": 1, "from_step": null}', b'{"kind": "flag", "t": 1, "step": 1, "actions": {"a": []}}',
    b'{"kind": "plan", "t": 1, "total_steps": "many", "labels": 7}', b"{" + b" " * 100_000 + b"}",
)  # fmt: skip


# ---- a home ----------------------------------------------------------------------------------------------


def make_run(home: Home, number: int, kind: str) -> RunDir:
    """A run by the writers that the daemon and the worker use. `kind`: finished, resumed, failed, queued or lost."""
    run = accept.accept(home, number, *accept.read_submission({"recipe": RECIPE, "name": kind}))
    record = journal.read(run)
    attempts = {"queued": 0, "resumed": 2}.get(kind, 1)
    for attempt in range(1, attempts + 1):
        record = journal.append(run, record, Starting(attempt, RunState.STARTING, "cpu", 1))
        record = journal.append(
            run, record, Running(attempt, RunState.RUNNING, pid=1, start_time=1, boot_id="b")
        )
        last = attempt == attempts
        write_attempt(run, attempt, resumed=attempt > 1, status=kind if last else None)
        if not last:
            record = journal.append(
                run, record, Interrupted(attempt, None, 9, 6, 1, RunState.INTERRUPTED, "killed")
            )
        elif kind in ("finished", "resumed", "failed"):
            state = RunState.FAILED if kind == "failed" else RunState.FINISHED
            record = journal.append(run, record, Ended(state, attempt, 4 if kind == "failed" else 0))
    return run


def write_attempt(run: RunDir, number: int, *, resumed: bool, status: str | None) -> None:
    attempt = run.attempt(number)
    log = LogWriter(attempt.events, "worker", run.number, number)
    if resumed:
        log.write("resume", t=T, from_step=6)
    log.write("plan", t=T, total_steps=POINTS, parameters=100, trainable=10, precision="fp32", device="cpu")
    log.write("examples", t=T, suite="heldout", rows=[{"id": "a", "prompt": "p", "target": "t"}])
    for step in range(7 if resumed else 1, POINTS + 1):
        log.write("metrics", t=T + step, step=step, values={"train/loss": 1 / step, "train/lr": 1e-3})
    scored = {"id": ["a", "b"], "nll": [1.0, 2.0], "tokens": [3, 4], "right": [1, 2]}
    values = {"loss": {"value": 0.4, "lo": 0.3, "hi": 0.5, "n": 2}}
    log.write("eval", t=T + 20, step=POINTS, suite="heldout", values=values, examples=scored, seconds=0.1)
    log.write("sample", t=T + 21, step=POINTS, index=0, prompt="p", text="t", ended=True, fits=True)
    log.write(
        "flag", t=T + 22, step=POINTS, flag="forgetting", level="warn", effect=0.1, message="m", worst=[]
    )
    log.write("checkpoint", t=T + 23, step=POINTS, path=f"checkpoints/step-{POINTS:06d}", bytes=10)
    ends = {"finished": "finished", "resumed": "finished", "failed": "failed"}
    if status in ends:
        log.write("end", t=T + 24, status=ends[status], step=POINTS, error=None, reason=None)
        code = 4 if status == "failed" else 0
        body = {"exit_code": code, "signal": None, "started": T, "ended": T + 30, "peak_rss_mb": 100.5}
        write_json(attempt.exit, body)
    log.close()
    one = {"pid": 1, "start_time": 1, "boot_id": "b"}
    write_json(attempt.process, {"shim": one, "worker": one})
    attempt.stdout.write_text("training\nstep 1\n")


# ---- damage ----------------------------------------------------------------------------------------------


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit."""
    where = rng.randrange(len(data))
    return data[:where] + bytes([data[where] ^ (1 << rng.randrange(8))]) + data[where + 1 :]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """A block of zeros or of noise."""
    where = rng.randrange(len(data))
    block = min(rng.choice([4, 64, 4096]), len(data) - where)
    return (
        data[:where] + (bytes(block) if rng.random() < 0.5 else rng.randbytes(block)) + data[where + block :]
    )


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def insert_odd_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(ODD_LINES))
    return b"\n".join(lines)


def lose_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def double_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    where = rng.randrange(len(lines))
    return b"\n".join([*lines[: where + 1], *lines[where:]])


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a flipped bit": flip,
    "an overwritten block": overwrite,
    "cut": cut,
    "an odd line": insert_odd_line,
    "a line lost": lose_line,
    "a line twice": double_line,
}
FLIPS = 5  # flipped bits come so many times as often as each other kind


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in one way; return which."""
    kind = rng.choice([*CHANGES, *["a flipped bit"] * FLIPS, "empty", "missing", "a directory", "a pipe"])
    if kind in CHANGES:
        path.write_bytes(CHANGES[kind](path.read_bytes() or b"\n", rng))
        return kind
    path.unlink()
    match kind:
        case "empty":
            path.touch()
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
    return kind


# ---- what is held ----------------------------------------------------------------------------------------


@dataclass
class Figures:
    """Trials by the file that was damaged; of these, how many were told; and what did not hold."""

    trials: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def count(self, file: str, kind: str, told: bool) -> None:
        self.trials[file] += 1
        self.kinds[kind] += 1
        self.told[file] += told


KINDS = ("finished", "resumed", "failed", "queued", "lost")
FILES = ("run.json", "journal.jsonl", "events.jsonl", "exit.json", "process.json", "stdout.log")


def fuzz_runs(home: Home, projection: Projection, count: int, rng: random.Random, figures: Figures) -> None:
    """`count` runs, each but every tenth with one damaged file."""
    home.create()
    templates = {kind: make_run(home, number, kind) for number, kind in enumerate(KINDS, 1)}
    damaged: dict[int, tuple[str, str, Path]] = {}
    for number in range(10, 10 + count):
        run = copy_of(templates[KINDS[number % len(KINDS)]], number)
        if number % 10:
            path = rng.choice([file for file in sorted(run.path.rglob("*")) if file.name in FILES])
            damaged[number] = (path.name, damage(path, rng), path)
    before = contents(home.runs)
    nothing_starts = Settings(Capacity(0), threads=1, grace_s=1.0)
    supervisor = Supervisor(home, nothing_starts, on_change=lambda run: None)
    supervisor.recover()
    supervisor.tick()
    ingest = Ingest(projection, home.path)
    ingest.drain()
    ingest.drain()
    judge(home, projection, supervisor, ingest, damaged, before, count, figures)


def judge(
    home: Home,
    projection: Projection,
    supervisor: Supervisor,
    ingest: Ingest,
    damaged: dict[int, tuple[str, str, Path]],
    before: dict[Path, bytes | None],
    count: int,
    figures: Figures,
) -> None:
    if ingest.problem:
        figures.broken.append(f"ingest: {ingest.problem}")
    with projection.read() as cursor:
        states = dict(cursor.execute("SELECT run, state FROM runs").fetchall())
        points = dict(
            cursor.execute(
                "SELECT run, count(*) FROM metrics WHERE key = 'train/loss' GROUP BY run"
            ).fetchall()
        )
        twice = cursor.execute("SELECT run FROM runs GROUP BY run HAVING count(*) > 1").fetchall()
    figures.broken += [f"run {run} is there twice" for (run,) in twice]
    refused = " ".join(supervisor.refused)
    waiting = set(supervisor.counts()["queued"])
    for number in range(10, 10 + count):
        kind = KINDS[number % len(KINDS)]
        name, how, path = damaged.get(number, ("", "", Path()))
        label = f"run {number} ({kind}; {name}: {how})"
        if f"{number:06d}-" not in refused and number not in states:
            figures.broken.append(f"{label} is in no list")
        if kind in ("finished", "resumed", "failed") and number in waiting:
            figures.broken.append(f"{label} would start again")
        if not name and states.get(number) != {
            "queued": "queued",
            "lost": "interrupted",
            "failed": "failed",
        }.get(kind, "finished"):
            figures.broken.append(f"{label} is {states.get(number)}")
        if not name and points.get(number, 0) != (0 if kind == "queued" else POINTS):
            figures.broken.append(f"{label} has {points.get(number)} points")
        if name:
            told = number in supervisor.damaged or number in ingest.damaged or f"{number:06d}-" in refused
            figures.count(name, how, told)
    for run in run_dirs(home):
        try:
            journal.read(run)
            events_of(run, *WORKER.values())
        except OSError:  # a pipe or a directory in place of a log: the worker's, which says so
            continue
        except Exception as error:
            figures.broken.append(f"{run.path.name}: {type(error).__name__}: {error}")
    after = contents(home.runs)
    for path, content in before.items():
        grown = (
            path.name == "journal.jsonl"
            and content is not None
            and (after.get(path) or b"").startswith(content)
        )
        if after.get(path) != content and not grown:
            figures.broken.append(f"{path} was changed")


def copy_of(template: RunDir, number: int) -> RunDir:
    """The same run, as if it had been accepted under another number."""
    slug = template.path.name.partition("-")[2]
    path = template.path.with_name(f"{number:06d}-{slug}")
    shutil.copytree(template.path, path)
    body = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**body, "number": number, "uuid": str(uuid.uuid4())}))
    return RunDir(path)


def contents(directory: Path) -> dict[Path, bytes | None]:
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
        if path.name not in ("lock", "shim.log")
    }


def fuzz_config(directory: Path, count: int, rng: random.Random, figures: Figures) -> None:
    """A damaged config.toml is refused in a sentence, or read."""
    path = directory / "config.toml"
    for _ in range(count):
        remove(path)
        path.write_text("# how the queue behaves\nconcurrency = 2\ngrace_s = 30.0\nsample_every_s = 2.0\n")
        kind = damage(path, rng)
        told = False
        try:
            config.read(path)
        except ConfigError:
            told = True
        except Exception as error:
            figures.broken.append(f"config.toml, {kind}: {type(error).__name__}: {error}")
        figures.count("config.toml", kind, told)


def fuzz_checkpoints(directory: Path, count: int, rng: random.Random, figures: Figures) -> None:
    """Every change of a sealed checkpoint's files is noticed."""
    for number in range(count):
        path = directory / f"step-{number:06d}"
        path.mkdir()
        for name in ("weights.safetensors", "optimiser.pt", "rng.pt"):
            (path / name).write_bytes(rng.randbytes(2000))
        (path / "state.json").write_text(json.dumps({"step": number, "tokens": 7, "data": {}}))
        checkpoints.seal(path)
        file = rng.choice([file for file in sorted(path.iterdir()) if file.name != checkpoints.COMPLETE])
        before = file.read_bytes()
        kind = damage(file, rng)
        changed = not file.is_file() or file.read_bytes() != before
        found = checkpoints.damage(path) is not None
        if changed and not found:
            figures.broken.append(f"checkpoint, {file.name}, {kind}: not noticed")
        figures.count("a checkpoint's file", kind, found)
        shutil.rmtree(path)


def fuzz_hardware(
    home: Home, projection: Projection, count: int, rng: random.Random, figures: Figures
) -> None:
    home.create()
    for _ in range(count):
        remove(home.hardware_log)
        log = LogWriter(home.hardware_log, "hardware")
        for second in range(5):
            log.write("sample", t=T + second, values={"cpu/percent": 12.5, "ram/used_gb": 3.5})
        log.close()
        kind = damage(home.hardware_log, rng)
        before = asides(projection)
        ingest = Ingest(projection, home.path)
        ingest.drain()
        if ingest.problem:
            figures.broken.append(f"hardware.jsonl, {kind}: {ingest.problem}")
        told = asides(projection) > before or "cannot be read" in ingest.damaged.get(None, "")
        figures.count("hardware.jsonl", kind, told)


def asides(projection: Projection) -> int:
    with projection.read() as cursor:
        return cursor.execute("SELECT count(*) FROM events WHERE kind = 'unreadable'").fetchall()[0][0]


def fuzz_caches(home: Home, count: int, rng: random.Random, figures: Figures) -> None:
    """What a damaged cache gives is what was computed, or it is computed again."""
    from engine.evals.generate import Answer, Question  # imports torch
    from engine.training.base_cache import BaseCache

    home.create()
    cache = BaseCache(RunDir(home.runs / "000001-x"), "base")
    tokens = [[rng.randrange(1000) for _ in range(20)] for _ in range(5)]
    questions = [Question("", [1, 2, number], "", True) for number in range(5)]
    answers = [Answer(f"answer {number}", True) for number in range(5)]
    computed: list[str] = []

    def draw() -> list[list[int]]:
        computed.append("samples")
        return tokens

    def generate() -> list[Answer]:
        computed.append("answers")
        return answers

    for _ in range(count):
        assert cache.samples(5, draw) == tokens
        assert cache.answers(questions, 9, generate) == answers
        computed.clear()
        path = rng.choice(sorted((home.path / "cache" / "base").iterdir()))
        kind = damage(path, rng)
        if (cache.samples(5, draw), cache.answers(questions, 9, generate)) != (tokens, answers):
            figures.broken.append(f"{path.name}, {kind}: other values")
        figures.count("cache/base", kind, bool(computed))
        remove(path)


def fuzz_store(home: Home, count: int, rng: random.Random, figures: Figures) -> None:
    """A damaged database is made again from the logs, at the start or when it is read."""
    home.create()
    for number, kind in enumerate(KINDS, 1):
        if kind != "queued":
            make_run(home, number, kind)
    projection = Projection(home.store)
    Ingest(projection, home.path).drain()
    wanted = all_points(projection)
    projection.close()
    whole = home.store.read_bytes()
    for _ in range(count):
        remove(home.store)
        home.store.write_bytes(whole)
        kind = damage(home.store, rng)
        try:
            projection = Projection(home.store)
        except Exception as error:
            told = "is no file" in str(error)  # a pipe or a directory in its place
            if not told:
                figures.broken.append(f"store.duckdb, {kind}: {type(error).__name__}: {error}")
            figures.count("store.duckdb", kind, told)
            continue
        ingest, points = Ingest(projection, home.path), None
        for _ in range(3):  # a failed read is what shows the damage
            ingest.drain()
            with contextlib.suppress(Exception):
                points = all_points(projection)
            if points == wanted and not ingest.problem:
                break
        if points != wanted or ingest.problem:
            figures.broken.append(f"store.duckdb, {kind}: {ingest.problem or 'other rows'}")
        figures.count("store.duckdb", kind, projection.generation > 0)
        projection.close()


def all_points(projection: Projection) -> list[tuple[object, ...]]:
    with projection.read() as cursor:
        return cursor.execute(
            "SELECT run, key, count(*), sum(value) FROM metrics GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ---- figures ---------------------------------------------------------------------------------------------


def table(figures: Figures, seed: int) -> str:
    total = sum(figures.trials.values())
    rows = [f"| `{name}` | {n:,} | {figures.told[name]:,} |" for name, n in figures.trials.items()]
    kinds = ", ".join(f"{kind} ({n:,})" for kind, n in figures.kinds.most_common())
    head = ["| file | damaged | of these named |", "|---|---|---|"]
    held = f"**{total - len(figures.broken):,} of {total:,} held** (`python -m benchmarks.fuzz --docs`, seed {seed})."
    return "\n".join([MARK, "", held, "", *head, *rows, "", f"Kinds of damage: {kinds}.", "", END])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=int, default=2000, help="runs in the home, nine of ten with a damaged file"
    )
    parser.add_argument(
        "--others", type=int, default=1000, help="trials of config.toml and of checkpoints each"
    )
    parser.add_argument(
        "--stores", type=int, default=60, help="trials of database, hardware log and caches each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/damage.md")
    options = parser.parse_args()
    logging.disable()  # of every damage a line
    faulthandler.dump_traceback_later(1800, exit=True)  # something waits for ever
    rng, figures, started = random.Random(options.seed), Figures(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="finetui-fuzz-") as scratch:
        top = Path(scratch)
        (top / "store").mkdir()
        projection = Projection(top / "store" / "store.duckdb")
        fuzz_runs(Home(top / "home"), projection, options.runs, rng, figures)
        fuzz_hardware(Home(top / "hardware"), projection, options.stores, rng, figures)
        projection.close()
        fuzz_config(top, options.others, rng, figures)
        (top / "checkpoints").mkdir()
        fuzz_checkpoints(top / "checkpoints", options.others, rng, figures)
        fuzz_store(Home(top / "stores"), options.stores, rng, figures)
        fuzz_caches(Home(top / "caches"), options.stores, rng, figures)
    print(table(figures, options.seed))
    print(f"{time.monotonic() - started:.0f} s; not held: {len(figures.broken)}")
    for line in figures.broken[:50]:
        print(line)
    if options.docs:
        text = DOCS.read_text()
        start, end = text.index(MARK), text.index(END) + len(END)
        DOCS.write_text(text[:start] + table(figures, options.seed) + text[end:])


if __name__ == "__main__":
    main()
