"""Everything is killed at random moments, under load, and nothing may be lost.

    python -m benchmarks.chaos [--kills 500] [--seed 0] [--queued 1000] [--docs]

Two thirds of the kills hit runs of a worker that only keeps its contract with the daemon (tests/engine/fake_worker.py),
one third real training of the bundled model, in one process and in two. SIGKILL goes to daemon, worker, rank, shim,
pool, client and screen. Between kills the clock jumps, clients hang, and (where training is real) the disk is full, as
chaos_faults.py has it. After each kill: every acknowledged run is there, no run has two workers, the daemon answers.
At the end: every acknowledged run has finished, each point of its curve is in the store once, the store equals one that
is built anew from the logs, and no process is left. `--docs` writes the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import chaos_faults
from benchmarks.chaos_home import at_home, ours, tables
from benchmarks.small_disk import SmallDisk, mounted
from engine.basics.process import Identity, alive, identify, send
from engine.client import service
from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.files import read_json
from finetui.home import Home
from store import Ingest, Projection
from store.states import RunState

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
MARK, END = "<!-- made:chaos -->", "<!-- end -->"
ANSWER_S = 2.0  # the daemon answers within
AFTER_FULL_S = 20.0  # for so long a daemon may say that its disk was full
FAULTS = 0.2  # of the times between two kills
PATIENCE_S = 900.0  # that all runs may take to end after the last kill
STEPS = {"made up": 60, "real": 12}
OPEN = 6  # runs that wait or run while there are kills to come
VICTIMS = {
    "made up": {"daemon": 4, "worker": 4, "shim": 3, "client": 2, "screen": 1},
    "real": {"daemon": 3, "worker": 5, "rank": 3, "shim": 2, "pool": 3},
}
REAL = {
    "model": {"path": "bundled:stdlib-2m"},
    "method": {"name": "lora"},
    "data": {"train": "bundled:docstrings", "limit": 60, "heldout": 4},
    "train": {"max_steps": STEPS["real"], "max_length": 48, "checkpoint_every": 2, "tokens_per_step": 512},
    "evals": {"every": "100%", "generate": 0, "general": None, "limit": 2},
}
MADE_UP = {"model": {"path": "bundled:stdlib-2m"}, "method": {"name": "lora"}, "data": {"train": "x.jsonl"}}


@dataclass
class Figures:
    """What happened, and what broke."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)  # seconds until a daemon answered after its kill
    beside: list[float] = field(default_factory=list)  # … and one to whom other clients hang
    runs: int = 0
    resumed: int = 0  # after three losses in a row, which fails a run: as a user would
    points: int = 0
    seconds: float = 0.0

    def expect(self, holds: bool, what: str) -> None:
        if not holds and what not in self.broken:
            self.broken.append(what)
            print(f"BROKEN: {what}", flush=True)


@dataclass
class Chaos:
    """One home under fire."""

    kind: str  # of its workers: made up, real
    home: Home
    rng: random.Random
    figures: Figures
    acknowledged: dict[int, int] = field(default_factory=dict)  # run → processes
    clock: chaos_faults.Clock | None = None
    disk: SmallDisk | None = None  # that the home is, where it is one of its own
    full_at: float = -60.0  # monotonic, when the disk was full the last time

    # ---- load ------------------------------------------------------------------------------------

    def submit(self, client: Client, **more: Any) -> None:
        """Queue a run; it counts once the daemon has said so."""
        processes = 2 if self.kind == "real" and self.rng.random() < 0.4 else 1
        recipe = {**REAL, "processes": processes} if self.kind == "real" else MADE_UP
        script = json.dumps({"steps": STEPS[self.kind], "step_s": 0.03, "checkpoint_every": 5})
        with suppress(StoreError):
            body = {"recipe": recipe, "name": "chaos", "recipe_text": script, **more}
            self.acknowledged[client.action("submit", **body)["run"]] = processes

    def top_up(self, client: Client) -> None:
        status = client.action("status")
        for _ in range(OPEN - len(status["running"]) - len(status["queued"])):
            self.submit(client)

    # ---- kills -----------------------------------------------------------------------------------

    def kill(self) -> None:
        weights = VICTIMS[self.kind]
        victim = self.rng.choices(list(weights), list(weights.values()))[0]
        if self.hit(victim):
            self.figures.kills[f"{victim} ({self.kind})"] += 1

    def hit(self, victim: str) -> bool:
        match victim:
            case "daemon":
                daemon = self.daemon()
                return daemon is not None and send(daemon, signal.SIGKILL)
            case "client":
                return self.kill_client()
            case "screen":
                return self.kill_screen()
            case "pool":
                return self.kill_any("engine.attempt.pool")
            case "rank":
                return self.kill_any("engine.attempt.ranks", "torch.distributed.run")
        pairs = [pair for run in self.going() if (pair := self.identities(run)) is not None]
        targets = [one for pair in pairs if (one := pair[victim == "worker"]) is not None and alive(one)]
        return bool(targets) and send(self.rng.choice(targets), signal.SIGKILL)

    def daemon(self) -> Identity | None:
        with suppress(StoreError):
            if said := service.status(self.home):
                return identify(said["pid"])
        return None

    def going(self) -> Iterator[RunDir]:
        for run in run_dirs(self.home):
            if journal.read(run).active:
                yield run

    def identities(self, run: RunDir) -> tuple[Identity | None, Identity | None] | None:
        attempts = run.attempts()
        with suppress(OSError, ValueError, IndexError):
            body = read_json(attempts[-1].process)
            return Identity.from_dict(body.get("shim")), Identity.from_dict(body.get("worker"))
        return None

    def kill_any(self, *words: str) -> bool:
        found = [one for one in ours(self.home) if any(word in " ".join(one.cmdline()) for word in words)]
        if not found:
            return False
        with suppress(psutil.NoSuchProcess):
            self.rng.choice(found).kill()
        return True

    def kill_client(self) -> bool:
        """A command that is killed on its way; what it was promised counts, what it had not sent does not."""
        words = self.rng.choice(
            (["ls"], ["show", "1"], ["requeue", "1"], ["sql", "SELECT count(*) FROM metrics"])
        )
        command = subprocess.Popen(
            [sys.executable, "-m", "finetui", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(self.rng.uniform(0.1, 1.0))
        command.kill()
        command.wait()
        return True

    def kill_screen(self) -> bool:
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(sys.executable, [sys.executable, "-m", "finetui"])
        time.sleep(self.rng.uniform(0.5, 2.0))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
        return True

    # ---- other faults ----------------------------------------------------------------------------

    def fault(self) -> None:
        """One of the things that befall a home beside kills."""
        kinds = ["clock jumps"] * bool(self.clock) + ["disk is full"] * bool(self.disk) + ["clients hang"]
        what = self.rng.choice(kinds)
        self.figures.faults[f"{what} ({self.kind})"] += 1
        if what == "clock jumps" and self.clock:
            self.clock.jump(self.rng)
        elif what == "disk is full" and self.disk:
            chaos_faults.fill(self.disk, self.rng.uniform(0.2, 3.0))
            self.full_at = time.monotonic()
        else:
            with self.back():
                chaos_faults.hang(self.home, self.rng, 1.5, self.ask)

    def ask(self) -> None:
        """How long the daemon takes to answer, if it does."""
        began = time.monotonic()
        with suppress(StoreError), connect(self.home) as client:
            client.action("status")
            self.figures.beside.append(time.monotonic() - began)

    # ---- what has to hold ------------------------------------------------------------------------

    def check(self, client: Client) -> None:
        expect = self.figures.expect
        there = {run.number: run for run in run_dirs(self.home)}
        for number in self.acknowledged:
            expect(number in there, f"{self.kind}: run #{number} was acknowledged and is gone")
        for number, run in there.items():
            expect(not (run.path / "TWO").exists(), f"{self.kind}: run #{number} had two workers at once")
        if time.monotonic() - self.full_at < AFTER_FULL_S:  # which is a problem, and told
            return
        for problem in client.action("status")["problems"]:
            expect("database for now" in problem, f"{self.kind}: {problem}")

    def back(self) -> Client:
        """A client of the daemon, which is started where there is none; how long that took."""
        began, had = time.monotonic(), self.daemon() is not None
        client = connect(self.home)
        client.action("status")
        if not had:
            self.figures.answers.append(time.monotonic() - began)
        return client

    def finish(self) -> None:
        """Let all runs end, as a user would who resumes what failed, and look at what is left."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with self.back() as client:
                states = {run.number: journal.read(run) for run in run_dirs(self.home)}
                for number, record in states.items():
                    if record.state in (RunState.FAILED, RunState.PAUSED, RunState.CANCELLED):
                        lost = any(word in (record.reason or "") for word in ("interrupted", "disk", "space"))
                        self.figures.expect(
                            lost, f"{self.kind}: run #{number} {record.state}: {record.reason}"
                        )
                        self.figures.resumed += 1
                        client.action("resume", run=number)
            if all(record.state == RunState.FINISHED for record in states.values()):
                break
            if time.monotonic() > deadline:
                open_runs = [
                    f"#{n} {one.state}" for n, one in states.items() if one.state != RunState.FINISHED
                ]
                self.figures.expect(False, f"{self.kind}: not over after {PATIENCE_S:g} s: {open_runs}")
                break
            time.sleep(0.5)
        self.figures.runs += len(states)
        with self.back() as client:
            client.drain()
            self.check(client)
            self.check_points(client)
        service.stop(self.home)
        self.check_rebuild()
        time.sleep(2.0)
        left = [one for one in ours(self.home) if "engine.attempt.pool" not in " ".join(one.cmdline())]
        self.figures.expect(not left, f"{self.kind}: left: {[' '.join(one.cmdline())[:90] for one in left]}")

    def check_points(self, client: Client) -> None:
        rows = client.query(
            "SELECT run, list(step ORDER BY step) AS steps FROM metrics WHERE key = 'train/loss' GROUP BY run"
        ).to_pylist()
        steps = {row["run"]: row["steps"] for row in rows}
        wanted = list(range(1, STEPS[self.kind] + 1))
        for number in self.acknowledged:
            found = steps.get(number)
            self.figures.points += len(found or ())
            self.figures.expect(found == wanted, f"{self.kind}: run #{number} has the steps {found}")

    def check_rebuild(self) -> None:
        """The store of the daemons that were killed, against one that reads all logs from their beginning."""
        new = self.home.path / "rebuilt.duckdb"
        kept, rebuilt = Projection(self.home.store), Projection(new)
        ingest = Ingest(rebuilt, self.home.path)
        while ingest.drain():
            pass
        before = tables(kept)
        for table, rows in tables(rebuilt).items():
            self.figures.expect(
                before[table] == rows, f"{self.kind}: the table {table} differs from one built anew"
            )
        kept.close(), rebuilt.close()
        new.unlink(missing_ok=True)


def storm(kind: str, kills: int, rng: random.Random, figures: Figures, path: Path) -> None:
    began = time.monotonic()
    with (
        mounted(path, chaos_faults.DISK_MIB) if kind == "real" else nullcontext() as disk,
        at_home(kind, path) as (home, clock),
    ):
        chaos = Chaos(kind, home, rng, figures, clock=clock, disk=disk)
        done = 0
        while done < kills:
            with chaos.back() as client, suppress(StoreError):
                chaos.top_up(client)
                chaos.check(client)
            time.sleep(rng.uniform(0.0, 0.8 if kind == "made up" else 2.0))
            if rng.random() < FAULTS:
                chaos.fault()
            before = sum(figures.kills.values())
            chaos.kill()
            done += sum(figures.kills.values()) - before
            if done % 50 == 0:
                print(
                    f"{kind}: {done} kills, {len(chaos.acknowledged)} runs, {time.monotonic() - began:.0f} s",
                    flush=True,
                )
        chaos.finish()
    figures.seconds += time.monotonic() - began


def crowd(count: int, figures: Figures, path: Path) -> list[float]:
    """Return how long a daemon takes to answer that is killed with so many runs in the queue, s."""
    with at_home("made up", path) as (home, _):
        chaos = Chaos("made up", home, random.Random(0), Figures())
        with connect(home) as client:
            for _ in range(count):
                chaos.submit(client, held=True)
        for _ in range(10):
            if daemon := chaos.daemon():
                send(daemon, signal.SIGKILL)
            while daemon and alive(daemon):
                time.sleep(0.01)
            with chaos.back() as client:
                waiting = len(client.action("status")["queued"])
                figures.expect(waiting == count, f"of {count} queued runs {waiting} are there")
        return chaos.figures.answers


def report(figures: Figures, crowded: list[float], queued: int) -> str:
    answers = sorted(figures.answers)
    late = sum(one > ANSWER_S for one in answers)
    rows = [f"| {name} | {count} |" for name, count in sorted(figures.kills.items())]
    others = [f"| {name} | {count} |" for name, count in sorted(figures.faults.items())]
    beside = sorted(figures.beside) or [0.0]
    worst, middle = (answers[-1], answers[len(answers) // 2]) if answers else (0.0, 0.0)
    usual = sorted(crowded)[len(crowded) // 2]
    told = [
        f"{figures.runs} runs, {figures.points:,} points, {figures.seconds:.0f} s. {figures.resumed} times a run",
        "that had lost its process three times in a row was resumed by hand. A daemon that was killed answered",
        f"again after {middle:.2f} s (median of {len(answers)}; longest {worst:.2f} s, {late} beyond {ANSWER_S:g} s);",
        f"with {queued:,} runs in the queue after {usual:.2f} s (longest {max(crowded):.2f} s). While 32 connections",
        f"and two large answers hung, a new client was answered after {beside[len(beside) // 2]:.2f} s (median of",
        f"{len(beside)}; longest {beside[-1]:.2f} s).",
    ]
    return "\n".join(
        [
            "| killed | times |",
            "|---|---|",
            *rows,
            f"| **all** | **{sum(figures.kills.values())}** |",
            *others,
            "",
            *told,
            "",
            f"**Broken: {len(figures.broken)}**" + "".join(f"\n- {one}" for one in figures.broken),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queued", type=int, default=1000)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args()
    rng, figures = random.Random(given.seed), Figures()
    place = Path(tempfile.mkdtemp(prefix="finetui-chaos-"))
    real = given.kills // 3
    storm("made up", given.kills - real, rng, figures, place / "a")
    storm("real", real, rng, figures, place / "b")
    crowded = crowd(given.queued, figures, place / "c")
    text = report(figures, crowded, given.queued)
    print(text)
    if given.docs:
        page = DOCS.read_text()
        before, after = page[: page.index(MARK) + len(MARK)], page[page.index(END, page.index(MARK)) :]
        DOCS.write_text(f"{before}\n{text}\n{after}")
    if not figures.broken:
        shutil.rmtree(place, ignore_errors=True)
    return bool(figures.broken)


if __name__ == "__main__":
    sys.exit(main())
