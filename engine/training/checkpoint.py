"""Checkpoints: everything that a run needs to resume as if nothing had happened.

Written under a temporary name, synced, renamed; `COMPLETE` comes last, with checksums (engine/runs/checkpoints.py), so
a half-written one is never used.
Older ones are deleted only after the new one is whole.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from engine.basics.errors import RestoreError, SaveError, causes
from engine.models.distributed import (
    gather_values,
    gathered,
    optimiser_state,
    rank,
    shard_like,
    shard_state,
    wait,
)
from engine.models.random_states import RandomStates, random_states, set_random_states
from engine.runs import disk
from engine.runs.checkpoints import COMPLETE, seal
from engine.runs.disk import DiskFullError
from engine.runs.home import CHECKPOINT_NAME, RunDir
from finetui import files
from finetui.errors import first_line


@dataclass(frozen=True)
class Position:
    """The position of training in its run."""

    step: int  # optimiser steps done; the data position follows from it
    tokens: int  # trained on so far, padding not counted
    data: str = ""  # digest of the training data: the position means nothing in others
    micro_tokens: int = 0  # of one forward pass, where memory allowed no more than that


def checkpoint_name(step: int) -> str:
    return f"step-{step:06d}"


def save(run: RunDir, model: nn.Module, optimiser: torch.optim.Optimizer, position: Position) -> Path:
    """Write a whole checkpoint and return its directory. Raises SaveError; earlier ones stay as they are.

    Of several processes the first writes, and all return when it is done: it is the checkpoint that one process
    would write, with random numbers for each.
    """
    weights, state = trained_weights(model), optimiser_state(optimiser)
    rng = gather_values(random_states())
    path = run.checkpoints / checkpoint_name(position.step)

    def fill(directory: Path) -> None:
        save_file(weights, directory / "weights.safetensors")
        with (directory / "optimiser.pt").open("wb") as file:
            torch.save(state, file)
        with (directory / "rng.pt").open("wb") as file:
            torch.save([tensors for _, tensors in rng], file)
        body = {**asdict(position), "rng": [plain for plain, _ in rng]}
        (directory / "state.json").write_text(json.dumps(body))

    if rank() == 0:
        write_directory(path, fill, tensor_bytes(weights) + tensor_bytes(state))
    wait()
    return path


def restore(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> Position:
    """Put weights, optimiser and random numbers back as they were. Raises RestoreError."""
    try:
        load_weights(path, model)
        # On the CPU first: it was saved from the GPU of the first process.
        saved = torch.load(path / "optimiser.pt", map_location="cpu", weights_only=True)
        optimiser.load_state_dict(shard_state(saved, optimiser))
        state = json.loads((path / "state.json").read_text())
        tensors = torch.load(path / "rng.pt", map_location="cpu", weights_only=True)
        if rank() < len(tensors):
            set_random_states(RandomStates(state["rng"][rank()], tensors[rank()]))
        return Position(state["step"], state["tokens"], state["data"], state.get("micro_tokens", 0))
    except torch.OutOfMemoryError:  # nothing is wrong with the checkpoint
        raise
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise RestoreError(
            f"{path} cannot be read ({_reason(error)}), perhaps because another version of finetui wrote it; "
            "delete it to resume from an earlier one, or requeue the run to start over"
        ) from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the trained weights of a checkpoint into the model."""
    put_weights(load_file(path / "weights.safetensors"), model)


def put_weights(saved: dict[str, torch.Tensor], model: nn.Module) -> None:
    """Put all trained weights into the model, by name."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if saved.keys() != parameters.keys():
        raise ValueError("it holds other weights than this recipe trains")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(shard_like(saved[name], parameter))


def prune(run: RunDir, keep: int, best_step: int | None) -> None:
    """Delete all but the last `keep` whole checkpoints, that of step `best_step`, and what was left half-written."""
    last = [path for _, path in run.whole_checkpoints()[-keep:]]
    kept = {*last, *([run.checkpoints / checkpoint_name(best_step)] if best_step is not None else [])}
    for path in run.checkpoints.iterdir():
        # Not a user's own copy.
        is_checkpoint = re.fullmatch(CHECKPOINT_NAME, path.name) or path.name.startswith(".")
        if is_checkpoint and path not in kept:
            (path / COMPLETE).unlink(missing_ok=True)  # never whole while half deleted
            shutil.rmtree(path, ignore_errors=True)


def write_directory(path: Path, fill: Callable[[Path], None], needed_bytes: int) -> None:
    """Write a directory whole or not at all, `COMPLETE` last. Replaces an existing one.

    `needed_bytes`: about. Raises SaveError, DiskFullError.
    """
    if (free := disk.free_bytes(path)) < needed_bytes:
        raise DiskFullError(free, needed_bytes, path.name)
    try:
        files.write_directory(path, fill)
        seal(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch and safetensors report a full disk as errors of their own.
        free = disk.free_bytes(path)
        if disk.is_full(error) or free < needed_bytes:
            raise DiskFullError(free, needed_bytes, path.name) from error
        raise SaveError(
            f"could not write {path.name} in {path.parent} ({_reason(error)}): put that right and resume, "
            "the last whole checkpoint is intact"
        ) from error


def tensor_bytes(state: Any) -> int:
    """Count the bytes of all tensors in nested dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(tensor_bytes, inner))


def directory_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the trainable weights by name, tied ones once, whole. Of several processes, all have to call this; where
    weights are sharded, the first gets them.
    """
    return {
        name: gathered(p.detach()).contiguous() for name, p in model.named_parameters() if p.requires_grad
    }


def _reason(error: Exception) -> str:
    """Return the system's words where it refused something: torch reports what became of its file by that."""
    refusals = (cause.strerror for cause in causes(error) if isinstance(cause, OSError) and cause.strerror)
    return next(refusals, None) or first_line(error)
