"""Copying: what a paste gives, in tmux and over SSH, and a file for terminals that take nothing."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from finetui.files import write_whole_file
from finetui.home import Home

# A terminal may drop a longer one: OSC 52 carries it as base64, and 100,000 characters of that are what xterm takes.
MOST_BYTES = 74_994
TMUX_SECONDS = 5.0
FILE = "copied.txt"


def in_tmux() -> bool:
    return "TMUX" in os.environ


def keep(home: Home, text: str) -> str:
    """Keep a copy in the home, and give it to tmux where that is around; return what to say of it."""
    sentences = []
    if in_tmux() and not _to_tmux(text):
        sentences.append("tmux did not take it")
    if len(text.encode()) > MOST_BYTES:
        sentences.append("a terminal may not take so much")
    path = home.path / FILE
    with suppress(OSError):
        write_whole_file(path, text)
        path.chmod(0o600)
        sentences.append(f"it is in {path.name} of the home, too")
    return "; ".join(sentences)


def _to_tmux(text: str) -> bool:
    """Whether tmux has it as a buffer now; it hands it on to the terminal by itself (`-w`, from tmux 3.2 on). What a
    program inside writes with OSC 52 it drops, unless its option `set-clipboard` is `on`.
    """
    for words in (["tmux", "load-buffer", "-w", "-"], ["tmux", "load-buffer", "-"]):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(words, input=text.encode(), check=True, capture_output=True, timeout=TMUX_SECONDS)
            return True
    return False
