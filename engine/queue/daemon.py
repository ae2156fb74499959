"""`python -P -m finetui.start engine.queue.daemon`: the one process that owns a home: queue, database, socket.

It starts by itself with the first command and outlives the terminal. It may be killed at any moment: all its
state is in the run directories, the runs go on, and the next daemon finds them. It never imports torch and
never forks; processes are started by exec.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from engine.basics.errors import QueueError
from engine.basics.repeater import Repeater
from engine.queue import agents, idle
from engine.queue.config import Config, ConfigFile
from engine.queue.daemon_log import (
    home_log,
    log_to,
    redirect_output_to_log,
    report_refusal,
    report_to_starter,
)
from engine.queue.machine_use import MachineUse
from engine.queue.mirror import Mirror
from engine.queue.notifier import Notifier
from engine.queue.orders import whole_number
from engine.queue.run_requests import RunRequests
from engine.queue.sampler import Nvml, Sampler
from engine.queue.settings import queue_settings
from engine.queue.snapshots import Snapshots
from engine.queue.supervisor import Supervisor
from engine.queue.sweeps import Sweeps
from engine.queue.upkeep import Upkeep
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from finetui.daemon import ALREADY_RUNNING, DAEMON, READY, code_version, forget_allocator
from finetui.errors import FinetuiError, StoreError
from finetui.home import Home
from finetui.home import home as default_home
from finetui.lock import Lock
from finetui.start import program
from store import Ingest, Projection, Server
from store.memory_limit import MemoryLimit
from store.no_pandas import keep_pandas_out

log = logging.getLogger("finetui.daemon")

# Seconds between ticks, while an attempt is active and while none is. Requests and journal entries wake both.
WATCH_S, WATCH_IDLE_S = 0.2, 2.0
INGEST_S, INGEST_IDLE_S = 0.3, 2.0
SAMPLE_IDLE_S = 10.0
TIDY_S, DAY_S = 600.0, 86_400.0
LOCK_WAIT_S = 5.0  # for a daemon that is just stopping
STEP_WAIT_S = 5.0  # for a step of a thread when the daemon stops
STOP_S = 20  # whole seconds after which a daemon that stops is ended by the kernel
STUCK_S = 30.0  # that a query may go on that is over its time and cannot be interrupted
MEMORY = 5 << 30  # bytes that the daemon may take, and allocators keep, beyond what it has when it is ready
NOTICE_S = 3600.0  # that it is said that the database was damaged
DRAIN_S = 100.0  # that a client waits for its logs to be read


class HomeTakenError(Exception):
    """Another daemon has this home."""


class Daemon:
    """Queue, database, server and sampler of one home. Raises ConfigError, StoreError, OSError, HomeTakenError."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._config_file = ConfigFile(home.config)
        self.stopping = threading.Event()
        self._started = time.time()
        self._lock = Lock(home.lock)
        if not self._lock.acquire(wait_s=LOCK_WAIT_S):
            raise HomeTakenError
        self._nvml = Nvml()
        self._projection = Projection(home.store, self.config.sql)
        self._ingest = Ingest(self._projection, home.path)
        self._notifier = Notifier(home, self.config)
        self._idle = idle.Idle(time.monotonic())
        settings = queue_settings(self.config, self._nvml)
        self._supervisor = Supervisor(home, settings, self._on_journal_entry, self._on_end, self._nvml.memory)
        self._machine_use = MachineUse(self._nvml, self._supervisor.active_runs)
        self._mirror = Mirror(home)
        self._sweeps = Sweeps(home)
        self._run_requests = RunRequests(home, self._supervisor, self._sweeps, self._projection)
        self._snapshots = Snapshots(self._projection)
        self._upkeep = Upkeep(self._projection)
        self._sampler = Sampler(home.hardware_log, self._nvml, before_rotation=self._ingest.drain)
        self._server = Server(
            home.socket, self._projection, self.act, self._ingest.caught_up, self._marks, self.config.sql
        )
        self._queue_thread = Repeater(
            "queue", self._watch_queue, lambda: self._interval(WATCH_S, WATCH_IDLE_S)
        )
        self._ingest_thread = Repeater(
            "ingest", self._poll_logs, lambda: self._interval(INGEST_S, INGEST_IDLE_S)
        )
        self._sampler_thread = Repeater("sampler", self._sampler.sample, self._sample_interval)
        self._tidy_thread = Repeater("tidy", self._tidy, lambda: TIDY_S)
        self._mirror_thread = Repeater(
            "mirror", lambda: self._mirror.copy(self.config.mirror), lambda: 60 * self.config.mirror_minutes
        )
        self._threads = (
            self._queue_thread,
            self._ingest_thread,
            self._sampler_thread,
            self._tidy_thread,
            self._mirror_thread,
        )

    def start(self) -> None:
        known = self._projection.known_dirs()
        self._supervisor.recover(max(known, default=0), known)
        with self._projection.read() as cursor:  # before a run starts that there is no money for
            self._supervisor.spent = self._notifier.look(cursor)
        self._server.start()
        # DuckDB's own limit does not cover all that its functions allocate. Shims lift this one for their workers.
        self._memory = MemoryLimit(MEMORY)
        for thread in self._threads:
            thread.start()
        log.info("daemon %d of %s is ready", os.getpid(), self.home.path)

    @property
    def owns_home(self) -> bool:
        return self._lock.still_there()

    def stop(self) -> bool:
        """Stop server, threads and database in order; runs go on. False if something does not end: a query that cannot
        be interrupted, a client that does not read. Then the process has to, which loses nothing: all is on disk.
        """
        log.info("daemon %d stops; active runs go on", os.getpid())
        self._ingest.halt()
        self._snapshots.halt()
        self._mirror.stop()
        ended = [self._server.stop()] if self.owns_home else []  # else the socket is another daemon's by now
        ended += [thread.stop(STEP_WAIT_S) for thread in self._threads]
        self._sampler.close()
        if all(ended) and self._projection.close():
            self._lock.release()
            return True
        log.warning("daemon %d does not wait for what goes on", os.getpid())
        return False

    def begin_again(self) -> NoReturn:
        """Start another daemon and end this process at once; the other one waits for the lock."""
        with home_log(self.home) as output:
            subprocess.Popen(
                program(DAEMON),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, "FINETUI_HOME": str(self.home.path)},
                start_new_session=True,
            )
        os._exit(0)

    # ---- threads ---------------------------------------------------------------------------------

    def _watch_queue(self) -> None:
        if not self.owns_home:
            log.error("%s is gone; another daemon may own the home now, so this one leaves", self.home.lock)
            self.stopping.set()
            return
        if self._projection.stuck or self._server.stuck_s > STUCK_S:
            log.error(
                "a query is over its time and cannot be interrupted: the daemon starts again without it"
            )
            self.begin_again()
        if self._memory.nearly_reached:
            log.error("a query has taken nearly all the memory that the daemon may have: it starts again")
            self.begin_again()
        if not self._server.reachable:
            log.warning("%s is gone; making it again", self.home.socket)
            self._server.stop()
            self._server.start()
        self._apply_changed_config()
        self._supervisor.tick()
        self._sweeps.look()
        counts = self._supervisor.counts()
        self._notifier.queue_changed(
            len(counts["running"]), len(counts["queued"]), self._supervisor.disk_full
        )
        work = (
            any(counts.values()) or self._sweeps.busy or self._mirror.busy
        )  # nobody stops the box before all is elsewhere
        when, now = self.config.when_idle, time.monotonic()
        if self._idle.look(when, work=work, last_request=self._server.last_request, now=now):
            idle.begin(when)

    def _apply_changed_config(self) -> None:
        if not self._config_file.reread():
            return
        self._supervisor.change_settings(queue_settings(self.config, self._nvml))
        self._server.use(self.config.sql)
        self._notifier.configure(self.config)
        self._mirror_thread.wake()

    @property
    def config(self) -> Config:
        return self._config_file.config

    def _tidy(self) -> None:
        after = self.config.clean_after_days
        self._supervisor.tidy(DAY_S * self.config.keep_removed_days, None if after is None else DAY_S * after)
        self._upkeep.look(idle=not self._supervisor.busy and self._ingest.progress is None)

    def _poll_logs(self) -> None:
        self._ingest.poll()
        self._projection.set_waiting(self._supervisor.waiting_for)
        if self._notifier.due:
            with self._projection.read() as cursor:
                self._supervisor.spent = self._notifier.look(cursor)

    def _interval(self, busy_s: float, idle_s: float) -> float:
        return busy_s if self._supervisor.busy else idle_s

    def _sample_interval(self) -> float:
        every = self.config.sample_every_s
        return self._interval(every, max(every, SAMPLE_IDLE_S))

    def _on_end(self, run: RunDir, record: RunRecord) -> None:
        self._notifier.run_ended(run, record)
        self._mirror_thread.wake()

    def _on_journal_entry(self, run: int) -> None:
        self._ingest.notify(run)
        self._queue_thread.wake()
        self._ingest_thread.wake()

    # ---- requests --------------------------------------------------------------------------------

    def act(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one action of a client. Raises StoreError, whose text is for the user."""
        try:
            by = agents.name_of(body.pop("by", None))
            if by is not None:
                self.config.agents.check(name, body, self.home.config)
            if (answer := self._run_requests.answer(name, body, by)) is not None:
                return answer
            if (answer := self._sweeps.answer(name, body)) is not None:
                return answer
            match name:
                case "empty":
                    self._drain(None)  # what is removed is forgotten by the store while it is still there
                    return {"runs": self._supervisor.empty()}
                case "agent":  # what an assistant may, before it takes the trouble
                    rights = self.config.agents
                    if action := body.get("action"):
                        rights.check(str(action), body, self.home.config)
                    return rights.allowance(
                        self._supervisor.agents_used(), body.get("runs"), body.get("seconds")
                    )
                case "look":  # somebody has written to one of its logs
                    self._ingest.notify(whole_number(name, body, "run"))
                    return {}
                case "status":
                    return self.status()
                case "machine":
                    why = self._sampler_thread.problem
                    return {**self._machine_use.look(), "problem": f"no new samples: {why}" if why else None}
                case "drain":
                    return self._drain(body.get("wait_s"))
                case "snapshot":
                    return self._snapshots.ask(body)
                case "compact":
                    return self._upkeep.compact(body.get("wait_s"))
                case "rebuild":
                    self._projection.rebuild()
                    self._ingest_thread.wake()
                    return {}
                case "stop":
                    self.stopping.set()
                    return {"pid": os.getpid()}
        except QueueError as error:
            raise StoreError(str(error), "queue") from None
        except OSError as error:
            path = error.filename or self.home.path
            raise StoreError(f"{name}: {path} cannot be written: {error.strerror}", "disk") from None
        raise StoreError(f"the daemon knows no action {name!r}; is it of another version?", "not_found")

    def _marks(self) -> dict[str, str]:
        """What every answer carries: how far the logs are read, while they are, and what was done to the database."""
        progress, notice = self._ingest.progress, self._recent_notice()
        marks = {} if progress is None else {"reading": progress.as_json()}
        return {**marks, "notice": notice} if notice else marks

    def _recent_notice(self) -> str | None:
        """What was done to the database, for so long that somebody will have read it."""
        notice = self._projection.notice
        is_recent = notice is not None and (self._ingest.progress or time.time() - notice.t < NOTICE_S)
        return notice.text if notice and is_recent else None

    def _drain(self, wait_s: Any) -> dict[str, Any]:
        """Have every log read to its present end. `reading`: what is not done after `wait_s` seconds."""
        wait_s = min(max(0.0, float(wait_s)), DRAIN_S) if isinstance(wait_s, int | float) else DRAIN_S
        ticket = self._ingest.ask()
        self._ingest_thread.wake()
        done = self._ingest.answered(ticket, wait_s)
        reading = None if done else self._ingest.reading or "logs are being read into the database"
        return {"reading": reading, "problems": self._problems()}

    def _problems(self) -> list[str]:
        """Return what is wrong, in sentences."""
        problems = [thread.problem for thread in self._threads if thread.problem]
        problems += [*self._supervisor.problems.values(), *self._supervisor.refused]
        damaged = dict(self._supervisor.damaged)
        for run, what in list(self._ingest.damaged.items()):
            whose = "the hardware log" if run is None else f"run #{run}"
            where = f"; finetui show {run} has more" if run is not None else ""
            damaged.setdefault(
                run or 0, f"{whose} is damaged: {what}; the rest is used, the file is left as it is{where}"
            )
        problems += [damaged[run] for run in sorted(damaged)]
        others = (
            self._config_file.problem,
            self._supervisor.settings.problem,
            self._ingest.problem,
            self._recent_notice(),
            self._nvml.problem,
            self._notifier.problem,
            self._mirror.problem,
            *self._sweeps.problems,
        )
        problems += filter(None, others)
        return problems

    def status(self) -> dict[str, Any]:
        """Return the daemon's identity, its runs and settings, and its problems."""
        notice, settings = self._projection.notice, self._supervisor.settings
        return {
            "pid": os.getpid(),
            "version": code_version(),
            "home": str(self.home.path),
            "uptime_s": round(time.time() - self._started, 1),
            **self._supervisor.counts(),
            "concurrency": settings.capacity.concurrency,
            "devices": list(settings.capacity.devices),
            "threads": settings.threads,
            **self.config.spending.status(self._supervisor.spent),
            "pool": self._supervisor.pool_status(),
            "agents": self.config.agents.allowance(self._supervisor.agents_used()),
            "mirrored": self._mirror.done if self.config.mirror else None,
            "reading": self._ingest.reading,
            "problems": self._problems(),
            "notes": list(filter(None, [self.home.open_to_others(), notice and notice.text])),
        }


# ---- the process ---------------------------------------------------------------------------------


def main() -> int:
    """Run until asked to stop. Errors at the start are one sentence on stderr, for the command that started us."""
    keep_pandas_out()
    forget_allocator(os.environ)
    home = default_home()
    os.umask(0o077)  # whatever it makes is its owner's alone
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may go
    try:
        home.create()
        log_to(home)
        daemon = Daemon(home)
        daemon.start()
    except HomeTakenError:
        return ALREADY_RUNNING
    except FinetuiError as error:
        return report_refusal(str(error), error.exit_code)
    except OSError as error:
        return report_refusal(f"the home {home.path} cannot be used: {error}")
    except Exception as error:
        log.exception("cannot start")
        return report_refusal(
            f"the daemon cannot start: {type(error).__name__}: {error}; see {home.daemon_log}"
        )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: daemon.stopping.set())
    report_to_starter(READY)
    redirect_output_to_log(home)
    # With a limit: a signal that another thread receives does not wake a wait without one.
    while not daemon.stopping.wait(1.0):
        pass
    owns_home = daemon.owns_home
    signal.alarm(STOP_S)  # whatever holds it up then: it may be killed at any moment
    if not daemon.stop() or not owns_home:
        os._exit(0)  # a query that goes on; or the server's destructor would remove the other daemon's socket
    return 0


if __name__ == "__main__":
    sys.exit(main())
