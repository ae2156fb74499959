"""What is known of a model before its weights are loaded: whether it can be trained, and what of it. Torch-free.

A model without weights (on the "meta" device, engine/models/skeleton.py) is built in a process of its own, which takes
some seconds, so the outline is kept in the home. Plain architectures, whose weights the estimate knows, need none.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.basics import child
from engine.basics.errors import ModelError
from engine.models.source import locate, read_config
from engine.recipe.methods import Constrained, Freeze, Lora, Prefix, QLora, Shira
from engine.recipe.sections import Recipe
from finetui.errors import first_line
from finetui.files import make_private, write_whole_file
from finetui.home import home

MADE_BY = 1  # raise it where skeletons are described in another way
SECONDS = 300  # after which a skeleton is given up
# Causal decoders without experts, with one rotary embedding: a test compares what is assumed of them with skeletons.
PLAIN = (
    *(
        "llama",
        "mistral",
        "ministral",
        "granite",
        "smollm3",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
    ),
    *("phi3", "olmo", "olmo2", "olmo3", "gpt2"),
)


@dataclass(frozen=True)
class Outline:
    """A model without its weights, under one method. Weights are (name, shape, role), as in engine/memory/weights.py;
    tied ones once, linear layers [out, in]."""

    refusal: str | None = None  # one sentence: why it cannot be trained
    # Of the text model, sizes under the names that transformers gives them.
    config: dict[str, Any] | None = None
    weights: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    # None: not known (classes have new weights).
    trained: tuple[tuple[str, tuple[int, ...], str], ...] | None = None
    reached: str | None = None  # the layers that adapters or vectors are beside, for people
    notes: tuple[str, ...] = ()  # sentences about what is trained otherwise than one may think


def outline_of(recipe: Recipe, build: Callable[[Recipe], Outline] | None = None) -> Outline | None:
    """Return the outline of a recipe's model; None for a plain one, and for one whose config.json is not to be had.

    `build`: engine/models/skeleton.py's own, in a process that has torch anyway. Raises ModelError with the words of
    the worker if the model cannot be trained so.
    """
    config = config_of(recipe.model.path)
    if config is None or is_plain(recipe, config):
        return None
    outline = _KEPT.get(key := _key(recipe, config)) or _read(key)
    if outline is None:
        outline = (build or _ask)(recipe)
        if outline.refusal or outline.config:
            keep(recipe, outline)
    if outline.refusal:
        raise ModelError(outline.refusal)
    return outline


def is_plain(recipe: Recipe, config: dict[str, Any]) -> bool:
    """Whether nothing can be learned from a skeleton: an architecture that is known, with a method that fits it."""
    method = recipe.method
    return (
        config.get("model_type") in PLAIN
        and not config.get("is_encoder_decoder")
        and "auto_map" not in config
        and not isinstance(method, Prefix | Shira)
        and not (isinstance(method, Constrained) and config.get("model_type") == "gpt2")
        and not (isinstance(method, Freeze) and method.modules)
    )


def config_of(source: str) -> dict[str, Any] | None:
    """Return config.json, fetched from the hub if need be; None if that does not answer. Raises ModelError."""
    if directory := locate(source):
        return read_config(directory / "config.json", source)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json")
    try:
        path = cached if isinstance(cached, str) else hf_hub_download(source, "config.json", etag_timeout=5)
    except Exception:  # the hub's client raises many kinds
        return None
    return read_config(Path(path), source)


def keep(recipe: Recipe, outline: Outline) -> None:
    """Keep an outline in this process and in the home; where that cannot be written, it is made again."""
    if (config := config_of(recipe.model.path)) is None:
        return
    key = _key(recipe, config)
    _KEPT[key] = outline
    with suppress(OSError):
        path = _path(key)
        make_private(path.parent)
        write_whole_file(path, json.dumps(asdict(outline)))


def layers_of(names: Sequence[str]) -> dict[str, int]:
    """Return layers by their place in a block (`self_attn.q_proj`), each with how many blocks have one."""
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        numbers = [place for place, part in enumerate(parts) if part.isdigit()]
        inside = ".".join(parts[numbers[0] + 1 :]) if numbers else name
        inside = ".".join("*" if part.isdigit() else part for part in inside.split("."))
        counts[inside] = counts.get(inside, 0) + 1
    return counts


def listed(names: Sequence[str]) -> str:
    """Return layers in a few words: `self_attn.q_proj, self_attn.k_proj`, the block left out."""
    return ", ".join(layers_of(names))


_KEPT: dict[str, Outline] = {}


def _key(recipe: Recipe, config: dict[str, Any]) -> str:
    """Return a digest of all that an outline depends on; learning rates, ranks and data are not part of it."""
    libraries = [version(name) for name in ("torch", "transformers", "peft")]
    body = [MADE_BY, libraries, recipe.model.model_dump(), config, question(recipe)]
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()[:32]


def question(recipe: Recipe) -> dict[str, Any]:
    """Return what a skeleton is asked: the method at rank 1, to which other ranks are in proportion, and the task."""
    method = recipe.method.model_dump()
    if isinstance(recipe.method, Lora | QLora):
        method |= {"r": 1, "alpha": 1.0, "lr_ratio": 1.0, "rslora": False}
        method["dropout"] = 0.1 if recipe.method.dropout else 0.0
    return {"method": method, "task": recipe.task.name}


def _ask(recipe: Recipe) -> Outline:
    """Build the skeleton in a process of its own; an empty outline if that fails, since the worker will say why."""
    request = json.dumps({"model": recipe.model.model_dump(), **question(recipe)})
    try:
        started = child.start("engine.models.skeleton", stdin=request)
        given_up = threading.Timer(SECONDS, started.process.kill)
        given_up.start()
        try:
            return _from_json(started.read()[0].strip().splitlines()[-1])
        finally:
            given_up.cancel()
    except (OSError, ValueError, TypeError, IndexError) as error:
        return unknown(error)


def unknown(error: Exception) -> Outline:
    """Return the outline of a model that could not be looked at beforehand."""
    return Outline(notes=(f"what will be trained is not known before the run ({first_line(error)})",))


def _read(key: str) -> Outline | None:
    try:
        return _from_json(_path(key).read_text())
    except (OSError, ValueError, TypeError):
        return None


def _from_json(text: str) -> Outline:
    body = json.loads(text)
    for name in ("weights", "trained"):
        if body[name] is not None:
            body[name] = tuple((weight, tuple(shape), role) for weight, shape, role in body[name])
    return Outline(**body | {"notes": tuple(body["notes"])})


def _path(key: str) -> Path:
    return home().cache / "outlines" / f"{key}.json"
