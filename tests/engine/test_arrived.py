"""What runs are here whose end no daemon recorded in the home that they come from: imported, and pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import finetui
from benchmarks.fuzz import make_run
from engine.importing.homes import take_in_home
from engine.importing.take_in import Outcome
from engine.queue import mirror, mirror_pull
from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.files import read_json, write_json
from finetui.home import Home
from finetui.log import LogWriter
from store.journal_lines import Conditions, Ended, Interrupted
from store.states import RunState

BEGIN = "import os, finetui\nrun = finetui.init('own')\nrun.log({'loss': 1.0})\n"
LIKE_A_KILL = "os._exit(9)"
TakeIn = Callable[[], list[RunDir]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return created(tmp_path / "home")


@pytest.fixture
def other(tmp_path: Path) -> Home:
    return created(tmp_path / "other")


def created(path: Path) -> Home:
    home = Home(path)
    home.create()
    return home


def imports(home: Home, other: Home) -> list[Outcome]:
    return list(take_in_home(home, other, dry=False))


@pytest.fixture(params=["import", "pull"])
def take_in(request: pytest.FixtureRequest, home: Home, other: Home) -> TakeIn:
    """The two ways in which runs come; each returns the runs that are here then."""

    def come() -> list[RunDir]:
        if request.param == "import":
            imports(home, other)
        else:
            fetched = Path(shutil.copytree(other.runs, home.path / mirror_pull.PULLING))
            mirror.own_identity(other)
            shutil.copy(other.path / mirror.IDENTITY, fetched)
            list(mirror_pull.take_in(home, fetched))
        return run_dirs(home)

    return come


def log_in(other: Home, code: str) -> RunDir:
    """What a program of its own leaves that logs a run where no daemon is."""
    environment = {**os.environ, "FINETUI_HOME": str(other.path), "FINETUI_DAEMON": "off"}
    subprocess.run([sys.executable, "-c", BEGIN + code], env=environment, check=False)
    return run_dirs(other)[-1]


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("run.finish()", "finished", None),
        ("raise ValueError('no luck')", "failed", "ValueError: no luck"),
        (LIKE_A_KILL, "failed", "its program is gone without a word: killed, or ended at once"),
    ],
)
def test_a_logged_run_ended_as_its_log_says(
    take_in: TakeIn, other: Home, code: str, state: str, reason: str | None
) -> None:
    log_in(other, code)
    (run,) = take_in()
    record = journal.read(run)
    assert (record.state, record.reason) == (state, reason)


def test_an_import_says_what_a_run_is_here(home: Home, other: Home) -> None:
    log_in(other, "run.finish()")
    (dry,) = take_in_home(home, other, dry=True)
    (outcome,) = imports(home, other)
    assert (dry.state, outcome.state) == ("finished", "finished")


def test_a_logged_run_is_not_imported_while_its_program_logs_it(home: Home, other: Home) -> None:
    run = finetui.init("mine", home=other.path, daemon=False)
    (outcome,) = imports(home, other)
    assert outcome.why == f"{run.path}: it is running there; import it when it has ended"
    run.finish()
    (outcome,) = imports(home, other)
    assert (outcome.what, outcome.state) == ("new", "finished"), "though the program goes on"


def test_a_logged_run_of_another_machine_may_go_on_there(take_in: TakeIn, other: Home) -> None:
    late, silent = log_in(other, LIKE_A_KILL), log_in(other, LIKE_A_KILL)
    for run in (late, silent):
        write_json(run.meta, {**read_json(run.meta), "host": "box"})
    os.utime(silent.attempt(1).events, (0.0, 0.0))
    first, second = map(journal.read, take_in())
    assert (first.state, second.state) == ("cancelled", "failed")
    assert str(first.reason).endswith("its program was killed, or goes on on box")
    assert second.reason == "its program was on box, and has logged nothing for a day"


@pytest.mark.parametrize(
    ("kind", "left", "state"),
    [
        ("finished", ("end", "exit"), "finished"),
        ("finished", ("exit",), "finished"),
        ("failed", ("end",), "failed"),
        ("resumed", ("end", "exit"), "finished"),
        ("resumed", (), "paused"),
    ],
)
def test_a_run_of_ours_ended_as_its_worker_says(
    take_in: TakeIn, other: Home, kind: str, left: Sequence[str], state: str
) -> None:
    there = make_run(other, 1, kind)
    attempt = there.attempts()[-1]
    drop_last_line(there.journal)
    if "end" not in left:
        drop_last_line(attempt.events)
    if "exit" not in left:
        attempt.exit.unlink()
    (run,) = take_in()
    record = journal.read(run)
    assert (record.state, record.attempt) == (state, attempt.number)
    assert (state == "paused") == ("finetui resume 1 goes on" in str(record.reason))


def test_a_run_that_waits_and_had_finished_is_finished(take_in: TakeIn, other: Home) -> None:
    there = make_run(other, 1, "finished")
    journal.append(there, journal.read(there), lost())
    (run,) = take_in()
    assert journal.read(run).state == "finished"


def test_what_was_lost_is_not_counted_again(take_in: TakeIn, other: Home) -> None:
    """A third time, and the run would have failed."""
    there = make_run(other, 1, "lost")
    journal.append(there, journal.read(there), lost())
    (run,) = take_in()
    assert journal.read(run).state == "paused"


def test_a_run_that_waited_for_another_waits_for_none_of_this_home(
    take_in: TakeIn, home: Home, other: Home
) -> None:
    make_run(home, 7, "failed")
    there = make_run(other, 1, "queued")
    journal.append(there, journal.read(there), Conditions(held=False, after=[7]))
    (run,) = (run for run in take_in() if run.number != 7)
    record = journal.read(run)
    assert (record.state, record.after) == ("paused", ())


@pytest.mark.parametrize("recorded", [True, False])
def test_what_a_paused_run_advises_is_for_the_number_that_it_has_here(
    take_in: TakeIn, home: Home, other: Home, recorded: bool
) -> None:
    make_run(home, 2, "finished")
    there = make_run(other, 2, "lost")
    full = "the disk is full: make room, then finetui resume 2"
    if recorded:
        journal.append(there, journal.read(there), Ended(RunState.PAUSED, 1, reason=full))
    else:
        log = LogWriter(there.attempt(1).events, "worker", there.number, 1)
        log.write("end", status="paused", step=1, reason=full)
        log.close()
    run = take_in()[-1]
    assert (run.number, journal.read(run).state) == (3, "paused")
    assert journal.read(run).reason == "the disk is full: make room, then finetui resume 3"


def lost() -> Interrupted:
    return Interrupted(1, None, 9, -1, 2, RunState.INTERRUPTED, "killed")


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
