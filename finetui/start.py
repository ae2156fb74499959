"""Start finetui's own programs, each in a process of its own, whatever a user's modules are called.

    python -P -u -m finetui.start MODULE [ARGUMENT …]

The packages behind this one are called `engine`, `store` and `tui`, as a user's own modules may be. `-P` keeps the
current folder off the import path, but PYTHONPATH comes before all that is installed, and must stay usable for metrics
of the user's own. So every program of ours begins here and takes those few names from where finetui itself lies.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = ("engine", "store", "tui", "recipes")
ROOT = Path(__file__).resolve().parent.parent


class OwnPackages:
    """First in `sys.meta_path`, it finds our packages and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(ROOT)]) if name in PACKAGES else None


def prefer_own_packages() -> None:
    """Make `import engine` mean ours, in this process, from now on."""
    if OwnPackages not in sys.meta_path:
        sys.meta_path.insert(0, OwnPackages)


def program(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours; its output is not buffered, since others read it as it comes."""
    return [sys.executable, "-P", "-u", "-m", "finetui.start", module, *arguments]


if __name__ == "__main__":
    prefer_own_packages()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
