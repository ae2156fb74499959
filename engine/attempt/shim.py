"""`python -P -m finetui.start engine.attempt.shim RUN_DIR ATTEMPT`: stands between the daemon and one worker.

It starts the worker, waits, and writes exit.json, so that how a worker ended is known even if the daemon was
away. It outlives the daemon and the terminal. Light on purpose: there is one for each active run.

Never two workers in one run directory: the shim holds a lock on it for as long as it lives, and starts only
the attempt that the journal says is `starting`, and only if nobody started it before (the attempt's directory
is made, exclusively, under the lock). The daemon ends an attempt in the journal under the same lock. So a
shim that comes late, sent by a daemon that was killed meanwhile, finds that it is no longer wanted.

A worker whose run directory is deleted, renamed or moved is killed: nothing that it does could be found any more, and
the next run gets its device.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from engine.attempt import fork
from engine.basics.process import Identity, adopt_orphans, has_ended, identify, kill_descendants
from engine.recipe.kinds import is_command
from engine.runs import disk, journal
from engine.runs.home import AttemptDir, RunDir
from finetui.files import append_regular, read_json, write_json
from finetui.lock import Lock
from finetui.start import program
from store import memory_limit
from store.states import RunState

WORKER, COMMAND_WORKER = "engine.attempt.worker", "engine.attempt.command"
LOCK_WAIT_S = 10.0
FULL_DISK_WAIT_S = 2.0
DIRECTORY_LOOK_S = 2.0  # between looks at the attempt's directory; two in a row must miss it
# Exit codes of the shim itself; the daemon tells the user its last line on stderr.
DONE, NOT_WANTED, BUSY, NO_ROOM = 0, 75, 76, 77
CANNOT_START_WORKER = 127


def main() -> int:
    run, number = RunDir(Path(sys.argv[1])), int(sys.argv[2])
    os.umask(0o077)  # whatever it and the worker write is its owner's alone
    memory_limit.lift()  # the daemon's own
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
    adopt_orphans()
    started, shim = time.time(), identify(os.getpid())
    directory = attempt.path.stat()
    pid = os.fork()  # this process has one thread, so a fork is safe
    if pid == 0:
        become_worker(run, attempt, shim, lock)
    if not watch(attempt, directory, pid):
        print(f"{attempt.path} is gone; its worker was killed", file=sys.stderr)
    write_exit(attempt, pid, started)
    return DONE


def become_worker(run: RunDir, attempt: AttemptDir, shim: Identity | None, lock: Lock) -> NoReturn:
    """Write this child's identity to disk, then turn it into the worker: by exec, or at once in a fork of the pool.

    The identity is written before the worker begins (exec keeps pid and start time), so that no worker can
    live unknown, even if the shim is killed right here.
    """
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_DFL)
        fork.redirect(os.open(os.devnull, os.O_RDONLY), 0)
        fork.redirect(append_regular(attempt.stdout), 1, 2)
        worker = identify(os.getpid())
        write_json(attempt.process, {"shim": as_dict(shim), "worker": as_dict(worker)})
        meta = submitted(run)
        own = is_command(meta.get("recipe"))
        directory = working_directory(run, meta)
        if own and directory == run.path:
            raise ValueError(f"the folder that it was queued in is gone: {meta.get('cwd')}")
        os.chdir(directory)
        module = os.environ.get("FINETUI_WORKER_MODULE", COMMAND_WORKER if own else WORKER)
        if not fork.forked or module != WORKER:
            command = program(module, str(run.path), str(attempt.number))
            os.execv(command[0], command)
        lock.release()  # in this process alone; exec would have done it
        fork.reset_signals()
    except BaseException as error:
        os.write(2, f"the worker cannot be started: {error}\n".encode())
        os._exit(CANNOT_START_WORKER)
    fork.run(module, str(run.path), str(attempt.number))


def submitted(run: RunDir) -> dict[str, object]:
    """Return `run.json`. Raises OSError, and ValueError with a sentence."""
    try:
        return read_json(run.meta)
    except ValueError as error:
        raise ValueError(f"{run.meta} is damaged: {error}") from None


def working_directory(run: RunDir, meta: dict[str, object]) -> Path:
    """Return where the run was submitted, if that is still there."""
    directory = meta.get("cwd")
    return Path(directory) if isinstance(directory, str) and Path(directory).is_dir() else run.path


def watch(attempt: AttemptDir, directory: os.stat_result, pid: int) -> bool:
    """Return True once the worker has ended; False when its directory is gone, with the worker killed."""
    misses = 0
    while misses < 2:
        if has_ended(pid, DIRECTORY_LOOK_S):
            return True
        misses = misses + 1 if is_gone(attempt.path, directory) else 0
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    return False


def is_gone(path: Path, before: os.stat_result) -> bool:
    """Whether another directory, or none, is there now. A file system that does not answer is no reason."""
    try:
        return not os.path.samestat(path.stat(), before)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def write_exit(attempt: AttemptDir, pid: int, started: float) -> None:
    """Wait for the worker to end, kill what is left of all that it started, write exit.json."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    # The worker is not reaped yet, so the number of its group cannot have been given to another.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    kill_descendants(os.getpid(), but=pid)
    _, status, usage = os.wait4(pid, 0)
    disk.release(attempt)
    body = exit_body(status, usage, started)
    while True:
        try:
            return write_json(attempt.exit, body)
        except FileNotFoundError:  # the run's directory is gone: there is nobody to tell
            return None
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
