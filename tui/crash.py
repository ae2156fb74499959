"""What is said when the screen ends by a fault of its own, and where the rest of it can be read."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path

from engine.basics.safe_text import one_line
from finetui.files import write_whole_file
from finetui.home import Home


def sentence(home: Home, error: BaseException) -> str:
    """Keeps the traceback in the home, as far as that can be written."""
    path = home.path / "screen-crash.log"
    with suppress(OSError):
        write_whole_file(path, "".join(traceback.format_exception(error)))
        path.chmod(0o600)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" in {Path(frame.filename).name}, line {frame.lineno}" for frame in last)
    what = one_line(f"{type(error).__name__}: {error}"[:200])
    return (
        f"finetui: the screen has ended by a fault of its own ({what}{where}); runs go on. All of it: {path}"
    )
