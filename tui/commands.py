"""finetui's own commands, run by the screen: what reads data or checks a recipe is a process of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from finetui.errors import StoreError
from finetui.home import Home
from finetui.start import program


def run(home: Home, *words: str, stdin: str = "", folder: Path | None = None) -> tuple[str, list[str]]:
    """Return what a command prints, and the sentences that it says. Raises StoreError with what it complains of.

    `stdin` is all that it will read; `folder`: where its paths start, if not here.
    """
    try:
        done = subprocess.run(
            program("finetui", *words),
            env={**os.environ, "FINETUI_HOME": str(home.path)},
            input=stdin,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except UnicodeError:
        raise StoreError(
            "the recipe has letters that the locale does not know; use one of UTF-8", "refused"
        ) from None
    except OSError as error:  # the folder is gone
        raise StoreError(f"{folder}: {error.strerror}; paths of the recipe start there", "refused") from None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        complaints = [line.removeprefix("finetui: ") for line in said if not line.startswith("note: ")]
        raise StoreError(" ".join(complaints) or "the command ended without a word", "refused")
    return done.stdout, said
