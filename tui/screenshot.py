"""A picture of the dashboard over a real home, for the README.

    FINETUI_HOME=… python -m tui.screenshot OUT.svg [RUN …]

The runs named (the last three if none) are marked, so that they share the charts.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from finetui.home import home
from tui.app import FinetuiApp
from tui.state import ChartView

SIZE = (140, 40)
PATIENCE_S = 60.0


async def picture(numbers: list[int]) -> str:
    """The dashboard as SVG once everything it asked for has come. Raises SystemExit when nothing comes."""
    app = FinetuiApp(home(), unicode=True)
    state = app.state
    app.home_name = "~/.local/share/finetui"
    state.view = ChartView()  # not as some earlier session left it
    async with app.run_test(size=SIZE) as pilot:
        end = time.monotonic() + PATIENCE_S
        marked = False
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            await pilot.pause()
            if not state.snapshot.loaded:
                continue
            if not marked:
                state.marked = numbers or sorted(run.number for run in state.snapshot.runs)[-3:]
                flagged = (
                    number for number in state.marked if (run := state.snapshot.run(number)) and run.flags
                )
                state.run_list.cursor = next(flagged, state.marked[0])
                app.refresh_screen()
                marked = True
            elif app.settled():
                await pilot.pause(0.2)
                return app.export_screenshot(title="finetui")
    raise SystemExit(f"no picture: {state.snapshot.trouble or 'the data did not come'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="where the SVG goes")
    parser.add_argument("runs", type=int, nargs="*", help="runs to mark")
    options = parser.parse_args()
    options.out.write_text(asyncio.run(picture(options.runs)))


if __name__ == "__main__":
    main()
