"""Execution of attempts on this machine: start shims, check whether they and their workers live, signal workers.

The processes do not depend on the daemon: a new daemon finds them by the identities on disk. A pid is never
trusted without its start time and boot.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.basics.cpu import THREAD_VARIABLES, spin_little
from engine.basics.gpu import GIVEN
from engine.basics.process import Identity, alive, identify, kill_group, send
from engine.queue.pool import ANSWER_S, SHIM, Order, Pool
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from engine.runs.submitted import runs_command
from finetui.files import append_regular, read_json
from finetui.start import program


@dataclass(frozen=True)
class Processes:
    """The processes of an attempt, as far as known; `worker` is known once it began, alive or not."""

    shim: Identity | None
    worker: Identity | None

    @property
    def alive(self) -> bool:
        return alive(self.shim) or alive(self.worker)


class Executor:
    """The local machine. Shims are forked by the pool where it is of use, and executed elsewhere."""

    def __init__(self, use_pool: bool = False, uuids: Mapping[str, str] | None = None) -> None:
        """`uuids`: of the GPUs, by name."""
        self.pool = Pool(use_pool)
        self._uuids = uuids or {}
        self._orders: dict[
            int, Order
        ] = {}  # run → the shim that the pool was asked for and has not forked yet
        # Our own children must be reaped; the shims of an earlier daemon are init's.
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, run: RunDir, attempt: int, device: str, threads: int, processes: int) -> Identity | None:
        """Start the shim of an attempt; None if it is already gone, or if the pool has to import first: see `collect`.
        Raises OSError (no memory, no file).
        """
        arguments = [str(run.path), str(attempt)]
        is_command = runs_command(run)
        # Programs of others often read numbers alone.
        env = environment(os.environ, device, threads, {} if is_command else self._uuids)
        # With several processes, or for a command, the worker is light: what it starts imports by itself.
        light = processes > 1 or is_command
        order = None if light else self.pool.order(arguments, env, run.shim_log)
        if order is None:
            return self._execute(arguments, env, run.shim_log)
        self._orders[run.number] = order
        return self.collect(run, ANSWER_S)

    def is_ordered(self, run: RunDir) -> bool:
        """Whether the pool has yet to say what became of a shim."""
        return run.number in self._orders

    def collect(self, run: RunDir, wait_s: float = 0.0) -> Identity | None:
        """Return the shim that was ordered, executed now if the pool gives none; None if it is already gone, or while
        it `is_ordered`. Raises OSError.
        """
        order = self._orders[run.number]
        try:
            shim = self.pool.answer(order, wait_s)
        except TimeoutError:
            return None
        except LookupError:
            del self._orders[run.number]
            return self._execute(order.arguments, order.environment, order.output)
        del self._orders[run.number]
        return shim

    def drop_order(self, run: RunDir) -> None:
        """Want no shim of this run any more. One that is forked all the same reads so in the journal."""
        if order := self._orders.pop(run.number, None):
            order.drop()

    def _execute(self, arguments: list[str], env: dict[str, str], output: Path) -> Identity | None:
        with os.fdopen(append_regular(output), "ab") as log:
            child = subprocess.Popen(
                program(SHIM, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=env,
                start_new_session=True,
            )
        self._children.append(child)
        return identify(child.pid)

    def reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]
        self.pool.reap()

    def find_processes(self, run: RunDir, record: RunRecord) -> Processes:
        body = _read_json(run.attempt(record.attempt).process) or {}
        # Of two shims that were started for one attempt, by the pool and without it, one got to write this.
        shim = Identity.from_dict(body.get("shim")) or record.shim
        return Processes(shim, Identity.from_dict(body.get("worker")) or record.worker)

    def ask_to_stop(self, worker: Identity) -> bool:
        """Send SIGTERM, so that the worker saves a checkpoint and ends. False if it is gone."""
        return send(worker, signal.SIGTERM)

    def kill(self, processes: Processes) -> None:
        """SIGKILL the worker and all that it started. The shim stays, to record how the worker ended."""
        if processes.worker is not None and processes.shim is not None:
            kill_group(processes.worker, session=processes.shim.pid)
        elif processes.worker is not None:
            send(processes.worker, signal.SIGKILL)


def environment(
    base: Mapping[str, str], device: str, threads: int, uuids: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a worker's environment: its share of the cores, and the GPUs that it may see, one for each process; by
    UUID where that is known, for a number means another card once one is lost.
    """
    env = {**spin_little(base), **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    if device.startswith("gpu"):
        given = device.split(",")
        known = [uuid for one in given if (uuid := (uuids or {}).get(one))]
        visible = ",".join(known) if len(known) == len(given) else device.replace("gpu", "")
        # NVML counts GPUs in PCI order; CUDA does so only when told.
        env.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=visible)
        env[GIVEN] = visible
    return env


def allowed_devices(
    devices: Sequence[str], uuids: Mapping[str, str], wanted: Sequence[int | str]
) -> tuple[tuple[str, ...], str | None]:
    """Return the GPUs that config.toml names, by number or UUID, all where it names none; and what is wrong with it."""
    if not wanted:
        return tuple(devices), None
    chosen, missing = [], []
    for one in wanted:
        by_number = isinstance(one, int) or one.isdigit()
        name = f"gpu{one}" if by_number else next((name for name, uuid in uuids.items() if uuid == one), None)
        if name in devices:
            chosen.append(name)
        else:
            missing.append(str(one))
    problem = (
        f"gpus in config.toml: there is no GPU {', '.join(missing)} here that may be used"
        if missing
        else None
    )
    return tuple(name for name in devices if name in chosen), problem


def usable_devices(devices: Sequence[str], visible: str | None) -> tuple[str, ...]:
    """Return the GPUs that `visible`, the daemon's `CUDA_VISIBLE_DEVICES`, allows; all if it is no list of numbers."""
    if visible is None or not re.fullmatch(r"[\d,\s]*|-1", visible):
        return tuple(devices)
    allowed = {f"gpu{int(part)}" for part in visible.split(",") if part.strip().isdigit()}
    return tuple(device for device in devices if device in allowed)


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
