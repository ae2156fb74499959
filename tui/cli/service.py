"""`finetui daemon …`."""

from __future__ import annotations

import sys

from engine.client import service
from finetui.daemon import connect
from finetui.errors import ExitCode
from finetui.home import home
from tui.cli.output import duration, print_json, say


def start() -> None:
    with connect(home()) as client:
        say(f"the daemon is running, pid {client.action('status')['pid']}")


def stop() -> None:
    say("the daemon has stopped; runs continue" if service.stop(home()) else "no daemon is running")


def status(*, as_json: bool) -> None:
    """Exit code 1 when no daemon runs, so that scripts can ask."""
    found = service.status(home())
    if as_json:
        print_json(found or {"running": False})
    elif found is None:
        print(f"no daemon is running for {home().path}; any command starts one")
    else:
        running = ", ".join(f"#{number}" for number in found["running"]) or "nothing"
        print(f"pid {found['pid']}, up {duration(found['uptime_s'])}, home {found['home']}")
        print(f"running {running}; {len(found['queued'])} waiting; {found['concurrency']} at a time")
        for problem in found.get("problems", []):
            print(f"problem: {problem}")
    if found is None:
        sys.exit(ExitCode.FAILED)
