"""What a run's run.json becomes in the projection: the rows that never change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetui.hashes import short_hash
from store.batch import Batch
from store.identity import parent_of
from store.line_fields import BadLine, as_json, maybe_real, maybe_text, maybe_whole, real

LATEST = 1e11  # Unix seconds; later times cannot be shown


Leaf = tuple[str, str, float | None]  # dotted key, value as text, value as a number

OF_FIX = ("flag", "level", "key", "old", "new", "action", "source")


def run_json(batch: Batch, run: int, directory: Path, body: dict[str, Any]) -> list[str]:
    """The rows of `runs`, `params` and `datasets` that never change. Returns the values that cannot be used, which are
    left out.
    """
    bad: list[str] = []

    def value(of: dict[str, Any], key: str, read: Callable[[Any], Any]) -> Any:
        try:
            return read(of.get(key))
        except BadLine as error:
            bad.append(f"{key}: {error}")
            return None

    recipe = body.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    logged = body.get("logged") is True
    model, method, task = recipe.get("model"), recipe.get("method"), recipe.get("task")
    if logged:
        method = method if method not in (None, "", "command") else "logged"
    if logged or _is_foreign(body):  # its config may mean anything by this word
        task = None
    slug = directory.name.partition("-")[2]
    items = body.get("datasets") or []
    datasets = [
        {
            "role": maybe_text(item.get("role")),
            "source": maybe_text(item.get("source")),
            "fingerprint": maybe_text(item.get("fingerprint")),
            "n_rows": value(item, "rows", maybe_whole),
            "bytes": value(item, "bytes", maybe_whole),
        }
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict)
    ]
    if not isinstance(items, list) or len(datasets) < len(items):
        bad.append("datasets: not a list of objects")
    fixes = body.get("fixes") or []
    if not isinstance(fixes, list) or not all(isinstance(change, dict) for change in fixes):
        bad.append("fixes: not a list of objects")
        fixes = []
    row = {
        "uuid": maybe_text(body.get("uuid")),
        "name": maybe_text(body.get("name")) or slug,
        "slug": maybe_text(body.get("slug")) or slug,
        "dir": str(directory),
        "created": value(body, "created", maybe_time),
        "model": maybe_text(model.get("path") if isinstance(model, dict) else model),
        "method": maybe_text(method.get("name") if isinstance(method, dict) else method),
        "task": maybe_text(task.get("name") if isinstance(task, dict) else task),
        "seed": None if logged and not _is_whole(recipe.get("seed")) else value(recipe, "seed", maybe_whole),
        "recipe_json": as_json(recipe),
        "recipe_hash": maybe_text(body.get("recipe_hash")),
        "seedless_hash": _seedless_hash(recipe),
        "git_commit": maybe_text(body.get("git_commit")),
        "host": maybe_text(body.get("host")),
        "sweep": maybe_text(body.get("sweep")),
        "logged": logged,
        "project": maybe_text(body.get("cwd") if method == "command" else body.get("project")),
        "parent": value(body, "parent", lambda of: parent_of(of, directory)),
    }
    versions = body.get("versions")
    libraries = {"python": body.get("python"), **(versions if isinstance(versions, dict) else {})}
    leaves = _leaves(recipe)  # before anything is added: it may be nested too deeply
    batch.add("runs", run=run, **row)
    if leaves:
        keys, values, numbers = map(list, zip(*leaves, strict=True))
        batch.extend("params", len(leaves), run=run, key=keys, value=values, number=numbers)
    for library, version in libraries.items():
        if version is not None:
            batch.add("libraries", run=run, library=library, version=maybe_text(version))
    for dataset in datasets:
        batch.add("datasets", run=run, **dataset)
    for change in fixes:
        batch.add("fixes", run=run, **{name: maybe_text(change.get(name)) for name in OF_FIX})
    return bad


def directions_of(body: dict[str, Any]) -> dict[str, bool]:
    """By metric, whether higher is better, where the program that logs the run has said so."""
    said = body.get("higher_is_better")
    items = said.items() if isinstance(said, dict) else ()
    return {str(key): higher for key, higher in items if isinstance(higher, bool)}


def _is_foreign(body: dict[str, Any]) -> bool:
    """Whether a run was imported from another tool, and not from another home."""
    origin = body.get("imported")
    return isinstance(origin, dict) and origin.get("tool") != "finetui"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _seedless_hash(recipe: dict[str, Any]) -> str | None:
    """The first 16 hex digits of the SHA-256 of a recipe without its name and seed; None of no recipe."""
    kept = {key: value for key, value in recipe.items() if key not in ("name", "seed")}
    return short_hash(kept) if kept else None


def maybe_time(value: Any) -> float | None:
    """Unix seconds, within what a calendar can show. Raises BadLine."""
    t = maybe_real(value)
    if t is not None and not 0 <= t < LATEST:
        raise BadLine(f"{value!r} is no time")
    return t


def _leaves(recipe: dict[str, Any]) -> list[Leaf]:
    found: list[Leaf] = []
    _add_leaves(recipe, "", found)
    return found


def _add_leaves(tree: dict[str, Any], prefix: str, found: list[Leaf]) -> None:
    for name, value in tree.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict):
            _add_leaves(value, key, found)
        elif isinstance(value, str):
            found.append((key, value, None))
        elif value is not None:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            found.append((key, as_json(value), real(value) if is_number else None))
