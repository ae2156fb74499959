"""Find and check a base model without loading it: bundled, a local directory, or a hub id. Torch-free."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.basics.errors import ModelError
from engine.bundled import catalogue
from engine.models.targets import in_mlp
from finetui.errors import first_line

HASHED_WHOLE = 64 * 2**20  # bytes
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
NEEDED = "a model directory has config.json, tokenizer.json and *.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """What is known about a model before it is loaded."""

    path: str  # what `from_pretrained` gets: a directory or a hub id
    local: Path | None  # None: on the hub, not downloaded yet
    architecture: str
    parameters: int | None
    linear_layers: tuple[str, ...]  # last parts of the names of two-dimensional weights, such as `q_proj`
    max_positions: int | None
    mlp_layers: tuple[str, ...] = ()  # those of `linear_layers` that are in MLPs


def resolve_model(source: str, task: str = "sft") -> ModelFiles:
    """Find a model. Raises ModelError if `source` is not one for this task that can be loaded from safetensors."""
    directory = locate(source)
    files = _local(directory, source) if directory else _from_hub(source)
    is_causal = files.architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    is_class = not files.architecture.islower()  # else the type of the model, where no class is named
    if is_class and not is_causal and task != "classification":
        raise ModelError(
            f"model {source}: is a {files.architecture}; task {task} needs a causal language model (…ForCausalLM)"
        )
    return files


def locate(source: str) -> Path | None:
    """Return the directory of a bundled or local model, None for a hub id. Raises ModelError for what is neither."""
    if source.startswith("bundled:"):
        try:
            return catalogue.model_path(source)
        except ValueError as error:
            raise ModelError(f"model {source}: {error}") from None
    path = Path(source).expanduser()
    if path.is_dir():
        return path.absolute()
    if path.is_file():
        raise ModelError(f"model {source}: is a file; give the directory that holds it ({NEEDED})")
    if source.startswith((".", "/", "~")) or not HUB_ID.fullmatch(source):
        raise ModelError(f"model {source}: there is no such directory; {NEEDED}")
    return None


def model_files_digest(directory: Path) -> str:
    """Return a digest of a model's files; of a large one, of its size, its time and both ends."""
    digest = hashlib.sha256()
    for file in sorted(path for path in directory.iterdir() if path.is_file()):
        size, time = file.stat().st_size, file.stat().st_mtime_ns
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as content:
            if size <= HASHED_WHOLE:
                digest.update(content.read())
                continue
            digest.update(str(time).encode() + content.read(2**20))
            content.seek(-(2**20), os.SEEK_END)
            digest.update(content.read())
    return digest.hexdigest()


def resolve(path: str) -> str:
    """Return the directory of a bundled or local model, or the hub id as it is. Raises ModelError."""
    directory = locate(path)
    if directory is None:
        return path
    if not (directory / "config.json").exists():
        raise ModelError(f"model {path}: the directory has no config.json; give one saved by transformers")
    return str(directory)


def _local(path: Path, source: str) -> ModelFiles:
    config = read_config(path / "config.json", source)
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        other = ", ".join(sorted(p.name for p in path.glob("*.bin")))
        hint = f"only {other}, and pickled weights are not loaded" if other else NEEDED
        raise ModelError(f"model {source}: has no *.safetensors in {path}; {hint}")
    if not any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(f"model {source}: has no tokenizer.json in {path}; copy the tokenizer's files there")
    shapes: dict[str, list[int]] = {}
    for file in weights:
        shapes |= tensor_shapes(file, source)
    return ModelFiles(
        path=str(path.absolute()),
        local=path.absolute(),
        architecture=_architecture(config, source),
        parameters=sum(prod(shape) for shape in shapes.values()),
        linear_layers=_linear_layers(shapes),
        max_positions=config.get("max_position_embeddings"),
        mlp_layers=_linear_layers({name: shape for name, shape in shapes.items() if in_mlp(name)}),
    )


def read_config(path: Path, source: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(
            f"model {source}: is not a model, there is no {path.name} in {path.parent}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"model {source}: {path} cannot be read as JSON ({error})") from None
    if not isinstance(config, dict):
        raise ModelError(f"model {source}: {path} is not a model's configuration")
    return config


def _architecture(config: dict[str, Any], source: str) -> str:
    names = config.get("architectures") or []
    name = names[0] if names else str(config.get("model_type", ""))
    if not name:
        raise ModelError(
            f"model {source}: its config.json names no architecture; is it an adapter or a tokenizer?"
        )
    return name


def tensor_shapes(path: Path, source: str) -> dict[str, list[int]]:
    """Read names and shapes from the header of a safetensors file: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 100_000_000:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        end = 8 + length + max(t["data_offsets"][1] for name, t in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model {source}: {path} is not a safetensors file ({error})") from None
    if path.stat().st_size < end:
        raise ModelError(f"model {source}: {path} is truncated; download or copy it again")
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def _linear_layers(shapes: dict[str, list[int]]) -> tuple[str, ...]:
    matrices = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 2]
    inside_blocks = [name for name in matrices if re.search(r"\.\d+\.", name)]
    return tuple(sorted({name.rsplit(".", 1)[-1] for name in inside_blocks}))


def _from_hub(source: str) -> ModelFiles:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        cached = try_to_load_from_cache(source, "config.json")
        # The estimate fetches the configuration alone.
        if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
            return _local(Path(cached).parent, source)
        info = HfApi().model_info(source, timeout=10)
    except ModelError:
        raise
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"model {source}: is neither a directory nor a model on the hub; check its name"
        ) from None
    except Exception as error:
        raise ModelError(
            f"model {source}: there is no such directory, it is not in the cache, and the hub does not answer "
            f"({first_line(error)}); give the path of a model directory"
        ) from None
    config = dict(info.config or {})
    total = info.safetensors.total if info.safetensors else None
    if total is None:
        raise ModelError(f"model {source}: has no safetensors weights on the hub; choose one that has")
    return ModelFiles(source, None, _architecture(config, source), total, (), None)


def check_targets(targets: str | list[str], model: ModelFiles) -> None:
    """Raise ModelError if a name in `method.targets` fits no layer of the model."""
    if isinstance(targets, str) or not model.linear_layers:
        return
    for target in targets:
        if target.rsplit(".", 1)[-1] not in model.linear_layers:
            raise unknown_target(target, model.architecture, model.linear_layers)


def unknown_target(target: str, architecture: str, layers: Sequence[str]) -> ModelError:
    """Return the error for a name in `method.targets` that is no layer."""
    near = difflib.get_close_matches(target, layers, n=1)
    hint = f"did you mean {near[0]}?" if near else f"layers: {', '.join(layers)}"
    return ModelError(f"key method.targets: {architecture} has no layer {target}; {hint}")


def setting(config: Any, name: str) -> Any:
    """Return a setting of a transformers configuration; None if it has none, or one for each layer (Gemma 4)."""
    try:
        return getattr(config, name, None)
    except Exception:  # a RuntimeError of its own
        return None


def check_token(path: str, largest: int, rows: int) -> None:
    """Raise ModelError if the largest token that was produced has no row in the embedding."""
    if largest >= rows:
        raise ModelError(
            f"model {path}: its tokenizer produces token {largest}, but the model knows only {rows}; "
            "use the tokenizer that belongs to the model"
        )
