"""What a program computes on, as far as its own torch tells: torch is not imported for it, and no GPU is touched."""

from __future__ import annotations

import os
import sys
from typing import Any


def devices(at_least: int = 1, processes: int | None = None) -> dict[str, Any]:
    """Return `device` and `gpus` of a run's plan; nothing before this process has used a GPU. `at_least`: GPUs of this
    process, which may not have used all of them yet; `processes`: that do the same, by default as torchrun says.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        if cuda is None or not cuda.is_initialized():
            return {}
        used = [index for index in range(cuda.device_count()) if cuda.memory_reserved(index)]
        name = cuda.get_device_name(used[0] if used else None)
        count = max(at_least, len(used)) * (processes or int(os.environ.get("WORLD_SIZE") or 1))
    except Exception:  # another torch, or a driver that fails: the training goes on
        return {}
    return {"device": f"{count} × {name}" if count > 1 else name, "gpus": count}
