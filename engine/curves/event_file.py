"""TensorBoard's event files, read by TensorBoard itself: scalars, old and new form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.curves.points import LARGEST_STEP, Point, Reading
from finetui.files import open_regular
from finetui.names import STEPS, our_name

MARK = ".tfevents."


class EventFile:
    """One such file, read on from where it was left. Raises ImportError without TensorBoard."""

    def __init__(self, path: Path) -> None:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event

        self._event = Event
        self._path = path
        self._loader = RawEventFileLoader(str(path))
        self._records = self._bad = 0

    def events(self) -> Iterator[Any]:
        """Yield what is new, as TensorBoard has it. Raises OSError."""
        from google.protobuf.message import DecodeError

        for record in self._loader.Load():
            self._records += 1
            try:
                yield self._event.FromString(record)
            except DecodeError:
                self._bad += 1

    def damage(self, *, last: bool) -> str | None:
        """Return what could not be read since this was asked before, in words; `last`: nothing more is written. Raises
        OSError.
        """
        bad, self._bad = self._bad, 0
        if last:  # TensorBoard stops at a damaged record without a word
            bad += frames_in(self._path) - self._records
        return f"{bad} record{'s' if bad > 1 else ''} of it cannot be read" if bad > 0 else None

    def read(self, *, last: bool = False) -> Reading:
        """Return what is new; a record that is not whole yet comes with the next call, unless it is the `last`. Raises
        OSError.
        """
        points = tuple(point for event in self.events() for point in self.points(event))
        return Reading(points, problem=self.damage(last=last))

    def points(self, event: Any) -> Iterator[Point]:
        """Yield the measures in an event."""
        for value in event.summary.value:
            scalar = _scalar(value)
            if scalar is not None and value.tag not in STEPS and 0 <= event.step < LARGEST_STEP:
                yield Point(
                    int(event.step), our_name(value.tag, self._path.parent.name), scalar, event.wall_time
                )


def frames_in(path: Path) -> int:
    """Return how many records there are, by their lengths; a piece at the end counts as one.

    A record is its length (8 bytes, little endian), a checksum of that (4), the data, and a checksum of those (4).
    """
    count = 0
    with open_regular(path) as file:
        size, at = file.seek(0, os.SEEK_END), 0
        while at < size:
            file.seek(at)
            at += 16 + int.from_bytes(file.read(8), "little")
            count += 1
    return count


def _scalar(value: Any) -> float | None:
    """Return the number of a summary; None for texts, histograms and pictures."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if not value.HasField("tensor") or value.metadata.plugin_data.plugin_name not in ("", "scalars"):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    array = make_ndarray(value.tensor)
    if array.size != 1 or array.dtype.kind not in "fiu":
        return None
    return float(array.item())
