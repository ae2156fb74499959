"""A run's curves as a file of TensorBoard, written by TensorBoard itself: a folder for each run."""

from __future__ import annotations

import json
from pathlib import Path

from engine.basics.errors import ExportError
from engine.curves.logged import LoggedRun
from finetui.files import write_directory


def check() -> None:
    """Raise ExportError without TensorBoard."""
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError:
        raise ExportError(
            "TensorBoard is not installed: pip install tensorboard, the extra `curves`"
        ) from None


def place_of(run: LoggedRun, folder: Path) -> Path | None:
    """Return where it is below this folder; None if it is not there."""
    place = folder / run.folder
    return place if place.exists() else None


def write(run: LoggedRun, folder: Path) -> Path:
    """Write the run's folder below this one, whole or not at all, in place of an older one; return it. Raises
    OSError.
    """
    place = folder / run.folder
    write_directory(place, lambda temporary: _write(run, temporary))
    return place


def _write(run: LoggedRun, folder: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    text = "".join(
        f"    {line}\n" for line in json.dumps(run.recipe, indent=2).splitlines()
    )  # Markdown: as it is
    recipe = Summary.Value(
        tag="recipe/text_summary",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=make_tensor_proto([text]),
    )
    writer = EventFileWriter(str(folder))
    try:
        writer.add_event(Event(wall_time=run.started, step=0, summary=Summary(value=[recipe])))
        for point in run.points:
            value = Summary.Value(tag=point.name, simple_value=point.value)
            writer.add_event(Event(wall_time=point.t, step=point.step, summary=Summary(value=[value])))
    finally:
        writer.close()
