"""The list of files of a Parquet export: it says what is there, and that the folder is finetui's own. Imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetui.errors import StoreError
from finetui.files import read_json, write_json

NAME = "_finetui.json"  # readers pass over names that begin so
LOCK = ".finetui.lock"
VERSION = 1  # of the form; files of another one are written again


def take(folder: Path, home: str) -> None:
    """Make an empty folder an export, or see that it is one of this home. Raises StoreError and OSError."""
    if (folder / NAME).exists():
        read(folder, home)
    elif any(path.name != LOCK for path in folder.iterdir()):
        raise StoreError(f"{folder} is not empty, and no export of finetui: name another folder", "file")
    else:
        save(folder, home, {})


def read(folder: Path, home: str) -> dict[str, str]:
    """Return the files that are there, with what tells their content. Raises StoreError and OSError."""
    try:
        known = read_json(folder / NAME)
    except ValueError:
        raise StoreError(
            f"{folder / NAME} is damaged: remove {folder}, or name another folder", "file"
        ) from None
    if known.get("home") != home:
        whose = known.get("home")
        raise StoreError(f"{folder} is the export of another home, {whose}: name another folder", "file")
    files = known.get("files")
    return dict(files) if known.get("version") == VERSION and isinstance(files, dict) else {}


def save(folder: Path, home: str, files: Mapping[str, str]) -> None:
    write_json(folder / NAME, {"version": VERSION, "home": home, "files": dict(files)})
