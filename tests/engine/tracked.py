"""Programs whose runs other tools track."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRACKIO = Path(sys.prefix) / "trackio"  # scripts/install.sh


def run_program(name: str, folder: Path, *words: str, **environment: str) -> None:
    """Run a program beside this file whose runs one of the tools tracks, in a folder where no other settings are."""
    alone = {"HOME": str(folder), "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    program = [sys.executable, str(Path(__file__).with_name(name)), *words]
    subprocess.run(program, cwd=folder, env={**os.environ, **alone, **environment}, check=False, timeout=300)
