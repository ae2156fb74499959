"""Start the daemon when the machine starts: as a systemd user unit, or by a line for whatever else starts things."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.basics import machine
from engine.basics.errors import QueueError
from engine.basics.wording import last_line
from finetui.files import write_whole_file
from finetui.home import Home
from finetui.start import program

# Workers are none of its business: they outlive the daemon, and it finds them again.
UNIT = """\
[Unit]
Description=finetui: the queue of {home}

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
Environment={environment}
ExecStart={command}

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Hook:
    """What was done, or is to be done by hand."""

    unit: Path | None  # None where there is no systemd for users
    line: str  # the command that starts the daemon, for a shell
    sentences: tuple[str, ...]


def install(home: Home, environment: Mapping[str, str]) -> Hook:
    """Have the daemon of a home started with the machine. Raises QueueError, where systemd refuses."""
    line = start_line(home)
    if not has_systemd():
        return Hook(None, line, _by_hand(environment))
    path = unit_path(home, environment)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole_file(path, unit_text(home))
    for words in (("daemon-reload",), ("enable", "--now", path.name)):
        _systemctl(*words)
    sentences = [f"{path} is enabled: the daemon starts with your first login after a restart"]
    if not lingers(environment):
        sentences.append("to have it start without a login: loginctl enable-linger")
    return Hook(path, line, tuple(sentences))


def remove(home: Home, environment: Mapping[str, str]) -> Path | None:
    """Take the unit back; None where there is none. Raises QueueError, OSError."""
    path = unit_path(home, environment)
    if not path.exists():
        return None
    if has_systemd():
        _systemctl("disable", path.name)  # not --now: the daemon goes on
    path.unlink(missing_ok=True)
    return path


def start_line(home: Home) -> str:
    return shlex.join(["env", f"FINETUI_HOME={home.path}", *program("finetui", "daemon", "start")])


def unit_text(home: Home) -> str:
    """Return the unit. In its values `%` and `$` stand for themselves when doubled (systemd.unit, systemd.service)."""
    variable = _quoted(f"FINETUI_HOME={home.path}")
    command = " ".join(_quoted(word).replace("$", "$$") for word in program("finetui", "daemon", "start"))
    shown = str(home.path).replace("%", "%%")
    return UNIT.format(home=shown, environment=variable, command=command)


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def unit_path(home: Home, environment: Mapping[str, str]) -> Path:
    """Return where the unit of a home is; one that is not in the usual place has a name of its own."""
    folder = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    if not environment.get("FINETUI_HOME"):
        return folder / "finetui.service"
    digest = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:8]
    return folder / f"finetui-{digest}.service"


def has_systemd() -> bool:
    """Whether there is a systemd that starts things for this user."""
    if shutil.which("systemctl") is None:
        return False
    try:
        _systemctl("show-environment")
    except QueueError:
        return False
    return True


def lingers(environment: Mapping[str, str]) -> bool:
    """Whether systemd starts this user's units without a login."""
    return Path(f"/var/lib/systemd/linger/{environment.get('USER', '')}").is_file()


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", "--user", *words], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueError(f"systemctl --user {words[0]}: {error}") from None
    if done.returncode != 0:
        reason = last_line(done.stderr, f"exit code {done.returncode}")
        raise QueueError(f"systemctl --user {words[0]}: {reason}")


def _by_hand(environment: Mapping[str, str]) -> tuple[str, ...]:
    if "SLURM_JOB_ID" in environment:
        return ("there is no systemd for you here; put this line at the beginning of the job's script:",)
    rented = machine.provider(environment)
    if rented and rented.start:
        return (f"there is no systemd here; on {rented.name} put this line into {rented.start}:",)
    if shutil.which("crontab"):
        return ("there is no systemd for you here; put this line behind `@reboot` into `crontab -e`:",)
    return ("there is no systemd here; put this line where commands stand that run when the machine starts:",)
