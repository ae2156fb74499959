"""`python -P -m finetui.start engine.attempt.shim RUN_DIR ATTEMPT`: stands between the daemon and one worker.

It starts the worker, waits, and writes exit.json, so that how a worker ended is known even if the daemon was
away. It outlives the daemon and the terminal. Light on purpose: there is one for each active run.

Never two workers in one run directory: the shim holds a lock on it for as long as it lives, and starts only
the attempt that the journal says is `starting`, and only if nobody started it before (the attempt's directory
is made, exclusively, under the lock). The daemon ends an attempt in the journal under the same lock. So a
shim that comes late, sent by a daemon that was killed meanwhile, finds that it is no longer wanted.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from engine.basics.process import Identity, identify
from engine.runs import disk, journal
from engine.runs.home import AttemptDir, RunDir
from finetui.files import write_json
from finetui.lock import Lock
from finetui.start import program
from store.states import RunState

LOCK_WAIT_S = 10.0
FULL_DISK_WAIT_S = 2.0
# Exit codes of the shim itself; the daemon tells the user its last line on stderr.
DONE, NOT_WANTED, BUSY, NO_ROOM = 0, 75, 76, 77
CANNOT_START_WORKER = 127


def main() -> int:
    run, number = RunDir(Path(sys.argv[1])), int(sys.argv[2])
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # it must be there to see how the worker ends
    lock = Lock(run.lock)
    if not lock.acquire(wait_s=LOCK_WAIT_S):
        print(f"another process has held {run.lock} for {LOCK_WAIT_S:g} s", file=sys.stderr)
        return BUSY
    record = journal.read(run)
    attempt = run.attempt(number)
    if record.state != RunState.STARTING or record.attempt != number or record.request is not None:
        print(f"attempt {number} is no longer wanted: {record}", file=sys.stderr)
        return NOT_WANTED
    try:
        attempt.path.parent.mkdir(exist_ok=True)
        attempt.path.mkdir()
        disk.reserve(attempt)
    except FileExistsError:
        print(f"attempt {number} was started before", file=sys.stderr)
        return NOT_WANTED
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.release(attempt)
        print(
            disk.FULL if disk.is_full(error) else f"{attempt.path} cannot be made: {error}", file=sys.stderr
        )
        return NO_ROOM
    started, shim = time.time(), identify(os.getpid())
    pid = os.fork()  # this process has one thread, so a fork is safe
    if pid == 0:
        become_worker(run, attempt, shim)
    write_exit(attempt, pid, started)
    return DONE


def become_worker(run: RunDir, attempt: AttemptDir, shim: Identity | None) -> NoReturn:
    """Write this child's identity to disk, then turn it into the worker.

    The identity is written before the worker begins (exec keeps pid and start time), so that no worker can
    live unknown, even if the shim is killed right here.
    """
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(attempt.stdout, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        worker = identify(os.getpid())
        write_json(attempt.process, {"shim": as_dict(shim), "worker": as_dict(worker)})
        directory = json.loads(run.meta.read_text()).get("cwd")
        os.chdir(directory if directory and Path(directory).is_dir() else run.path)
        module = os.environ.get("FINETUI_WORKER_MODULE", "engine.attempt.worker")
        command = program(module, str(run.path), str(attempt.number))
        os.execv(command[0], command)
    except BaseException as error:
        os.write(2, f"the worker cannot be started: {error}\n".encode())
    os._exit(CANNOT_START_WORKER)


def write_exit(attempt: AttemptDir, pid: int, started: float) -> None:
    """Wait for the worker to end, kill what is left of its process group, write exit.json."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    # The worker is not reaped yet, so the number of its group cannot have been given to another.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    disk.release(attempt)
    body = exit_body(status, usage, started)
    while True:
        try:
            return write_json(attempt.exit, body)
        except OSError as error:
            if not disk.is_full(error):
                raise
        time.sleep(FULL_DISK_WAIT_S)  # the run cannot be resumed before there is free space


def exit_body(status: int, usage: resource.struct_rusage, started: float) -> dict[str, int | float | None]:
    """Return `{"exit_code", "signal", "started", "ended", "peak_rss_mb"}`; one of the first two is null."""
    code = os.waitstatus_to_exitcode(status)
    return {
        "exit_code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "started": started,
        "ended": time.time(),
        "peak_rss_mb": round(usage.ru_maxrss / 1024, 1),  # Linux counts it in KiB
    }


def as_dict(identity: Identity | None) -> dict[str, object] | None:
    return identity.to_dict() if identity else None


if __name__ == "__main__":
    sys.exit(main())
