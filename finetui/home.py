"""The directory of a home, and the daemon's files in it."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

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
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path("/tmp") / f"finetui-{os.getuid()}-{digest}" / "daemon.sock"

    @property
    def lock(self) -> Path:
        return self.path / "daemon.lock"

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
        """Make the directories, closed to other users."""
        for path in (self.path, self.runs, self.socket.parent):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)


def home() -> Home:
    """Return this process's home: `$FINETUI_HOME`, `$XDG_DATA_HOME/finetui` or `~/.local/share/finetui`."""
    if explicit := os.environ.get("FINETUI_HOME"):
        return Home(Path(explicit).expanduser().absolute())
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Home(Path(data).absolute() / "finetui")
