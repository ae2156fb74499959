"""What a worker printed."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from finetui.log import tail

LONGEST = 500  # characters of a line


def last_line_of(path: Path, but: Container[str] = ()) -> str | None:
    """Return the last line of a file that says something, cut; None where there is none. `but`: lines left out."""
    lines = re.split(r"[\r\n]+", tail(path, 4096).decode(errors="replace"))
    printed = [line.strip() for line in lines if line.strip() and line.strip() not in but]
    return printed[-1][:LONGEST] if printed else None
