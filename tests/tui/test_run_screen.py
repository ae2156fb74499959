"""What must be read whole on a small screen: why a run failed, and its number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import made_home
import pytest
from made_home import NOW, Served, make_run, say
from pilot import ready, text_of

from finetui.home import Home
from tui.app import FinetuiApp

REASON = (
    "out of memory: an example of 121 tokens alone does not fit into 10 MiB, it needs 536 MiB; "
    "lower train.max_length, set train.activation_checkpointing=true, or use method.name=qlora"
)


@pytest.fixture
def failed(tmp_path: Path) -> Iterator[Served]:
    home = Home(tmp_path / "h")
    for number, reason in ((7, REASON), (12345, REASON * 9)):
        run = make_run(home, number, "support-lora-r-8-lr-0-0012")
        say(run, "ended", state="failed", reason=reason, attempt=1, exit_code=4, t=NOW)
    with made_home.served(home) as running:
        yield running


async def test_the_reason_of_a_failed_run_is_read_whole(failed: Served) -> None:
    app = FinetuiApp(failed.home, [7], connect=failed.connect, unicode=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("enter")
        await ready(pilot)
        shown = " ".join(text_of(app, "#about").split())
        assert shown == f"failed: {REASON} · r goes on with it"
        assert app.screen.query_one("#section").size.height > 10
        await pilot.resize_terminal(200, 50)
        await ready(pilot)
        assert app.screen.query_one("#about").size.height == 2
        await pilot.press("escape", "k", "enter")
        await ready(pilot)
        await pilot.resize_terminal(80, 24)
        await ready(pilot)
        assert text_of(app, "#about").splitlines()[7] == " … the rest: 6"
        await pilot.press("6", "G")
        await ready(pilot)
        assert text_of(app, "#section").count("use method.name=qlora") > 1


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_numbers_of_runs_are_whole_and_names_keep_their_end(
    failed: Served, size: tuple[int, int]
) -> None:
    app = FinetuiApp(failed.home, [7], connect=failed.connect, unicode=True)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        lines = text_of(app, "#table").splitlines()
        assert [line.split()[0].strip("▌●■") or line.split()[1] for line in lines[1:3]] == ["#12345", "#7"]
        assert all("0-0012" in line for line in lines[1:3])
