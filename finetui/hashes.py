"""What a recipe, or anything else that JSON can hold, is known by."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def short_hash(tree: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a tree as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
