"""Which process is meant: a pid alone is reused, so a process is known by pid, start time and boot.

Read from /proc (Linux). The start time is in clock ticks since boot, which no change of the wall clock moves.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple


class Identity(NamedTuple):
    """One process of one boot of one machine. A named tuple, as in child.py and pool.py, since commands that the pool
    runs import these three alone: `dataclasses` would be a quarter of it.
    """

    pid: int
    start_time: int
    boot_id: str

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_dict(cls, body: Any) -> Identity | None:
        """None where the body lacks a part (an entry of another kind, a half-known process)."""
        try:
            return cls(int(body["pid"]), int(body["start_time"]), str(body["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None


class ProcessStat(NamedTuple):
    """What /proc says of a process."""

    state: str
    parent: int
    group: int
    session: int
    start_time: int


def identify(pid: int) -> Identity | None:
    """Who has this pid now (a zombie still counts); None if nobody has."""
    stat = stat_of(pid)
    return Identity(pid, stat.start_time, boot_id()) if stat else None


def alive(identity: Identity | None) -> bool:
    """Whether exactly this process still runs; a zombie and a reused pid do not count."""
    if identity is None or identity.boot_id != boot_id():
        return False
    stat = stat_of(identity.pid)
    return stat is not None and stat.start_time == identity.start_time and stat.state not in "ZX"


@functools.cache
def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def stat_of(pid: int) -> ProcessStat | None:
    fields = fields_of(pid)
    if fields is None:
        return None
    return ProcessStat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def fields_of(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on, the state; None if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    return text[text.rfind(b")") + 2 :].split()
