"""Import libraries without their messages to developers, and without what they compile before anybody asks."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable
from functools import partial, wraps
from typing import Any


def quiet_libraries() -> None:
    """Keep messages of libraries to developers out of the output that people read. Imports transformers and, so that it
    is done here and not by PEFT, bitsandbytes.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports an optional kernel package
    import_bitsandbytes()


def import_bitsandbytes() -> None:
    """Import it, if it is installed, and let it compile when it first computes: as it is imported, it asks for four
    compiled functions, for which torch imports its whole compiler, a sixth of all that a run imports. PEFT imports it
    for every method.
    """
    import torch

    compile_now = torch.compile
    torch.compile = partial(_compile_later, compile_now)
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        pass  # whoever needs it says so
    finally:
        torch.compile = compile_now


def _compile_later(compile_now: Callable[..., Any], model: Any = None, **options: Any) -> Any:
    """Return what `torch.compile` would, as far as it is called."""
    if model is None:
        return partial(_compile_later, compile_now, **options)
    compiled: list[Callable[..., Any]] = []

    @wraps(model)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not compiled:
            compiled.append(compile_now(model, **options))
        return compiled[0](*arguments, **keywords)

    return call
