"""`finetui daemon …`."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, NoReturn

from engine.basics.wording import duration
from engine.client import service, start_hook
from engine.queue import config
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError
from finetui.home import home
from tui.cli.output import out, print_json, say
from tui.cli.shape import of_run


def explain(trouble: str) -> NoReturn:
    """Why the screen had nothing to show, once more where it can be read and copied, with the exit code of other
    commands. Raises ConfigError or StoreError.
    """
    config.read(home().config)
    raise StoreError(trouble, "home")


def start(*, as_json: bool) -> None:
    with connect(home()) as client:
        say(f"the daemon is running, pid {client.action('status')['pid']}")
    if as_json:
        print_json(_status())


def stop(*, as_json: bool) -> None:
    stopped = service.stop(home())
    say("the daemon has stopped; runs continue" if stopped else "no daemon is running")
    if as_json:
        print_json({"stopped": stopped})


def install(*, remove: bool, as_json: bool) -> None:
    """Start the daemon with the machine, or no longer. Raises QueueError where systemd refuses."""
    if remove:
        gone = start_hook.remove(home(), os.environ)
        say(
            f"{gone} is removed; the daemon goes on" if gone else "nothing starts the daemon with the machine"
        )
        if as_json:
            print_json({"removed": gone})
        return
    hook = start_hook.install(home(), os.environ)
    for sentence in hook.sentences:
        say(sentence)
    if as_json:
        print_json({"unit": hook.unit, "line": hook.line})
    elif hook.unit is None:
        out(hook.line)


def pool_words(pool: dict[str, Any]) -> str:
    """Return what there is to say of the pool that workers are forked from, as the daemon's status has it."""
    if not pool["on"]:
        state = "off, every run imports by itself"
    elif pool["pid"] is None:
        state = "none now, the next run starts one"
    else:
        runs = "run" if pool["forks"] == 1 else "runs"
        state = f"process {pool['pid']}, {pool['memory_mb'] or 0:,.0f} MB, {pool['forks']} {runs} forked"
    return f"{state} ({pool['problem']})" if pool["problem"] else state


def agents_words(agents: dict[str, Any]) -> str:
    """Return what assistants may do and what is left of their day, as the daemon's status has it."""
    left = f"{agents['runs_left']} of {agents['runs_per_day']} runs and {agents['hours_left']:g} of"
    return f"{', '.join(agents['may'])}; {left} {agents['hours_per_day']:g} hours left of the day"


def _status() -> dict[str, Any] | None:
    found = service.status(home())
    return found and of_run(found)


def status(*, as_json: bool) -> None:
    """Exit code 1 when no daemon runs, so that scripts can ask. Raises ConfigError where none could be started."""
    found = _status()
    if found is None:
        config.read(home().config)
    if as_json:
        print_json(found or {"running": False})
    elif found is None:
        out(f"no daemon is running for {home().path}; any command starts one")
    else:
        running = ", ".join(f"#{number}" for number in found["running"]) or "nothing"
        out(f"pid {found['pid']}, up {duration(found['uptime_s'])}, home {found['home']}")
        out(f"running {running}; {len(found['queued'])} waiting; {found['concurrency']} at a time")
        if "spent" in found:
            of = f" of {found['budget']:g}" if found["budget"] is not None else ""
            out(f"spent {found['spent']:.2f}{of}")
        if (agents := found.get("agents")) and agents["may"]:
            out(f"assistants may {agents_words(agents)}")
        if done := found.get("mirrored"):
            out(f"mirrored {duration(time.time() - done)} ago")
        if pool := found.get("pool"):
            out(f"pool: {pool_words(pool)}")
        if found.get("reading"):
            out(found["reading"])
        for kind in ("problem", "note"):
            for sentence in found.get(f"{kind}s", []):
                out(f"{kind}: {sentence}")
    if found is None:
        sys.exit(ExitCode.FAILED)
