"""Whole checkpoints: how one is sealed, and how one whose files have changed since is set aside. Torch-free.

The last file of a checkpoint is `COMPLETE`: a JSON object from the name of every other file to its CRC-32. Before a run
is resumed they are compared, since a flipped bit in the weights would otherwise be trained on in silence.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from engine.runs.home import RunDir
from finetui.files import open_regular, read_regular, sync, write_json

COMPLETE = "COMPLETE"
DAMAGED = ".damaged"  # added to the name of a checkpoint that is set aside
CHUNK = 1 << 20  # bytes


def seal(path: Path, without: Sequence[str] = ()) -> None:
    """Mark a checkpoint's directory as whole: nothing may be written into it from now on. Raises OSError.

    `without`: names of files that are no part of it, and are about to go.
    """
    left_out = {COMPLETE, *without}
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name not in left_out)
    sums = {str(file.relative_to(path)): checksum(file) for file in files}
    write_json(path / COMPLETE, sums)


def checksum(file: Path) -> int:
    """Return the CRC-32 of a file's content. Raises OSError."""
    value = 0
    with open_regular(file) as stream:
        while chunk := stream.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def damage(path: Path) -> str | None:
    """Return what is wrong with a sealed checkpoint, in a few words; None if it is as it was written.

    A `COMPLETE` without content is that of an older finetui, which kept no checksums.
    """
    try:
        text = read_regular(path / COMPLETE)
        sums = json.loads(text) if text else {}
        for name, expected in sums.items():
            if checksum(path / name) != expected:
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is gone"
    except OSError as error:
        return f"{Path(error.filename).name} cannot be read: {error.strerror}"
    except (ValueError, AttributeError, TypeError, RecursionError):
        return f"{COMPLETE} has changed since it was written"
    return None


def set_aside_damaged(run: RunDir) -> list[str]:
    """Rename checkpoints from the last one back to the first that is sound; return a sentence for each renamed one.

    Raises OSError where one cannot be renamed.
    """
    sentences = []
    for _, path in reversed(run.resumable_checkpoints()):
        reason = damage(path)
        if reason is None:
            break
        aside = _free_name(path)
        path.rename(aside)
        sync(path.parent)
        sentences.append(
            f"the checkpoint {path.name} is damaged ({reason}) and not used; it is kept as {aside.name}"
        )
    if sentences:
        last = run.last_checkpoint()
        sentences[-1] += (
            f": resuming from {last[1].name}" if last else ": no other is left, so training starts over"
        )
    return sentences


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}{DAMAGED}{number or ''}") for number in range(1000))
    return next(name for name in names if not name.exists())
