"""`finetui import`: what is said, with which exit code, and what cannot be done with a run of another tool."""

from __future__ import annotations

import json
from pathlib import Path

from live import Line, Live
from supervision import until
from tracked import TRACKIO, run_program
from with_daemon import row

from finetui.errors import ExitCode

REFUSED = ("resume", "requeue", "clone", "fix", "export")


def test_runs_are_imported_beside_the_daemon_and_are_like_others(live: Live, finetui: Line) -> None:
    runs = sorted(live.home.runs.iterdir())
    tracked = Path("tracked").absolute()
    run_program("trackio_runs.py", tracked.parent, TRACKIO_DIR=str(tracked), PYTHONPATH=str(TRACKIO))
    dry = finetui("import", "tracked", "--dry-run")
    assert dry.code == ExitCode.OK
    assert dry.out.splitlines()[0] == "first: finished, 3 metrics to step 20 (trackio)"
    assert "2 runs would be imported" in dry.err
    assert sorted(live.home.runs.iterdir()) == runs, "nothing was written"

    outcomes = json.loads(finetui("import", "tracked", "--json").out)["runs"]
    assert [one["outcome"] for one in outcomes] == ["new", "new"]
    number = outcomes[0]["run"]
    assert row(live.client, number)["state"] == "finished"
    shown = finetui("show", number).out
    assert f"imported from trackio: {live.folder}/tracked/tiny.db#" in shown
    assert "None" not in shown
    assert str(number) in finetui("ls").out
    assert "peft.r" in finetui("compare", number, live.finished).out
    again = finetui("import", "tracked")
    assert (again.code, again.out) == (ExitCode.OK, "")
    assert "0 runs imported, 2 here already" in again.err

    until("the daemon knows it", lambda: "no run" not in finetui("requeue", number).err)
    for command in REFUSED:
        words = ("lr=1",) if command == "clone" else ()
        ended = finetui(command, number, *words)
        assert ended.code == ExitCode.REFUSED
        if command != "resume":  # it is finished, and that is said first
            assert f"run #{number} was imported from trackio and cannot be" in ended.err
    number_of_ours = int(finetui("run", live.recipe(), "--hold").out)
    assert number_of_ours > outcomes[1]["run"], "the daemon gives none of the numbers again"
    finetui("cancel", number_of_ours)


def test_what_cannot_be_imported_is_said(live: Live, finetui: Line) -> None:
    Path("empty").mkdir()
    nothing = finetui("import", "empty")
    assert nothing.code == ExitCode.BAD_INPUT
    assert "nothing that can be imported is in empty" in nothing.err
    assert finetui("import", "nowhere").code == ExitCode.BAD_INPUT
    unknown = finetui("import", "empty", "--from", "excel")
    assert unknown.code == ExitCode.USAGE
    assert "excel is none of tensorboard, wandb, trackio" in unknown.err
    Path("empty/checkpoint-5").mkdir()
    Path("empty/checkpoint-5/trainer_state.json").write_text("{")
    broken = finetui("import", "empty")
    assert broken.code == ExitCode.FAILED, "the command worked, and one run could not be imported"
    assert "checkpoint-5/trainer_state.json" in broken.err
    assert "Traceback" not in broken.err
    own = finetui("import", live.home.path)
    assert own.code == ExitCode.BAD_INPUT
    assert "is this home itself" in own.err
