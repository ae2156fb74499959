"""finetui's own commands, run by the screen: what reads data or checks a recipe is a process of its own."""

from __future__ import annotations

import os
import subprocess

from finetui.errors import StoreError
from finetui.home import Home
from finetui.start import program


def run(home: Home, *words: str) -> tuple[str, list[str]]:
    """Return what a command prints, and the sentences that it says. Raises StoreError with what it complains of."""
    done = subprocess.run(
        program("finetui", *words),
        env={**os.environ, "FINETUI_HOME": str(home.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        complaints = [line.removeprefix("finetui: ") for line in said if not line.startswith("note: ")]
        raise StoreError(" ".join(complaints) or "the command ended without a word", "refused")
    return done.stdout, said
