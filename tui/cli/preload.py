"""What the pool imports for the commands that it runs (forked.py): all of them, and what they import later."""

# ruff: noqa: E402, F401
from __future__ import annotations

import os

JEMALLOC = "JE_ARROW_MALLOC_CONF"  # read as pyarrow is imported
# Else its allocator starts a thread, and a process with two must not fork.
before = os.environ.get(JEMALLOC)
os.environ[JEMALLOC] = "background_thread:false"
import pyarrow.flight

del os.environ[JEMALLOC]
if before is not None:
    os.environ[JEMALLOC] = before

import engine.client.submit
import engine.flags.power
import finetui.client
import tui.cli.commands
import tui.cli.compare
import tui.cli.disposal
import tui.cli.forked
import tui.cli.ls
import tui.cli.queue
import tui.cli.selection
import tui.cli.service
import tui.cli.show
import tui.cli.sql
import tui.cli.sweep

# What is worked out once for all: how the words of each command are read.
commands = tui.cli.commands.parser()
for name in tui.cli.forked.SHORT:
    commands.commands[name].make_context(name, [], resilient_parsing=True)
commands.make_context("finetui", [], resilient_parsing=True)
engine.client.submit.versions()
