"""Processes: signalled, ended with all that they started, waited for. Which one is meant: `finetui.identity`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import NamedTuple

from finetui.identity import Identity as Identity
from finetui.identity import alive as alive
from finetui.identity import boot_id as boot_id
from finetui.identity import fields_of, stat_of
from finetui.identity import identify as identify

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
CLOCK_TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What one process has used so far, and who it is."""

    parent: int
    start_time: int
    cpu_s: float
    ram: int  # bytes, with those that it shares


def send(identity: Identity, signum: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone. Raises PermissionError."""
    try:
        fd = os.pidfd_open(identity.pid)
    except OSError:  # gone, or a kernel (< 5.3) or sandbox without pidfd
        if not alive(identity):
            return False
        os.kill(identity.pid, signum)
        return True
    try:
        # The descriptor pins the process: if it is the right one now, the signal cannot hit another.
        if not alive(identity):
            return False
        signal.pidfd_send_signal(fd, signum)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def kill_group(leader: Identity, session: int) -> None:
    """SIGKILL a worker and every process it left in its group.

    The group's number may have been reused, so only members of `session` (the shim's) are killed.
    """
    send(leader, signal.SIGKILL)
    if leader.boot_id != boot_id():
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = stat_of(int(entry.name))
            if stat and stat.group == leader.pid and stat.session == session and stat.state not in "ZX":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of all that this process's children leave behind (Linux): else nobody would know of them."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Let this child be killed as soon as its parent is gone (Linux), unless that was gone before."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def use_of(pid: int) -> Use | None:
    """What a process has used; None if it is gone, a zombie, or hidden."""
    fields = fields_of(pid)
    if fields is None or fields[0] in (b"Z", b"X"):
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Use(int(fields[1]), int(fields[19]), ticks / CLOCK_TICKS, int(fields[21]) * PAGE)


def uses() -> dict[int, Use]:
    """What every process has used, by pid, as far as they are visible."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid: use for pid in pids if (use := use_of(pid))}


def descendants(pid: int) -> list[int]:
    """Return the processes below one, whatever session and group they made for themselves; zombies left out."""
    stats = {
        int(entry.name): stat_of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    parents = {number: stat.parent for number, stat in stats.items() if stat and stat.state not in "ZX"}
    family, new = {pid}, {pid}
    while new:
        new = {number for number, parent in parents.items() if parent in new} - family
        family |= new
    return sorted(family - {pid})


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is another one's child, or a child of one."""
    while pid > 1:
        stat = stat_of(pid)
        if stat is None:
            return False
        if stat.parent == ancestor:
            return True
        pid = stat.parent
    return False


def has_ended(pid: int, wait_s: float) -> bool:
    """Whether a child has ended, after so many seconds at most; it is not reaped."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # a kernel (< 5.3) or sandbox without pidfd
        time.sleep(wait_s)
    else:
        select.select([fd], [], [], wait_s)
        os.close(fd)
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def kill_descendants(pid: int, but: int | None = None) -> None:
    """SIGKILL all processes below one, and what these start meanwhile; those that do not go are left after a while."""
    for _ in range(20):
        left = [number for number in descendants(pid) if number != but]
        if not left:
            return
        for number in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.01)


def set_command_line(words: list[str]) -> None:
    """Change what `ps` shows of this process, as far as there is room; setproctitle(3) of BSD does the same.

    The words lie where the kernel put the first ones, and cannot take more space. The last byte there is made no NUL,
    by which the kernel knows that one text, up to the first NUL, is meant.
    """
    import ctypes

    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
        begin, end = int(fields[45]), int(fields[46])
        known = Path("/proc/self/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    size = end - begin
    if begin == 0 or size < 2 or not ctypes.string_at(begin, size).startswith(known.rstrip(b"\0")):
        return
    text = os.fsencode(" ".join(words))[: size - 2]
    ctypes.memmove(begin, text.ljust(size - 1, b"\0") + b" ", size)


def umask() -> int:
    """Return this process's umask, which `os.umask` tells only to those who change it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077  # a kernel before 4.7
