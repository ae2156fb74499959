"""What has to be asked to show the machine. What it becomes is in hardware.py: the first paint does not wait for it."""

from __future__ import annotations

from tui.rows import ask

STEP_S, STEPS = 10, 60  # the history: ten minutes
LATEST, MACHINE = ask("hardware"), ask("machine")
HISTORY = ask("hardware_history", seconds=STEP_S * STEPS, step=STEP_S)
