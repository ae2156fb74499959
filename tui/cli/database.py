"""`finetui store check|rebuild|compact|backup`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from engine.basics.wording import duration
from engine.client import backups
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError
from finetui.home import home
from finetui.start import program
from tui.cli.asking import confirm
from tui.cli.output import out, print_json, say, waiting

MB = 1_000_000
TELL_S = 1.0  # between looks at a compaction that goes on
SHOWN = 20  # runs that differ, for people


def check(*, as_json: bool) -> None:
    """Exit code 1 if a run differs. Raises StoreError."""
    found = _checked()
    differ = {int(run): words for run, words in found["differ"].items()}
    if as_json:
        rows = [{"run": run, "difference": words} for run, words in differ.items()]
        print_json({**found, "differ": rows})
    else:
        if found["same"]:
            out(f"{_runs(found['same'])} {'is as its' if found['same'] == 1 else 'are as their'} logs say")
        for run, words in list(differ.items())[:SHOWN]:
            out(f"run #{run} differs: {words}")
        if len(differ) > SHOWN:
            out(f"and {len(differ) - SHOWN:,} more; --json has them all")
        if found["going_on"]:
            out(f"not compared, since they go on: {_numbers(found['going_on'])}")
        if found["gone"]:
            out(f"kept, though their directories are gone: {_numbers(found['gone'])}")
        if not found["runs"]:
            out("there are no runs")
        if differ:
            say("finetui store rebuild makes the database again from the logs")
    if differ:
        sys.exit(ExitCode.FAILED)


def _checked() -> dict[str, Any]:
    """What store/check.py finds, in a process of its own: it reads all logs, and needs the database's library."""
    place = home()
    connect(place).close()  # starts the daemon, or says why there is none
    place.cache.mkdir(mode=0o700, exist_ok=True)
    tell = waiting()
    with (
        tempfile.TemporaryDirectory(prefix="check-", dir=place.cache) as folder,
        subprocess.Popen(
            program("store.check", str(place.path), folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                said = json.loads(line)
                tell(said.get("doing", ""))
                if "result" in said:
                    return dict(said["result"])
                if "error" in said:
                    raise StoreError(said["error"], said["kind"])
        finally:
            child.terminate()
    raise StoreError(f"the check has ended early, with code {child.returncode}")


def rebuild(*, yes: bool, as_json: bool) -> None:
    """Raises StoreError."""
    with connect() as client:
        runs = client.query("SELECT count(*) AS n FROM runs").to_pylist()[0]["n"]
        question = (
            f"make the database again from the logs of {_runs(runs)}? Until they are read, tables have a part"
        )
        confirm(question, yes=yes, as_json=as_json)
        started = time.monotonic()
        client.action("rebuild")
        client.drain(waiting())
        runs = client.query("SELECT count(*) AS n FROM runs").to_pylist()[0]["n"]
    took = time.monotonic() - started
    if as_json:
        print_json({"runs": runs, "seconds": round(took, 3)})
        return
    say(
        f"the database is made again from the logs of {_runs(runs)}, in {duration(took)}; the old file is beside it"
    )


def compact(*, as_json: bool) -> None:
    """Raises StoreError."""
    tell, waited = waiting(), False
    with connect() as client:
        while "before" not in (reply := client.action("compact", wait_s=TELL_S)):
            tell("the database is written anew; it is read meanwhile, new points come afterwards")
            waited = True
    if waited:
        tell("")
    if as_json:
        print_json(reply)
        return
    say(f"{reply['before'] / MB:,.1f} MB before, {reply['after'] / MB:,.1f} MB now")


def backup(path: Path, *, as_json: bool) -> None:
    """Raises StoreError."""
    with connect() as client:
        problems = client.drain(waiting())
    made = backups.write(home(), path.expanduser().absolute(), waiting())
    if as_json:
        print_json({"path": str(made.path), "runs": made.runs, "files": made.files, "bytes": made.bytes})
    else:
        say(f"{_runs(made.runs)} in {made.path}, {made.bytes / MB:,.1f} MB, without weights and checkpoints")
        say("unpack it with tar in an empty home whose daemon runs: what had not ended is paused there")
    for problem in problems:
        say(problem)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _numbers(runs: list[int]) -> str:
    named = ", ".join(f"#{run}" for run in runs[:SHOWN])
    return named if len(runs) <= SHOWN else f"{named} and {len(runs) - SHOWN:,} more"
