"""`finetui rm`, `restore` and `clean` on a real daemon, and the store beside them."""

from __future__ import annotations

import json

from live import Line, Live
from supervision import until
from with_daemon import directory, row

from finetui.errors import ExitCode


def known(live: Live, number: int) -> bool:
    live.client.action("drain")
    return bool(live.client.query(f"SELECT 1 FROM runs WHERE run = {number}").to_pylist())


def test_removed_runs_are_gone_from_the_store_and_come_back(live: Live, finetui: Line) -> None:
    number = live.ended(steps=3)
    steps = live.client.query(f"SELECT count(*) AS n FROM metrics WHERE run = {number}").to_pylist()
    asked = finetui("rm", number)
    assert asked.code == ExitCode.REFUSED
    assert "no terminal to ask on; add --yes" in asked.err
    assert "Fake Run" in asked.out
    ended = finetui("rm", number, 999, live.waiting(), "--yes")
    assert ended.code == ExitCode.REFUSED, "one is not there, and one waits"
    assert "there is no run #999" in ended.err
    assert "cancel or pause it before you remove it" in ended.err
    assert f"#{number} is removed" in ended.out
    assert until("the store forgets it", lambda: not known(live, number)) is not None
    assert f"finetui restore {number} brings it back" in finetui("requeue", number).err
    assert f"000{number:03d}-fake-run~" in finetui("restore").out
    assert finetui("restore", number).code == ExitCode.OK
    until("the store knows it again", lambda: known(live, number))
    again = f"SELECT count(*) AS n FROM metrics WHERE run = {number}"
    until("all of it", lambda: live.client.query(again).to_pylist() == steps)
    assert row(live.client, number)["state"] == "finished"
    assert finetui("restore", number).code == ExitCode.REFUSED


def test_removed_runs_are_deleted_for_good(live: Live, finetui: Line) -> None:
    number = live.ended(steps=3)
    asked = finetui("rm", number, "--json")
    assert (asked.code, asked.out) == (ExitCode.REFUSED, "")
    ended = finetui("rm", number, 999, "--yes", "--json")
    gone = {one["run"]: one for one in json.loads(ended.out)}
    assert ended.code == ExitCode.REFUSED
    assert (gone[999]["outcome"], gone[number]["says"]) == ("refused", "is removed")
    listed = {one["run"]: one for one in json.loads(finetui("restore", "--json").out)}
    assert listed[number]["uuid"] == gone[number]["uuid"]
    assert listed[number]["bytes"] == gone[number]["bytes"] > 0
    ended = finetui("clean", "--removed", "--yes", "--json")
    assert ended.code == ExitCode.OK
    freed = {one["run"]: one for one in json.loads(ended.out)}
    assert freed[number] == {**gone[number], "says": "is deleted for good"}
    assert "deleted for good" in ended.err
    assert "it has been deleted for good" in finetui("restore", number).err
    assert not known(live, number)
    assert "no run was removed" in finetui("clean", "--removed").err


def test_old_checkpoints_are_freed(live: Live, finetui: Line) -> None:
    number = live.ended(steps=8)
    run = directory(live.home, number)
    for _, path in run.whole_checkpoints():
        (path / "optimiser.pt").write_bytes(b"x" * 100_000)
    assert "no terminal to ask on" in finetui("clean", number).err
    ended = finetui("clean", number, "--yes")
    assert ended.code == ExitCode.OK
    assert "freed" in ended.err
    assert not list(run.checkpoints.glob("*/optimiser.pt"))
    last = run.whole_checkpoints()[-1][0]
    assert finetui("clean", number, "--checkpoints", "--yes").code == ExitCode.OK
    assert [step for step, _ in run.whole_checkpoints()] == [last]
    assert "nothing to free" in finetui("clean", number).err
