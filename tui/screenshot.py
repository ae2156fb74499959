"""Pictures of the screens over a real home, for the documentation.

    FINETUI_HOME=… python -m tui.screenshot FOLDER [RUN …]

The runs named (the last three if none) are marked, so that they share the charts. Each picture is made by pressing the
keys of `PICTURES` on the dashboard.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from finetui.home import home
from tui.app import FinetuiApp
from tui.state import ChartView

SIZE = (140, 40)
PATIENCE_S = 60.0
PROCESS_S = 4.0
PICTURES: dict[str, tuple[str, ...]] = {
    "dashboard": (),
    "groups": ("b", "s"),
    "hardware": ("4", "z"),
    "jump": ("semicolon",),
    "run": ("enter",),
    "compare": ("c",),
    "examples": ("X", "1"),  # of the first of the flags
    "new-run": ("A", "r"),
    "sql": ("colon", "f5"),
}


async def picture(numbers: list[int], keys: tuple[str, ...]) -> str:
    """What a few keys lead to, as SVG, once everything it asked for has come. Raises SystemExit when nothing comes."""
    app = FinetuiApp(home(), unicode=True)
    state = app.state
    app.home_name = "~/.local/share/finetui"
    state.view = ChartView()  # not as some earlier session left it
    state.run_list.by, state.run_list.sort, state.run_list.down = "", "#", True
    async with app.run_test(size=SIZE) as pilot:
        await _settled(app, pilot)
        state.marked = numbers or sorted(run.number for run in state.snapshot.runs)[-3:]
        flagged = (number for number in state.marked if (run := state.snapshot.run(number)) and run.flags)
        state.run_list.go_to(next(flagged, state.marked[0]))
        app.refresh_screen()
        await _settled(app, pilot)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(PROCESS_S)  # what a process says (a check) comes later than what the store says
            await _settled(app, pilot)
        return app.export_screenshot(title="finetui")


async def _settled(app: FinetuiApp, pilot: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        await asyncio.sleep(0.2)
        await pilot.pause()
        if app.settled():
            return
    raise SystemExit(f"no picture: {app.state.snapshot.trouble or 'the data did not come'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the SVGs go")
    parser.add_argument("runs", type=int, nargs="*", help="runs to mark")
    options = parser.parse_args()
    for name, keys in PICTURES.items():
        (options.folder / f"{name}.svg").write_text(asyncio.run(picture(options.runs, keys)))


if __name__ == "__main__":
    main()
