"""Which run a directory is: by the UUID in its run.json, and never by its number. A copied directory has another's."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from finetui.files import read_json
from store.batch import Batch
from store.known import Known
from store.line_fields import BadLine, maybe_small, real
from store.paths import RUN_JSON

_COPIES = uuid.UUID("2f0c5b0e-58a4-4c43-9d4e-0f6a51c7d0e2")


def parent_of(value: Any, directory: Path) -> str | None:
    """Return the UUID of the run that one was made from; an older finetui wrote its number in the same home. Raises
    BadLine.
    """
    if value is None or isinstance(value, str):
        return value
    number = maybe_small(value)
    for path in sorted(directory.parent.glob(f"{number:06d}-*")):
        try:
            found = read_json(path / RUN_JSON).get("uuid")
        except (OSError, ValueError, AttributeError) as error:
            raise BadLine(f"{path.name} is run #{number}, whose {RUN_JSON} cannot be read") from error
        return found if isinstance(found, str) else None
    return None


def claim(known: Known, batch: Batch, number: int, body: dict[str, Any]) -> None:
    """Give a run that is read for the first time the UUID of its run.json; where another has it, one is the copy: which
    one does not depend on which was read first.
    """
    own, origin = body.get("uuid"), body.get("number")
    if not isinstance(own, str):
        return
    holder = known.uuids.setdefault(own, number)
    if holder == number:
        return

    def place(run: int) -> tuple[bool, bool, int]:
        return not known.dirs[run].is_dir(), run != origin, run

    original, copy = sorted((holder, number), key=place)
    known.uuids[own], known.copies[copy] = original, own
    batch.copies[copy] = (str(uuid.uuid5(_COPIES, f"{own}/{copy}")), own)
    if known.dirs[copy].is_dir():  # else it is the row of the same run under its old number
        message = f"a copy: its {RUN_JSON} has the UUID of {known.dirs[original].name}, {own}"
        batch.add("events", run=copy, t=real(body.get("created")), kind="copy", level="warn", message=message)
