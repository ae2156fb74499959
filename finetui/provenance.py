"""Where a run comes from: who made it, at which commit, with which versions. Imports nothing that takes time."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Worth a word where a program has them loaded; what it imports besides is in its own environment.
LIBRARIES = (
    "torch", "transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes", "deepspeed", "lightning",
    "pytorch_lightning", "unsloth", "axolotl", "jax", "flax", "tensorflow", "keras", "numpy",
)  # fmt: skip


def git_commit(directory: Path) -> str | None:
    """Return the commit that a directory is at, with `+` if tracked files differ; None outside git."""
    command = ["git", "-C", str(directory), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() or None if process.returncode == 0 else None


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        return str(os.getuid())


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of what is installed of some packages."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def loaded_versions() -> dict[str, str]:
    """Return the versions of finetui and of those LIBRARIES that this process has loaded."""
    return versions_of(["finetui", *(name for name in LIBRARIES if name in sys.modules)])
