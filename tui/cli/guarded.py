"""What libraries print to a terminal is made safe for it, as output.py makes what this package prints."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from engine.basics import safe_text


class Guarded:
    """A terminal's stream as others see it: what is written to it is made safe, but for colours."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(safe_text.stream(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard_streams() -> None:
    """From here on, whatever this process prints is safe for the terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream and stream.isatty() and not isinstance(stream, Guarded):
            setattr(sys, name, Guarded(stream))
