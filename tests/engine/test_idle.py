"""The command that is run when there is nothing left to do."""

from __future__ import annotations

import time
from pathlib import Path

from supervision import until
from with_daemon import a_home, submit, wait_state

from engine.queue.idle import Idle, WhenIdle
from finetui.daemon import connect

STOP = WhenIdle("stop", 10.0)


def due(idle: Idle, now: float, *, work: bool = False, asked: float = 0.0, when: WhenIdle = STOP) -> bool:
    return idle.look(when, work=work, last_request=asked, now=now)


def test_it_is_due_once_after_so_long_without_work_and_requests() -> None:
    idle = Idle(1000.0)
    assert not due(idle, 1000.0 + 599)
    assert not due(idle, 1000.0 + 601, asked=1100.0)
    assert not due(idle, 1800.0, when=WhenIdle())
    assert due(idle, 1701.0, asked=1100.0)
    assert not due(idle, 9999.0), "once"
    assert not due(idle, 10_000.0, work=True)
    assert not due(idle, 10_599.0)
    assert due(idle, 10_601.0)


def test_not_while_a_run_is_held_or_somebody_looks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with a_home(tmp_path / "home") as home:
        home.config.write_text(
            f'when_idle_command = "echo stopped >> {out}"\nwhen_idle_minutes = 0.02\n'
        )  # 1.2 s
        with connect(home) as client:
            held = submit(client, steps=3)
            wait_state(client, held, "finished")
            waiting = client.action("submit", recipe=RECIPE, name="held", held=True)["run"]
            time.sleep(3)
            assert not out.exists(), "a run is held"
            client.action("cancel", run=waiting)
            for _ in range(8):
                time.sleep(0.3)
                client.action("status")
            assert not out.exists(), "somebody looks"
        until("the command", out.exists)
        time.sleep(2)
        assert out.read_text() == "stopped\n"


RECIPE = {"model": "m", "method": "lora", "data": {"train": "x"}}
