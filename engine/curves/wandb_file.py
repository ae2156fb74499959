"""W&B's own log of a run, `run-ID.wandb`: what it would send, also where it is offline.

It is LevelDB's log format behind a header of seven bytes: blocks of 32 KiB, in them records of a checksum (CRC-32 of
type and data, little endian), a length, a type and the data; a long message is cut into several of them. Each message
is a `Record` of W&B's protocol. W&B reads the file in Go alone, so the frame is read here, the messages by its library.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.curves.points import Point, Reading, number, whole
from finetui.files import open_regular
from finetui.names import STEPS, our_name

SUFFIX = ".wandb"
HEADER = b":W&B"
_HEADER_BYTES, _BLOCK, _FRAME = 7, 32_768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class WandbFile:
    """One such file, read on from where it was left. Raises ImportError without W&B's library."""

    def __init__(self, path: Path) -> None:
        from wandb.proto import wandb_internal_pb2

        self._record: Any = wandb_internal_pb2.Record
        self._path = path
        self._at = _HEADER_BYTES  # after the last whole message

    def records(self) -> Iterator[Any]:
        """Yield what is new, as W&B has it; a message that is not whole yet comes with the next call. Raises OSError,
        and ValueError for a file that is not one, or where it is damaged.
        """
        from google.protobuf.message import DecodeError

        with open_regular(self._path) as file:
            if not HEADER.startswith(file.read(_HEADER_BYTES)[: len(HEADER)]):
                raise ValueError("it does not begin as a file of W&B does")
            begin = self._at - self._at % _BLOCK
            file.seek(begin)
            data = file.read()
        for message, end in _messages(data, self._at - begin):
            self._at = begin + end
            try:
                yield self._record.FromString(message)
            except DecodeError as error:
                raise ValueError(str(error)) from None

    def read(self) -> Reading:
        """Return the measures that are new. Raises OSError, and ValueError for a file that is not one."""
        points: list[Point] = []
        try:
            for record in self.records():
                if record.WhichOneof("record_type") == "history":
                    points += points_of(record.history)
        except ValueError as error:
            if self._at == _HEADER_BYTES:
                raise
            return Reading(tuple(points), problem=str(error))
        return Reading(tuple(points))


def _messages(data: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """Yield each whole message from `at` on, and where it ends; `data` begins with a block. Raises ValueError."""
    parts = b""
    while True:
        left = _BLOCK - at % _BLOCK
        if left < _FRAME:  # too little for a frame: the block ends with zeros
            at += left
        if at + _FRAME > len(data):
            return
        checksum = int.from_bytes(data[at : at + 4], "little")
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        end = at + _FRAME + length
        if end > len(data):
            return
        body = data[at + _FRAME : end]
        if zlib.crc32(data[at + 6 : end]) != checksum:
            raise ValueError("a record does not have its checksum")
        parts = body if kind in (_WHOLE, _FIRST) else parts + body
        at = end
        if kind in (_WHOLE, _LAST):
            yield parts, at


def points_of(history: Any) -> Iterator[Point]:
    """Yield the measures of one call of `log`."""
    values = {".".join(item.nested_key) or item.key: value_of(item.value_json) for item in history.item}
    named = (whole(values[name]) for name in STEPS if name in values)
    step = next((step for step in named if step is not None), None)
    if step is None:  # W&B's own count of calls
        step = history.step.num if history.HasField("step") else whole(values.get("_step"))
    if step is None:
        return
    t = number(values.get("_timestamp"))
    for name, value in values.items():
        measure = number(value)
        if measure is not None and name not in STEPS and not name.startswith("_"):
            yield Point(int(step), our_name(name), measure, t)


def value_of(text: str) -> Any:
    """Return what W&B keeps as JSON; None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None
