"""Forked by the pool for a test: calls the function that a file names, as a process of its own."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

if __name__ == "__main__":
    with Path(sys.argv[1]).open("rb") as file:
        sys.path[:] = pickle.load(file)
        function, arguments = pickle.load(file)
    function(*arguments)
