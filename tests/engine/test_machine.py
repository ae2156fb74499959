"""What kind of machine this is, told from files and variables; and how the daemon is started with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.basics import machine
from engine.basics.errors import QueueError
from engine.basics.machine import Mount
from engine.client import start_hook
from finetui.home import Home

# As /proc/self/mounts has them in a container of Docker with a volume, shortened.
IN_DOCKER = [
    Mount("/", "overlay"),
    Mount("/proc", "proc"),
    Mount("/dev/shm", "tmpfs"),
    Mount("/etc/hosts", "ext4"),
    Mount("/workspace", "xfs"),
]


def made(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


def test_containers_are_known_by_what_they_leave(tmp_path: Path) -> None:
    assert machine.container({}, tmp_path / "none") is None
    assert machine.container({}, made(tmp_path / "a", ".dockerenv")) == "docker"
    assert machine.container({}, made(tmp_path / "b", "run/.containerenv")) == "podman"
    assert machine.container({"APPTAINER_NAME": "x.sif"}, tmp_path) == "apptainer"
    assert machine.container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path) == "kubernetes"
    assert machine.container({}, made(tmp_path / "c", "proc/1/environ", "A=b\0container=lxc\0")) == "lxc"
    assert machine.container({}, made(tmp_path / "d", "proc/1/environ", "A=b\0")) is None


def test_what_does_not_outlive_the_machine() -> None:
    lost = machine.lost_with
    assert lost(Path("/root/.local/share/finetui"), IN_DOCKER, "docker") == (
        "it is on the container's own disk (overlay), and gone when the container is stopped or replaced"
    )
    assert lost(Path("/workspace/finetui"), IN_DOCKER, "docker") is None
    assert lost(Path("/workspaces/finetui"), IN_DOCKER, "docker") is not None, "another folder"
    assert lost(Path("/dev/shm/home"), IN_DOCKER, None) == "it is in memory (tmpfs), and gone after a restart"
    assert lost(Path("/home/me"), [Mount("/", "overlay")], None) is None, (
        "the live system of a machine of its own"
    )
    assert lost(Path("/home/me"), [], "docker") is None, "nothing is known of it"


def test_folders_that_outlive_a_container(tmp_path: Path) -> None:
    kept, closed = tmp_path / "kept", tmp_path / "gone"
    kept.mkdir()
    known = [
        *IN_DOCKER[:4],
        Mount(str(kept), "ext4"),
        Mount(str(closed), "ext4"),
        Mount("/etc/hosts", "ext4"),
    ]
    assert machine.survivors(known, "docker") == [str(kept)]
    assert machine.survivors(known, None) == [], "without a container all of it does"


def test_the_first_run_is_told_that_its_home_is_lost() -> None:
    rented = {"RUNPOD_POD_ID": "abc", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    warned = machine.home_warning(Path("/root/finetui"), rented, IN_DOCKER)
    assert warned is not None
    assert warned.startswith("/root/finetui: it is on the container's own disk (overlay)")
    assert warned.endswith("set FINETUI_HOME to a folder below /workspace")
    assert machine.home_warning(Path("/workspace/finetui"), rented, IN_DOCKER) is None


def test_laptops_jobs_and_namespaces(tmp_path: Path) -> None:
    assert not machine.has_battery(made(tmp_path / "a", "sys/class/power_supply/AC/type", "Mains\n"))
    assert machine.has_battery(made(tmp_path / "b", "sys/class/power_supply/BAT0/type", "Battery\n"))
    assert machine.job_ends({"SLURM_JOB_END_TIME": "1795972697"}) == 1795972697.0
    assert machine.job_ends({"SLURM_JOB_END_TIME": "?"}) is None
    assert machine.job_ends({}) is None
    closed = made(tmp_path / "c", "proc/sys/user/max_user_namespaces", "0\n")
    made(closed, "proc/self/ns/user")
    assert not machine.user_namespaces(closed)
    assert machine.user_namespaces(made(tmp_path / "d", "proc/self/ns/user"))


def verified(path: Path, text: str) -> str:
    """What systemd has to say against a unit."""
    path.write_text(text)
    return subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(path.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="takes systemd")
@pytest.mark.parametrize("name", ["home", 'a home with 100% $room and a "quote"'])
def test_systemd_takes_the_unit(tmp_path: Path, name: str) -> None:
    text = start_hook.unit_text(Home(tmp_path / name))
    path = tmp_path / "finetui.service"
    assert verified(path, text) == ""
    assert "Unknown key" in verified(path, text.replace("ExecStart", "ExecStrt")), "it does look"


# What systemctl is asked stands in for it: there is no systemd for users in a container.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$ASKED"
[ "$2" = "$REFUSES" ] && echo "Failed to do that" >&2 && exit 1
exit 0
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what was asked."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    asked = tmp_path / "asked"
    for name, value in {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "ASKED": str(asked),
        "REFUSES": "-",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }.items():
        monkeypatch.setenv(name, value)
    return asked


def test_a_unit_is_made_and_taken_back(tmp_path: Path, systemctl: Path) -> None:
    home = Home(tmp_path / "home")
    hook = start_hook.install(home, os.environ)
    assert hook.unit is not None
    assert f"FINETUI_HOME={home.path}" in hook.unit.read_text()
    assert systemctl.read_text().splitlines() == [
        "--user show-environment",
        "--user daemon-reload",
        f"--user enable --now {hook.unit.name}",
    ]
    assert start_hook.install(home, os.environ) == hook, "once more is as good"
    other = start_hook.unit_path(Home(tmp_path / "other"), os.environ)
    assert other != hook.unit, "each home has its own"
    assert start_hook.remove(home, os.environ) == hook.unit
    assert not hook.unit.exists()
    assert start_hook.remove(home, os.environ) is None


def test_a_refusal_is_told_in_the_words_of_systemd(
    tmp_path: Path, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSES", "enable")
    with pytest.raises(QueueError, match="systemctl --user enable: Failed to do that"):
        start_hook.install(Home(tmp_path / "home"), os.environ)


@pytest.mark.parametrize(
    ("environment", "where"),
    [
        ({"RUNPOD_POD_ID": "a"}, "on RunPod put this line into the start command of the pod's template"),
        ({"VAST_CONTAINERLABEL": "C.1"}, "on Vast.ai put this line into the on-start script"),
        ({"SLURM_JOB_ID": "7"}, "at the beginning of the job's script"),
        ({}, "put this line "),
    ],
)
def test_without_systemd_a_line_is_given_that_starts_the_daemon(
    tmp_path: Path, systemctl: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], where: str
) -> None:
    monkeypatch.setenv("REFUSES", "show-environment")
    hook = start_hook.install(Home(tmp_path / "a home"), environment)
    assert hook.unit is None
    assert where in hook.sentences[0]
    assert (
        f"FINETUI_HOME={tmp_path}/a home"
        in subprocess.run(
            ["sh", "-c", f"printf '%s\\n' {hook.line}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    )
