"""A run's own log of scalings, `scale.jsonl`: at which factors it was scored, and what was written. Torch-free.

It is of the run's directory, so it goes where the run goes, and needs no daemon; ingest reads it into the store.
"""

from __future__ import annotations

from engine.basics.errors import ExportError
from engine.export.source import Source
from finetui.log import LogWriter
from store.line_fields import Bad, read_lines, write
from store.scale_lines import LOG_NAME, SCALES, ScaleLine, Scaling


def append(source: Source, line: ScaleLine) -> None:
    """Append a line; it is on disk when this returns. Raises ExportError."""
    path = source.run.path / LOG_NAME
    try:
        writer = LogWriter(path, "scale", source.number)
        write(writer, line, sync=True)
        writer.close()
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written ({error.strerror}); make room, and scale again"
        ) from None


def last_scaling(source: Source) -> Scaling | None:
    """Return the last scaling of the run; None if it was never scored, or its log cannot be read."""
    try:
        lines = [
            line for _, line in read_lines(source.run.path / LOG_NAME, SCALES) if not isinstance(line, Bad)
        ]
    except OSError:
        return None
    return next((line for line in reversed(lines) if isinstance(line, Scaling)), None)
