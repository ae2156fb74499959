"""What kind of machine this is, and what of it outlives a stop: container, rented box, cluster job, laptop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path("/")
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
OF_CONTAINER = ("overlay", "aufs", "fuse.fuse-overlayfs")
# File systems that no user keeps files on.
OF_KERNEL = (
    "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "bpf", "tracefs", "debugfs", "hugetlbfs",
    "pstore", "configfs", "fusectl", "autofs", "nsfs", "binfmt_misc", "rpc_pipefs", "squashfs", "efivarfs",
)  # fmt: skip
SMALL_SHM = 1 << 30  # bytes; NCCL and workers of data loaders share memory there


class Mount(NamedTuple):
    """A place of the file tree with a file system of its own."""

    path: str
    kind: str


@dataclass(frozen=True)
class Provider:
    """Who rents out the machine, known by a variable that is set on it."""

    name: str
    variable: str
    keeps: str = ""  # the folder that survives a stop, where they promise one
    start: str = ""  # where a command goes that is to run at each start


# RunPod's folder: docs.runpod.io/pods/storage; Colab's and Kaggle's variables: kagglehub's env.py.
PROVIDERS = (
    Provider("RunPod", "RUNPOD_POD_ID", "/workspace", "the start command of the pod's template"),
    Provider("Vast.ai", "VAST_CONTAINERLABEL", "", "the on-start script of the instance"),
    Provider("Google Colab", "COLAB_RELEASE_TAG", "", "the first cell"),
    Provider("Kaggle", "KAGGLE_KERNEL_RUN_TYPE", "", "the first cell"),
    Provider("Kubernetes", "KUBERNETES_SERVICE_HOST", "", "the container's command"),
)


def container(environment: Mapping[str, str], root: Path = ROOT) -> str | None:
    """Return what kind of container this is; None where there is no sign of one."""
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    if "APPTAINER_NAME" in environment or "SINGULARITY_NAME" in environment:
        return "apptainer"
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    try:  # https://systemd.io/CONTAINER_INTERFACE
        variables = (root / "proc/1/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    named = [
        one.partition(b"=")[2].decode(errors="replace") for one in variables if one.startswith(b"container=")
    ]
    return named[0] if named and named[0] else None


def provider(environment: Mapping[str, str]) -> Provider | None:
    return next((one for one in PROVIDERS if environment.get(one.variable)), None)


def has_battery(root: Path = ROOT) -> bool:
    """Whether it is a laptop: it has a battery that is not that of a mouse."""
    supplies = (root / "sys/class/power_supply").glob("BAT*")
    return any(_read(path / "type") == "Battery" for path in supplies)


def job_ends(environment: Mapping[str, str]) -> float | None:
    """Return when the Slurm job that this is part of ends, Unix seconds; None outside of one, or without a limit."""
    try:
        return float(environment["SLURM_JOB_END_TIME"])
    except (KeyError, ValueError):
        return None


def mounts() -> list[Mount]:
    return [Mount(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


def file_system(path: Path, known: Iterable[Mount]) -> str:
    """Return the kind of file system that a path is on; "" where that is not known."""
    over = [mount for mount in known if path.is_relative_to(mount.path)]
    return max(over, key=lambda mount: len(mount.path)).kind if over else ""


def lost_with(path: Path, known: Iterable[Mount], kind: str | None) -> str | None:
    """Return why what is below a path does not outlive a stop of the machine; None where it does, as far as is known.

    `kind`: of container.
    """
    system = file_system(path, known)
    if system in IN_MEMORY:
        return f"it is in memory ({system}), and gone after a restart"
    if kind and system in OF_CONTAINER:
        return f"it is on the container's own disk ({system}), and gone when the container is stopped or replaced"
    return None


def survivors(known: Iterable[Mount], kind: str | None) -> list[str]:
    """Return the folders that outlive the container and can be written to, in order."""
    if not kind:
        return []
    places = {
        mount.path
        for mount in known
        if mount.kind not in (*IN_MEMORY, *OF_CONTAINER, *OF_KERNEL)
        and not mount.path.startswith(("/proc", "/sys", "/dev", "/etc", "/usr", "/run", "/boot"))
        and mount.path != "/"
    }
    return sorted(path for path in places if Path(path).is_dir() and os.access(path, os.W_OK))


def home_warning(path: Path, environment: Mapping[str, str], known: Sequence[Mount]) -> str | None:
    """Return why a home does not outlive the machine, and where one would; None where it does, as far as is known."""
    kind = container(environment)
    lost = lost_with(path, known, kind)
    if lost is None:
        return None
    rented = provider(environment)
    kept = survivors(known, kind) or ([rented.keeps] if rented and rented.keeps else [])
    where = f"below {' or '.join(kept[:3])}" if kept else "on a disk that is kept"
    return f"{path}: {lost}; set FINETUI_HOME to a folder {where}"


def shared_memory(root: Path = ROOT) -> int | None:
    """Return the bytes of /dev/shm; None where there is none."""
    try:
        return shutil.disk_usage(root / "dev/shm").total
    except OSError:
        return None


def user_namespaces(root: Path = ROOT) -> bool:
    """Whether an ordinary user may make a user namespace, which rootless containers and sandboxes take."""
    off = (
        _read(root / "proc/sys/user/max_user_namespaces") == "0",
        _read(root / "proc/sys/kernel/unprivileged_userns_clone") == "0",
        _read(root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
    )
    return not any(off) and (root / "proc/self/ns/user").exists()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
