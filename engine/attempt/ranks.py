"""Run one attempt in several processes: torchrun is a child of the attempt's own process, which reports for them all.

The daemon knows one process, as always; it asks that one to stop and waits for it. Each rank writes to
`rank-K.json` how it ended, and `end` is written here, once. No rank outlives this process: each is killed with
its parent (PR_SET_PDEATHSIG). Torch-free.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from engine.basics.cpu import THREAD_VARIABLES
from engine.basics.process import die_with_parent
from engine.runs.home import AttemptDir, RunDir
from engine.runs.rank_log import LOST, RankLog, outcome_file
from finetui.log import LogWriter
from finetui.start import program
from store.line_fields import BadLine, read, write
from store.lines import End
from store.states import RunState, WorkerExit

RANKS = "FINETUI_RANKS"  # how many processes; set for them only
LAUNCHER = "FINETUI_LAUNCHER"  # the attempt's own process; set for them only


def launch(run: RunDir, attempt: AttemptDir, processes: int) -> int:
    """Run the attempt in `processes` processes; return its exit code. torchrun's own output is in `torchrun.log`."""
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "--no-python"]
    command += program("engine.attempt.worker", str(run.path), str(attempt.number))
    started: list[subprocess.Popen[bytes]] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda *_: _ask_to_stop(started))
    with (attempt.path / "torchrun.log").open("ab") as log:
        environment = _environment(processes)
        started.append(subprocess.Popen(command, stderr=log, env=environment, preexec_fn=die_with_parent))
    started[0].wait()
    signal.alarm(0)
    return report_end(run, attempt, processes)


def open_log(run: RunDir, attempt: AttemptDir) -> LogWriter | RankLog:
    """Open the log of this process: the attempt's, or a rank's; a rank other than the first prints nothing."""
    if RANKS not in os.environ:
        return LogWriter(attempt.events, "worker", run.number, attempt.number)
    die_with_parent()
    if _is_orphan():
        print("the process that this rank belongs to has ended", flush=True)
        os._exit(1)
    rank = int(os.environ["RANK"])
    if rank > 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return RankLog(run, attempt, rank)


def _is_orphan() -> bool:
    """Whether torchrun, or the attempt's own process above it, is gone already: a rank needs a second to get here."""
    launcher, parent = int(os.environ[LAUNCHER]), os.getppid()
    try:
        return launcher not in (parent, psutil.Process(parent).ppid())
    except psutil.NoSuchProcess:
        return True


def _environment(processes: int) -> dict[str, str]:
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    share = str(max(1, threads // processes))
    ranks = {RANKS: str(processes), LAUNCHER: str(os.getpid())}
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, share), **ranks}


def _ask_to_stop(started: list[subprocess.Popen[bytes]]) -> None:
    """Send SIGTERM to the ranks, not to torchrun, which would kill them half a minute later. Repeat until they end."""
    with suppress(psutil.NoSuchProcess):
        for rank in (rank for torchrun in started for rank in psutil.Process(torchrun.pid).children()):
            if _listens(rank.pid):
                rank.terminate()
    signal.alarm(1)


def _listens(pid: int) -> bool:
    """Whether a process already catches SIGTERM, which would kill it before that."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def report_end(run: RunDir, attempt: AttemptDir, processes: int) -> int:
    """Log once how the attempt ended; return the exit code. If a rank was killed, the attempt ends as killed too."""
    by_rank = [_read(outcome_file(attempt, rank)) for rank in range(processes)]
    outcomes = [outcome for outcome in by_rank if outcome]
    failed = [(t, end) for t, end in outcomes if end.status in (RunState.FAILED, RunState.PAUSED)]
    if failed:
        _, end = min(failed, key=lambda outcome: outcome[0])  # the errors of the others follow from it
    elif len(outcomes) == processes and all(end.status != LOST for _, end in outcomes):
        _, end = outcomes[0]
    else:
        print(f"a process of {processes} was lost; {attempt.path / 'torchrun.log'} may tell why", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)  # as a single worker would have ended: to be resumed
        raise AssertionError
    if failed:
        print(f"{end.status} at step {end.step}: {end.error or end.reason}", flush=True)
    log = LogWriter(attempt.events, "worker", run.number, attempt.number)
    write(log, end, sync=True)
    log.close()
    return WorkerExit.of(str(end.status))


def _read(path: Path) -> tuple[float, End] | None:
    """Read when a rank ended, Unix seconds, and how; None where it wrote nothing."""
    try:
        body = json.loads(path.read_text())
        return body["t"], read(End, body)
    except (OSError, ValueError, BadLine):
        return None
