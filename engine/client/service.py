"""Commands about the daemon as a whole: does it run, its status, stop it."""

from __future__ import annotations

import time
from typing import Any

from engine.basics.process import alive, identify
from finetui.daemon import answering, code_version
from finetui.errors import StoreError
from finetui.home import Home
from finetui.home import home as default_home

STOP_S = 30.0


def running(home: Home | None = None) -> bool:
    """Return whether a daemon answers; none is started."""
    client = answering(home or default_home())
    if client is None:
        return False
    client.close()
    return True


def status(home: Home | None = None) -> dict[str, Any] | None:
    """Return the daemon's status; None if none answers. `client_version`: the version of this process's code."""
    client = answering(home or default_home())
    if client is None:
        return None
    with client:
        reply = client.action("status")
    return {**reply, "client_version": code_version(), "same_version": reply.get("version") == code_version()}


def stop(home: Home | None = None) -> bool:
    """Stop the daemon and wait until it has ended; active runs go on. False if none answers. Raises StoreError."""
    client = answering(home or default_home())
    if client is None:
        return False
    with client:
        daemon = identify(client.action("stop")["pid"])
    deadline = time.monotonic() + STOP_S
    while alive(daemon):
        if time.monotonic() > deadline:
            pid = daemon.pid if daemon else "?"
            raise StoreError(
                f"the daemon (process {pid}) has not stopped in {STOP_S:g} s; see daemon.log", "home"
            )
        time.sleep(0.02)
    return True
