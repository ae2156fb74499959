"""Lives one run's life under a supervisor that is SIGKILLed before every entry, rename and exec; after
each, a second supervisor takes over. With the argument `pool`, shims are forked by the pool, and every word between it
and the supervisor is a point, too. Prints one JSON line a point. Run by test_daemon_kill.py.

Forks for speed, which is safe here: this process has no threads.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervision import kill_everything, submission

from engine.basics import pool
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import journal
from engine.runs.home import run_dirs
from finetui.home import Home
from finetui.log import LogWriter

DEADLINE_S = 60.0


def main() -> None:
    root = Path(sys.argv[1])
    for point in itertools.count(1):
        home = Home(root / str(point))
        home.create()
        crashed = in_child(lambda home=home, point=point: live(home, crash_at=point))
        recovered = not in_child(lambda home=home: live(home, crash_at=0))
        print(
            json.dumps({"point": point, "crashed": crashed, "recovered": recovered, **outcome(home)}),
            flush=True,
        )
        kill_everything(home)
        if not crashed:
            return


def in_child(work: Callable[[], None]) -> bool:
    """Run it in a child; whether the child was SIGKILLed. Any other failure ends this program."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a supervisor ended with {code}")
    return code != 0


def live(home: Home, crash_at: int) -> None:
    """Submit one run if there is none, and look after it until it ends."""
    count = itertools.count(1)

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(count) == crash_at:
                (home.path / "crashed_before").write_text(name)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    LogWriter.write = counted("entry", LogWriter.write)  # type: ignore[method-assign]
    Path.rename = counted("rename", Path.rename)  # type: ignore[method-assign]
    Path.replace = counted("replace", Path.replace)  # type: ignore[method-assign]
    subprocess.Popen.__init__ = counted("exec", subprocess.Popen.__init__)  # type: ignore[method-assign]
    for word in ("connect", "send", "receive"):
        setattr(pool, word, counted(word, getattr(pool, word)))
    settings = Settings(Capacity(1), threads=1, grace_s=5.0, pool="pool" in sys.argv)
    queue = Supervisor(home, settings, on_change=lambda run: None)
    queue.recover()
    if not run_dirs(home):
        queue.submit(submission(steps=15, step_s=0.005, checkpoint_every=3))
    deadline = time.monotonic() + DEADLINE_S
    while any(queue.counts().values()):
        queue.tick()
        assert not queue.problems, queue.problems
        assert time.monotonic() < deadline, queue.counts()
        time.sleep(0.02)


def outcome(home: Home) -> dict[str, Any]:
    run = run_dirs(home)[0]
    steps = [entry["step"] for entry in entries(run.path) if entry["kind"] == "checkpoint"]
    before = home.path / "crashed_before"
    return {
        "before": before.read_text() if before.exists() else None,
        "runs": [found.number for found in run_dirs(home)],
        "state": journal.read(run).state,
        "starts": [int(line.split()[0]) for line in (run.path / "starts.txt").read_text().splitlines()],
        "two": (run.path / "TWO").exists(),
        "checkpoints": steps,
    }


def entries(run: Path) -> list[dict[str, Any]]:
    logs = sorted(run.glob("attempts/*/events.jsonl"), key=lambda path: int(path.parent.name))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


if __name__ == "__main__":
    main()
