"""`finetui doctor`: will this machine do what is asked of it?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from engine.basics import machine
from engine.basics.errors import ConfigError
from engine.basics.wording import last_line, moment, size
from engine.client import service, start_hook
from engine.queue import config, sampler
from engine.runs.disk import free_bytes
from finetui.errors import ExitCode, FinetuiError
from finetui.home import home
from tui import preferences
from tui.cli.output import out, print_json
from tui.cli.service import pool_words

Verdict = Literal["good", "note", "bad"]
FREE_BYTES = 5 * 2**30  # room for some checkpoints
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "duckdb", "pyarrow", "textual")

# In a process of its own: the command line never imports torch.
FOUR_BIT = """
import torch, bitsandbytes as bnb
device = "cuda" if torch.cuda.is_available() else "cpu"
weight = torch.randn(64, 64, device=device)
packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
error = (bnb.functional.dequantize_4bit(packed, state) - weight).abs().mean().item()
assert packed.dtype == torch.uint8 and error < 0.2, error
print(f"NF4 on {device}, mean error {error:.3f}; torch {torch.__version__}, {torch.get_num_threads()} threads")
"""


@dataclass(frozen=True)
class Check:
    what: str
    verdict: Verdict
    finding: str


def doctor(*, as_json: bool) -> None:
    """Print a line a check; exit code 1 if one is bad."""
    checks = []
    for check in run_checks():
        checks.append(check)
        if not as_json:
            out(f"{check.verdict:<5} {check.what:<10} {check.finding}", flush=True)
    if as_json:
        print_json([asdict(check) for check in checks])
    if any(check.verdict == "bad" for check in checks):
        sys.exit(ExitCode.FAILED)


def run_checks() -> Iterator[Check]:
    yield Check("python", "good", f"{sys.version.split()[0]} in {sys.prefix}")
    yield _packages()
    yield _gpu()
    yield _four_bit()
    yield _machine()
    yield _home()
    yield config_check()
    yield _disk()
    yield _daemon()
    yield _start()
    yield _logout()
    yield _terminal()


def _packages() -> Check:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return Check("packages", "bad", f"{name} is not installed; run `make install`")
    return Check("packages", "good", ", ".join(found))


def _gpu() -> Check:
    names = [gpu.label for gpu in sampler.Nvml().gpus]
    if names:
        return Check("gpu", "good", ", ".join(names))
    return Check("gpu", "note", "no NVIDIA GPU found; runs use the CPU")


def _four_bit() -> Check:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", FOUR_BIT], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("4-bit", "bad", "importing torch and bitsandbytes took more than two minutes")
    if done.returncode == 0:
        return Check("4-bit", "good", done.stdout.strip())
    last = last_line(done.stderr, "no output")
    return Check("4-bit", "bad", f"QLoRA will not work: {last}")


def _home() -> Check:
    path = home().path
    try:
        home().create()
        probe = path / ".doctor"
        probe.touch()
        probe.unlink()
    except FinetuiError as error:
        return Check("home", "bad", str(error))
    except OSError as error:
        return Check("home", "bad", f"{path} cannot be written ({error.strerror}); set FINETUI_HOME")
    mounts = machine.mounts()
    filesystem = machine.file_system(path, mounts)
    if filesystem in ("nfs", "nfs4", "cifs", "fuse.sshfs"):
        return Check(
            "home", "bad", f"{path} is on {filesystem}, where locks fail; set FINETUI_HOME to a local disk"
        )
    if lost := machine.home_warning(path, os.environ, mounts):
        return Check("home", "bad", lost)
    if wide := home().open_to_others():
        return Check("home", "note", wide)
    return Check("home", "good", f"{path} ({filesystem or 'local'})")


def _machine() -> Check:
    """What kind of machine it is, and what that means for what runs on it."""
    kind, rented = machine.container(os.environ), machine.provider(os.environ)
    parts: list[str] = []
    verdict: Verdict = "good"
    if rented:
        parts.append(f"{rented.name}")
    if kind:
        mounts = machine.mounts()
        parts.append(f"a container ({kind})")
        if machine.lost_with(machine.ROOT, mounts, kind):
            kept = ", ".join(machine.survivors(mounts, kind)) or "no folder that is known"
            parts.append(f"kept when it stops: {kept}")
        shm = machine.shared_memory()
        if shm is not None and shm < machine.SMALL_SHM:
            verdict = "note"
            parts.append(f"/dev/shm has {size(shm)}: several GPUs need more, start it with --shm-size=8g")
    if ends := machine.job_ends(os.environ):
        verdict = "note"
        parts.append(f"in a Slurm job until {moment(ends)}: the daemon ends with it")
    if machine.has_battery():
        verdict = "note"
        parts.append(
            "a laptop: while it sleeps runs stand still (systemd-inhibit --what=sleep:handle-lid-switch …)"
        )
    if not machine.user_namespaces():
        parts.append("no user namespaces: no rootless containers or sandboxes")
    return Check("machine", verdict, "; ".join(parts) or "a machine of its own, no container")


def _start() -> Check:
    """Whether the daemon comes back after a restart."""
    unit = start_hook.unit_path(home(), os.environ)
    if unit.exists():
        return Check("restart", "good", f"the daemon starts with the machine ({unit})")
    return Check(
        "restart", "note", "after a restart the next command starts the daemon; finetui daemon install does"
    )


def config_check() -> Check:
    path = home().config
    try:
        config.read(path)
    except ConfigError as error:
        return Check("config", "bad", f"no daemon can start with it: {error}")
    if problems := preferences.read(home()).problems:
        return Check("config", "note", "; ".join(problems))
    return Check("config", "good", str(path) if path.exists() else "defaults, there is no config.toml")


def _disk() -> Check:
    free = free_bytes(home().path)
    if free < FREE_BYTES:
        return Check("disk", "bad", f"{size(free)} free under {home().path}; checkpoints need space")
    return Check("disk", "good", f"{size(free)} free")


def _daemon() -> Check:
    found = service.status(home())
    if found is None:
        return Check("daemon", "note", "not running; the first command starts it")
    notes = found.get("notes", [])  # what was wrong and has been mended is among the problems for a while
    if problems := [one for one in found.get("problems", []) if one not in notes]:
        return Check("daemon", "bad", "; ".join(problems))
    if mended := [one for one in found.get("problems", []) if one in notes]:
        return Check("daemon", "note", "; ".join(mended))
    pool = f"; pool: {pool_words(found['pool'])}" if found.get("pool") else ""  # an older daemon has none
    return Check("daemon", "good", f"pid {found['pid']}{pool}")


def _logout() -> Check:
    """Systemd may kill what a user leaves behind: KillUserProcesses=yes without lingering."""
    if not Path("/run/systemd/system").exists() or shutil.which("loginctl") is None:
        return Check("logout", "good", "no systemd session manager; processes outlive the terminal")
    command = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"]
    command += ["org.freedesktop.login1.Manager", "KillUserProcesses"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stdout.strip() == "b true" and not start_hook.lingers(os.environ):
        return Check(
            "logout", "bad", "logging out kills your processes here; run `loginctl enable-linger` once"
        )
    return Check("logout", "good", "processes outlive the terminal")


def _terminal() -> Check:
    if not sys.stdout.isatty():
        return Check("terminal", "note", "not a terminal")
    size = shutil.get_terminal_size()
    encoding = (sys.stdout.encoding or "").lower()
    if "utf" not in encoding:
        return Check(
            "terminal", "note", f"{encoding} encoding: charts use ASCII; a UTF-8 locale gives braille"
        )
    return Check("terminal", "good", f"{size.columns}x{size.lines}, UTF-8, TERM={os.environ.get('TERM', '')}")
