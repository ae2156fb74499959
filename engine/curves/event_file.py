"""TensorBoard's event files, read by TensorBoard itself: scalars, old and new form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.curves.names import STEPS, our_name
from engine.curves.points import Point, Reading

MARK = ".tfevents."


class EventFile:
    """One such file, read on from where it was left. Raises ImportError without TensorBoard."""

    def __init__(self, path: Path) -> None:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event

        self._event = Event
        self._loader = RawEventFileLoader(str(path))

    def read(self) -> Reading:
        """Return what is new; a record that is not whole yet comes with the next call. Raises OSError, ValueError."""
        return Reading(tuple(self._points()))

    def _points(self) -> Iterator[Point]:
        from google.protobuf.message import DecodeError

        for record in self._loader.Load():
            try:
                event = self._event.FromString(record)
            except DecodeError as error:
                raise ValueError(f"a record cannot be read ({error})") from None
            for value in event.summary.value:
                scalar = _scalar(value)
                if scalar is not None and value.tag not in STEPS and event.step >= 0:
                    yield Point(int(event.step), our_name(value.tag), scalar)


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
