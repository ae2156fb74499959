"""The bundled model with two of its five layers: most tests that train for some steps ask nothing of the others."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

from safetensors import deserialize

from engine.bundled.catalogue import model_path

KEPT = ("0", "4")  # the first layer and the last


def save_shallow(folder: Path) -> None:
    """Save it, without torch."""
    shutil.copytree(model_path("stdlib-2m"), folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, tensor in deserialize(weights.read_bytes()):
        layer = re.search(r"(?<=\.layers\.)\d+", name)
        if layer and layer[0] not in KEPT:
            continue
        if layer:
            name = f"{name[: layer.start()]}{KEPT.index(layer[0])}{name[layer.end() :]}"
        places = [len(data), len(data) + len(tensor["data"])]
        header[name] = {"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": places}
        data += tensor["data"]
    text = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(text)) + text + data)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": len(KEPT)}))
