"""The directory of a home, and the daemon's files in it."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from finetui.errors import StoreError

# The kernel allows 107 bytes for the path of a Unix socket, and a URI is made of it.
SOCKET_PATH = r"[\w/.~-]{1,100}"


@dataclass(frozen=True)
class Home:
    """`$FINETUI_HOME`: one daemon, one store, all runs."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def store(self) -> Path:
        return self.path / "store.duckdb"

    @property
    def socket(self) -> Path:
        """`daemon.sock`, or a short plain path under /tmp where that is too long or has other characters. Not under
        $TMPDIR, which may differ from one command to the next.
        """
        path = self.path / "daemon.sock"
        if re.fullmatch(SOCKET_PATH, str(path), re.ASCII):
            return path
        import hashlib  # not needed for most homes, and a screen waits for it

        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path("/tmp") / f"finetui-{os.getuid()}-{digest}" / "daemon.sock"

    @property
    def cache(self) -> Path:
        """What runs share, made again where it is missing."""
        return self.path / "cache"

    @property
    def sweeps(self) -> Path:
        """Plans of sweeps, a file each."""
        return self.path / "sweeps"

    @property
    def removed(self) -> Path:
        """Runs that somebody has removed, until they are deleted for good."""
        return self.path / "removed"

    @property
    def lock(self) -> Path:
        return self.path / "daemon.lock"

    @property
    def numbers(self) -> Path:
        """The highest number that a run was given; held (flock) while a run's directory is made."""
        return self.path / "numbers"

    @property
    def daemon_log(self) -> Path:
        return self.path / "daemon.log"

    @property
    def hardware_log(self) -> Path:
        return self.path / "hardware.jsonl"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    def create(self) -> None:
        """Make the directories, closed to other users. Raises OSError, and StoreError for a bad one."""
        if b"?" in os.fsencode(self.path) or not _is_utf8(self.path):
            raise StoreError(
                f"the home {os.fsencode(self.path)!r} has a question mark, or bytes that are no UTF-8, in its path,"
                " where the database cannot be: set FINETUI_HOME to another directory",
                "home",
            )
        for path in (self.path, self.runs, self.socket.parent):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.check_socket_place()

    def check_socket_place(self) -> None:
        """See that the directory of the socket, where it is not the home itself, belongs to this user alone: others
        can make directories in /tmp, too. Raises StoreError.
        """
        place = self.socket.parent
        if place == self.path:
            return
        try:
            status = place.lstat()
        except OSError:  # nobody listens there
            return
        other = "set FINETUI_HOME to a directory with a shorter, plain path"
        if not stat.S_ISDIR(status.st_mode):
            raise StoreError(
                f"{place}, where the daemon's socket should be, is no directory: remove it, or {other}",
                "home",
            )
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"{place}, where the daemon's socket should be, belongs to another user ({status.st_uid}), who could"
                f" take the daemon's place: have it removed, or {other}",
                "home",
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            place.chmod(0o700)

    def open_to_others(self) -> str | None:
        """Return that others can look into the home, if so; it is not changed, since somebody made it so."""
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        except OSError:
            return None
        if not mode & 0o077:
            return None
        return f"{self.path} is open to other users (mode {mode:o}); chmod 700 {self.path} closes it"


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def home() -> Home:
    """Return this process's home: `$FINETUI_HOME`, `$XDG_DATA_HOME/finetui` or `~/.local/share/finetui`."""
    if explicit := os.environ.get("FINETUI_HOME"):
        return Home(Path(explicit).expanduser().absolute())
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Home(Path(data).absolute() / "finetui")
