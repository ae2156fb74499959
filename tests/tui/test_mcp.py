"""`finetui mcp` as an assistant has it: the package's own client, a server of its own, a real daemon behind it."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from live import RECIPE, Line
from mcp import Client, StdioServerParameters
from mcp.types import Implementation
from supervision import until
from with_daemon import FOREVER, a_home, directory, submit, wait_state

from engine.queue.agents import Right
from finetui.client import Client as Daemon
from finetui.daemon import connect
from finetui.errors import ExitCode
from finetui.home import Home
from finetui.log import LogWriter
from finetui.start import ROOT, program
from tui.cli.bounded import LONGEST_TEXT, MOST_CHARACTERS, bounded

TRUSTED = 'agents_may = ["queue", "fix", "stop"]\nagent_runs_per_day = 4\n'
FLAG: dict[str, Any] = {
    "step": 2, "flag": "forgetting", "level": "warn", "since_step": 2, "suite": "general", "n": 8, "looks": 2,
    "message": "It is so.", "worst": [], "advice": ["Lower the learning rate."],
    "actions": [{"text": "Lower the learning rate.", "change": {"train.lr": 1e-4}, "source": "lin2025"}],
}  # fmt: skip
SWEEP = f"{RECIPE}sweep: {{seed: [1, 2, 3, 4, 5]}}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One finished run; assistants may read."""
    with a_home(tmp_path_factory.mktemp("agents") / "home") as home:
        home.config.write_text("concurrency = 1\n")
        with connect(home) as client:
            wait_state(client, submit(client, steps=3), "finished")
        yield home


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    with connect(home) as client:
        yield client


class Tools:
    """The tools of a session, each called by its name."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The answer. Fails where the tool refuses."""
        said = await self.client.call_tool(name, arguments)
        assert not said.is_error, said.content
        assert json.loads(said.content[0].text) == said.structured_content  # type: ignore[union-attr]
        assert len(json.dumps(said.structured_content)) <= MOST_CHARACTERS + 200
        return dict(said.structured_content or {})

    async def refused(self, name: str, **arguments: Any) -> str:
        """The sentence with which a tool refuses."""
        said = await self.client.call_tool(name, arguments)
        assert said.is_error
        sentence = said.content[0].text  # type: ignore[union-attr]
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        return sentence


@asynccontextmanager
async def session(folder: Path) -> AsyncIterator[Tools]:
    command, *arguments = program("finetui", "mcp")
    server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ), cwd=folder)
    info = Implementation(name="helper", version="1")
    async with Client(server, client_info=info, mode="legacy") as client:
        yield Tools(client)


async def test_an_assistant_reads_what_commands_say_and_changes_nothing(
    home: Home, daemon: Daemon, tmp_path: Path, finetui: Line
) -> None:
    (tmp_path / "my.yaml").write_text(RECIPE)
    async with session(tmp_path) as tools:
        named = {tool.name: tool for tool in (await tools.client.list_tools()).tools}
        assert all(tool.description and tool.annotations for tool in named.values())
        listed = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs" / "agents.md").read_text(), re.MULTILINE)
        assert set(named) == set(re.findall(r"`(\w+)`", " ".join(listed))) - set(get_args(Right))
        for tool in named.values():
            arguments = tool.input_schema["properties"].values()
            assert all("type" in one or "anyOf" in one for one in arguments)
        assert (await tools("list_runs"))["runs"] == json.loads(finetui("ls", "--json").out)
        assert (await tools("list_runs", filter="state:finished"))["matched"] == 1
        assert await tools("show_run", run=1) == json.loads(finetui("show", 1, "--json").out)
        assert (await tools("read_output", run=1))["lines"] == ["training"]
        checked = await tools("check_recipe", recipe="my.yaml", changes=["seed=7"])
        assert [(run["recipe"]["seed"], run["heldout_examples"]) for run in checked["runs"]] == [(7, 8)]
        assert (await tools("show_data", recipe=RECIPE))["refusals"] == []
        assert (await tools("estimate_memory", recipe=RECIPE, gpu_gb=24))["fits"]
        answer = await tools("sql", query="SELECT range AS n FROM range(9)", rows=2)
        assert answer["rows"] == [{"n": 0}, {"n": 1}]
        assert answer["left_out"]
        assert (await tools("rights"))["may"] == []
        for name, arguments in {
            "show_run": {"run": 9},
            "read_output": {"run": 9},
            "wait": {"runs": [9]},
            "compare_runs": {"runs": [1, 9]},
            "list_runs": {"filter": "state:failed"},
            "sql": {"query": "DROP TABLE runs"},
            "check_recipe": {"recipe": "none.yaml"},
            "propose_fix": {"run": 1},
        }.items():
            assert await tools.refused(name, **arguments)
        line = f'put agents_may = ["queue"] into {home.config}'
        assert line in await tools.refused("queue_run", recipe=RECIPE)
        assert 'agents_may = ["queue"]' in await tools.refused("queue_fix", run=1)
        assert 'agents_may = ["stop"]' in await tools.refused("stop_run", run=1)
        code = f"{RECIPE}evals: {{metrics: ['mine:score']}}\n"
        assert '"programs"' in await tools.refused("show_data", recipe=code)
    assert daemon.action("status")["queued"] == []
    assert [run["run"] for run in json.loads(finetui("ls", "--json").out)] == [1]


async def test_an_assistant_queues_waits_and_stops_within_its_day(
    home: Home, daemon: Daemon, tmp_path: Path, finetui: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.config.write_text(f"concurrency = 1\n{TRUSTED}")
    until("the new configuration", lambda: daemon.action("agent")["may"] == ["fix", "queue", "stop"])
    async with session(tmp_path) as tools:
        assert "5 more" in await tools.refused("queue_run", recipe=SWEEP), "none of them"
        forever = f'# {{"steps": {FOREVER}}}\n{RECIPE}'
        made = await tools("queue_run", recipe=forever, note="longer", tags=["mine"])
        (going,) = made["runs"]
        assert made["queued"][0]["tags"] == "mine"
        assert made["rights"]["runs_left"] == 3
        assert any("40 training rows are few" in warning for warning in made["warnings"])
        began = await tools("wait", runs=[going], every=True, since=0)
        assert began["events"][0]["message"] == "submitted by helper 1"
        wait_state(daemon, going, "running")
        log = LogWriter(directory(home, going).attempt(1).events, "worker", going, 1)
        log.write("flag", **FLAG)
        log.close()
        told = await tools("wait", runs=[going], since=began["now"])
        assert [event["message"] for event in told["events"]] == ["forgetting: It is so."]
        assert (await tools("show_run", run=going))["flags_raised"][0]["actions"] == FLAG["actions"]
        proposal = await tools("propose_fix", run=going)
        made = await tools("queue_fix", run=going)
        assert made["changes"] == proposal["changes"]
        assert [change["key"] for change in made["changes"]] == ["train.lr"]
        assert made["queued"][0]["parent"] == going
        # One that waits holds up no other.
        waits = asyncio.create_task(tools("wait", runs=[going], since=told["now"], seconds=100))
        assert (await tools("list_runs"))["matched"] == 3
        assert not waits.done()
        assert "cancelled" in (await tools("stop_run", run=going))["says"]
        over = await waits
        assert over["events"][-1]["state"] == over["runs"][0]["state"] == "cancelled"
        assert (await tools("wait", runs=[going]))["runs"][0]["run"] == going, (
            "at once: nothing more will come"
        )
        assert (await tools("show_run", run=going))["asked"][1]["by"] == "helper 1"
    shown = finetui("show", going).out
    assert "Asked by assistants" in shown
    assert shown.count("helper 1") == 2

    # A shell that names its assistant has the same rights, and shares the day.
    monkeypatch.setenv("FINETUI_AGENT", "shell helper")
    (tmp_path / "my.yaml").write_text(RECIPE)
    ended = finetui("run", tmp_path / "my.yaml", "sweep.seed=[1, 2]", "--json")
    assert ended.code == ExitCode.OK, ended.err
    ended = finetui("run", tmp_path / "my.yaml", "sweep.seed=[1, 2]")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert "have queued 4 of 4 runs" in ended.err
    ended = finetui("note", 1, "mine")
    assert ended.code == ExitCode.REFUSED
    assert "an assistant may not ask the daemon to note" in ended.err


def test_a_long_answer_is_shortened_and_says_so() -> None:
    rows = [{"n": at, "text": "x" * 50} for at in range(5000)]
    answer = bounded({"rows": rows, "few": [1, 2], "text": "y" * 9999, "nan": float("nan")})
    assert len(json.dumps(answer)) <= MOST_CHARACTERS + 200
    assert answer["few"] == [1, 2]
    assert answer["nan"] == "NaN"
    assert len(answer["text"]) == LONGEST_TEXT + 1
    assert answer["rows"] == rows[: len(answer["rows"])]
    assert answer["cut"] == [
        f"text: texts end after {LONGEST_TEXT:,} characters",
        f"rows: the first {len(answer['rows'])} of 5000",
    ]
    assert bounded({"rows": rows[:3]}) == {"rows": rows[:3]}
    evals = [{"step": at, "text": "x" * 50} for at in range(5000)]
    late = bounded({"evals": evals})
    assert late["evals"] == evals[-len(late["evals"]) :]
    assert late["cut"] == [f"evals: the last {len(late['evals'])} of 5000"]
    wide = bounded({"deep": {str(at): "z" * 100 for at in range(1000)}, "few": [1]})
    assert wide["deep"] == {}
    assert wide["few"] == [1]
