"""Tests compiled once for all processes of a session: to rewrite their assertions takes longer than to import them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
from _pytest.assertion import rewrite  # pytest does this as it imports a file, and offers no other way


def compile_tests(config: pytest.Config) -> None:
    """Leave what pytest leaves beside each file of tests, where that is not there yet or older than the file."""
    for path in [] if sys.dont_write_bytecode else sorted(Path(__file__).parent.rglob("test_*.py")):
        compiled = rewrite.get_cache_dir(path) / f"{path.stem}{rewrite.PYC_TAIL}"
        if compiled.exists() and compiled.stat().st_mtime > path.stat().st_mtime:
            continue
        with contextlib.suppress(SyntaxError):  # told by whoever runs it
            source, code = rewrite._rewrite_test(path, config)
            compiled.parent.mkdir(parents=True, exist_ok=True)
            rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, source, compiled)
