"""Levels of lines as libraries really print them, of tracebacks whole, and what is not taken for one."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tui.lines.log_levels import Level, LevelReader, level_of


@pytest.mark.parametrize(
    ("line", "level"),
    [
        # finetui's worker
        ("09:47:42  data        bundled:docstrings", Level.INFO),
        ("09:47:43  warning     error.jsonl: 11 of 2899 rows are cut", Level.WARNING),
        ("09:47:45  info        no warning at all", Level.INFO),
        ("09:47:45  flag leak   info: 1 of 100 held-out rows overlap", Level.INFO),
        ("09:47:45  flag forgetting  warn: general loss has risen", Level.WARNING),
        ("09:47:45  flag overfitting  critical: held-out loss has risen", Level.ERROR),
        ("09:47:45  failed      at step 3: out of memory", Level.ERROR),
        ("09:47:45 CEST  flag forgetting  warn: general loss has risen", Level.WARNING),
        ("09:47:45 +0545  failed      at step 3: out of memory", Level.ERROR),
        ("warning: checkpoints/step-000008 is damaged", Level.WARNING),
        # logging and what is built on it: basicConfig, transformers, accelerate, axolotl
        ("WARNING:root:x", Level.WARNING),
        ("INFO:datasets.builder:Overwrite dataset info", Level.INFO),
        ("2026-01-01 10:00:00,123 ERROR engine: x", Level.ERROR),
        ("2026-01-01T10:00:00Z CRITICAL x", Level.ERROR),
        ("[WARNING|modeling_utils.py:1234] 2026-01-01 10:00:00,123 >> x", Level.WARNING),
        ("01/01/2026 10:00:00 - WARNING - __main__ - x", Level.WARNING),
        ("2026-01-01 10:00:00,123 - my.module - DEBUG - x", Level.DEBUG),
        ("[2026-01-01 10:00:00,123] [ERROR] [axolotl.train:12] [PID:7] x", Level.ERROR),
        ("2026-01-01 10:00:00.000 | WARNING  | module:fn:1 - x", Level.WARNING),  # loguru
        ("\x1b[33mWARNING\x1b[0m: x", Level.WARNING),
        ("[rank0]:[W101 10:00:00.12 ProcessGroup.cpp:1] x", Level.INFO),  # no date of glog
        ("[rank0]:[W0101 10:00:00.123456 ProcessGroup.cpp:1] x", Level.WARNING),
        ("E0101 10:00:00.123456 12 file.cc:3] x", Level.ERROR),
        ('{"time": "10:00", "level": "warning", "msg": "x"}', Level.WARNING),
        ("kernel.cu:12:3: warning: unused", Level.WARNING),
        ("ninja: error: loading build.ninja", Level.ERROR),
        # Python
        ("/lib/x.py:12: UserWarning: x", Level.WARNING),
        ("torch.OutOfMemoryError: CUDA out of memory.", Level.ERROR),
        ("KeyboardInterrupt", Level.ERROR),
        # words that are no level
        ("step 3: training error rate 0.3", Level.INFO),
        ("{'loss': 1.2, 'error': 0.1}", Level.INFO),
        ("no errors, 3 warnings", Level.INFO),
        ("Warnings are off", Level.INFO),
    ],
)
def test_what_a_line_says_of_itself(line: str, level: Level) -> None:
    assert LevelReader().of(line) is level


PROGRAM = """
import logging, sys, warnings
logging.basicConfig(stream=sys.stdout, level=logging.DEBUG)
sys.stderr = sys.stdout
print("begin")
logging.debug("a detail")
warnings.warn("deprecated")
print("plain")
try:
    try:
        {}["key"]
    except KeyError:
        raise ValueError("two\\n  lines")
except ValueError:
    logging.exception("it went wrong")
print("on")
raise RuntimeError("the end")
"""


def test_what_python_prints_stays_together() -> None:
    """Real output of `logging`, `warnings` and the interpreter."""
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    reader = LevelReader()
    levels = [(line, reader.of(line)) for line in printed]
    assert ("begin", Level.INFO) in levels
    assert ("DEBUG:root:a detail", Level.DEBUG) in levels
    assert [line for line, level in levels if level is Level.WARNING] == [
        "<string>:7: UserWarning: deprecated"
    ]
    start = printed.index("ERROR:root:it went wrong")
    block = [level for _, level in levels[start : printed.index("on")]]
    assert len(block) > 10
    assert set(block) == {Level.ERROR}, "both exceptions of the chain"
    assert ("on", Level.INFO) in levels
    last = printed.index("on") + 1
    assert printed[last].startswith("Traceback")
    assert printed[-1] == "RuntimeError: the end"
    assert {level for _, level in levels[last:]} == {Level.ERROR}


def test_every_level_of_logging_is_known() -> None:
    for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
        assert level_of(f"{name}:root:x") is Level[name]
    assert level_of(f"{logging.getLevelName(logging.CRITICAL)}:root:x") is Level.ERROR
