"""Data sets of the hub: the split `train` of a repository.

JSON and CSV files are fetched and read as local ones are: the readers of `datasets` turn dates into timestamps and
strings of digits into numbers, and fail on a key that is first seen late in a file. Parquet, Arrow and the rest have
types of their own and go through `datasets`. Which files make up the split is decided by `datasets` in any case.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.basics.errors import DataError
from finetui.errors import first_line
from finetui.files import write_whole_file

File = tuple[str, Path]  # its path in the repository, and the local copy
# Settings of a repository's files that say nothing about how to read them, or what the reader finds out by itself.
_HARMLESS = {
    "name",
    "version",
    "data_dir",
    "data_files",
    "description",
    "features",
    "sep",
    "delimiter",
    "field",
}
_URL = re.compile(r"hf://datasets/(?P<repo>[^@]+)@(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass(frozen=True)
class Table:
    """A data set that `datasets` has read."""

    rows: Sequence[Mapping[str, Any]]  # each is read when it is asked for
    fingerprint: str
    bytes: int


def find(source: str) -> list[File] | Table:
    """Return the files of a hub id, or its table. Raises DataError."""
    import datasets

    datasets.disable_progress_bars()
    try:
        urls = _resolve(source)
        if urls is None:
            table = datasets.load_dataset(source, split="train")
            return Table(table, str(table._fingerprint), int(table.info.dataset_size or 0))
        return [_fetch(source, url) for url in urls]
    except DataError:
        raise
    except Exception as error:
        # The libraries raise whatever their network stack raises; the first line says enough.
        raise DataError(
            f"{source}: no such file, and it cannot be loaded from the hub with a split `train` ({first_line(error)})"
        ) from None


def _resolve(source: str) -> list[str] | None:
    """Return the URLs of the JSON or CSV files of a split `train`; None for files that `datasets` reads.

    They are remembered, for when the hub cannot be reached.
    """
    import datasets

    memo = _memo(source)
    try:
        builder = datasets.load_dataset_builder(source)
    except Exception:
        if memo.exists():
            return list(json.loads(memo.read_text()))
        raise
    if type(builder).__module__.endswith(".cache.cache"):  # the hub cannot be reached; `datasets` has a copy
        if memo.exists():
            return list(json.loads(memo.read_text()))
        if builder.info.builder_name in ("json", "csv"):
            raise DataError(f"{source}: the hub cannot be reached, and its files are not on this machine yet")
        return None
    config = builder.config
    if type(config).__name__ not in ("JsonConfig", "CsvConfig"):
        return None
    _refuse_settings(source, config)
    if "train" not in (splits := config.data_files or {}):
        raise DataError(f"{source}: has no split `train`; it has {', '.join(f'`{name}`' for name in splits)}")
    urls = list(map(str, splits["train"]))
    with suppress(OSError):  # a home that cannot be written to
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_whole_file(memo, json.dumps(urls))
    return urls


def _refuse_settings(source: str, config: Any) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        unusual = field.name == "sep" and value not in (",", ";", "\t")
        if unusual or (field.name not in _HARMLESS and value != field.default):
            raise DataError(
                f"{source}: its README sets `{field.name}` for its files, which finetui does not read; "
                "download the files and give their path"
            )


def _fetch(source: str, url: str) -> File:
    from huggingface_hub import hf_hub_download

    if not (parts := _URL.fullmatch(url)):
        raise DataError(f"{source}: has a file outside its repository ({url}); download it and give its path")
    path = hf_hub_download(parts["repo"], parts["path"], repo_type="dataset", revision=parts["revision"])
    return parts["path"], Path(path)


def _memo(source: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "finetui" / f"hub-{sha256(source.encode()).hexdigest()[:16]}.json"
