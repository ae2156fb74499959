"""The ranks of an attempt as forks that have the imports done, where `ranks.launch` has torchrun start two programs.

What is left of `launch` and torchrun: their environment, SIGTERM passed on, SIGTERM to all others once one is gone. The
ranks, their log and how the attempt ends are the real ones.
"""

from __future__ import annotations

import os
import signal
import socket

from workers import Call, keep_output, limit_file_size

from engine.attempt import ranks
from engine.runs.home import RunDir
from store.states import WorkerExit

PROCESSES = 2


def start_forked(run: RunDir, attempt: int = 1, file_size_limit: int | None = None) -> Call:
    """As `workers.start`."""
    run.attempt(attempt).path.mkdir(parents=True, exist_ok=True)
    return Call(_launch, run, attempt, file_size_limit)


def _launch(run: RunDir, attempt: int, file_size_limit: int | None) -> None:
    keep_output(run, attempt)
    limit_file_size(file_size_limit)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), ranks.RANKS: str(PROCESSES)}
    os.environ |= {"WORLD_SIZE": str(PROCESSES), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    os.environ[ranks.LAUNCHER] = str(os.getpid())
    alive = {_fork(run, attempt, rank) for rank in range(PROCESSES)}

    def ask_to_stop(*_: object) -> None:
        for pid in alive:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, ask_to_stop)
    while alive:
        pid, status = os.wait()
        alive.discard(pid)
        if status:
            ask_to_stop()
    os._exit(ranks.report_end(run, run.attempt(attempt), PROCESSES))


def _fork(run: RunDir, attempt: int, rank: int) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        from engine.attempt.worker import main

        code = main(str(run.path), attempt)
        code = WorkerExit.FINISHED if code == WorkerExit.CANCELLED else code
    finally:
        os._exit(code)
