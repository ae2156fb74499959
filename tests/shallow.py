"""The bundled model with two of its five layers, of which a quarter is left between attention and attention: most tests
that train for some steps ask nothing of the rest.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from engine.bundled.catalogue import model_path

KEPT = ("0", "4")  # the first layer and the last
WIDTH = 128  # of 512 between attention and attention


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
        values = np.frombuffer(tensor["data"], np.uint16).reshape(tensor["shape"])  # bfloat16
        if ".mlp." in name:
            values = values[:, :WIDTH] if "down_proj" in name else values[:WIDTH]
        places = [len(data), len(data) + values.nbytes]
        header[name] = {"dtype": tensor["dtype"], "shape": values.shape, "data_offsets": places}
        data += values.tobytes()
    text = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(text)) + text + data)
    sizes = {"num_hidden_layers": len(KEPT), "intermediate_size": WIDTH}
    config.write_text(json.dumps(json.loads(config.read_text()) | sizes))
