"""`attempts/N/exit.json`, the shim's word on how a worker ended. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetui.files import read_json
from store.line_fields import BadLine, Small, read


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended: one of exit code and signal is None."""

    exit_code: Small | None = None
    signal: Small | None = None
    started: float | None = None  # Unix seconds
    ended: float | None = None
    peak_rss_mb: float | None = None  # MiB


class BadExit(Exception):  # noqa: N818
    """The file cannot be used; `str()` says why."""


def load_exit(path: Path) -> Exit | None:
    """Return what the shim wrote; None where there is no file. Raises BadExit."""
    try:
        return read(Exit, read_json(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadExit(str(error.strerror)) from None
    except (ValueError, BadLine) as error:
        raise BadExit(str(error)) from None


def read_exit(path: Path) -> Exit | None:
    """The same, with None for a file that cannot be used."""
    try:
        return load_exit(path)
    except BadExit:
        return None
