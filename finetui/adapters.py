"""Several adapters on one base, swapped at inference without loading the base again.

PEFT holds several adapters only of one kind in a model, and some kinds rewrite its layers. So each adapter
gets a tree of modules of its own over the very same weight tensors: it costs its own weights and a few
Python objects, the base is never touched, and swapping is the choice of a tree. Two adapters may even be
used at the same time.
"""

from __future__ import annotations

import copy
import itertools
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetui import bottleneck
from finetui.bottleneck import AdapterError
from finetui.errors import first_line

PEFT_CONFIG = "adapter_config.json"

# They take part of the base's weights into the adapter, and on loading subtract it from the base.
REWRITE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class Adapters:
    """A base model and the adapters loaded beside it. `model` is what the last `use` chose."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self._models: dict[str, Any] = {}
        self._active: str | None = None

    @property
    def model(self) -> Any:
        """The model in use: the base, or the base with an adapter; call it, or its `generate`."""
        return self._base if self._active is None else self._models[self._active]

    @property
    def active(self) -> str | None:
        """The adapter in use; None is the base."""
        return self._active

    @property
    def names(self) -> list[str]:
        return list(self._models)

    def load(self, name: str, directory: Path) -> None:
        """Read an adapter saved by PEFT or by `bottleneck.save` (a run's `adapter/`). Raises AdapterError.

        It is not in use before `use` says so.
        """
        if name in self._models:
            raise AdapterError(f"adapter name {name!r}: one of this name is loaded; choose another")
        tree = share(self._base)
        if (directory / bottleneck.CONFIG_FILE).exists():
            model = bottleneck.load(tree, directory)
            bottleneck.set_active(model, "default")
        else:
            model = _load_peft(tree, directory)
        self._models[name] = model.eval()

    def unload(self, name: str) -> None:
        """Remove an adapter; if it was in use, the base is from now on."""
        self._check_name(name)
        del self._models[name]
        if self._active == name:
            self._active = None

    def use(self, name: str | None) -> Any:
        """Choose an adapter, or the base with None, and return `model`. Raises AdapterError."""
        self._check_name(name)
        self._active = name
        return self.model

    @contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """Use an adapter inside this context."""
        before = self._active
        try:
            yield self.use(name)
        finally:
            self._active = before

    def _check_name(self, name: str | None) -> None:
        if name is not None and name not in self._models:
            raise AdapterError(
                f"no adapter named {name!r} is loaded; there is: {', '.join(self._models) or 'none'}"
            )


def share(model: Any) -> Any:
    """Return the same model as a new tree of modules over the very same parameters and buffers."""
    kept = itertools.chain(
        model.parameters(),
        model.buffers(),
        # bitsandbytes keeps the constants of 4-bit weights in a plain attribute.
        filter(None, (getattr(module, "quant_state", None) for module in model.modules())),
    )
    return copy.deepcopy(model, {id(tensor): tensor for tensor in kept})


def _load_peft(tree: Any, directory: Path) -> Any:
    from peft import PeftModel

    path = directory / PEFT_CONFIG
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise AdapterError(
            f"{path}: cannot be read ({error.strerror}); give a directory with a saved adapter"
        ) from None
    except ValueError as error:
        raise AdapterError(f"{path}: is not valid JSON ({error}); save the adapter again") from None
    start = str(config.get("init_lora_weights") or "").lower()
    if start.startswith(REWRITE_BASE):
        raise AdapterError(
            f"{path}: an adapter that began as {start} changes the base's weights, which others share; "
            "save it converted to plain LoRA (PEFT's path_initial_model_for_weight_conversion)"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys")  # it would go on without them
            return PeftModel.from_pretrained(tree, directory, is_trainable=False)
    except (UserWarning, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{directory}: the adapter cannot be loaded onto this model ({first_line(error)})"
        ) from None
