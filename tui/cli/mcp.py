"""`finetui mcp`: the home for assistants, over the Model Context Protocol on stdin and stdout.

Tools that are functions run in threads of their own, so that one that takes long holds up no other.
"""

from __future__ import annotations

import functools
import inspect
import signal
import sys
from collections.abc import Callable
from typing import Any

from engine.basics.errors import QueueError
from finetui.errors import FinetuiError
from tui.cli.bounded import bounded
from tui.cli.output import say

MISSING = "finetui mcp needs the package mcp, version 2 or newer: pip install 'finetui[mcp]'"
INSTRUCTIONS = """\
finetui trains language models on this machine: runs are queued, run by a daemon, and measured against their base model.
Read first: list_runs, then show_run. Before you queue anything: check_recipe, show_data, estimate_memory, and rights.
What you may do besides reading is in the user's config.toml; a refusal names the line, which only the user should add.
A difference counts only if its interval leaves out 0 (compare_runs, `paired`). Flags in show_run come with evidence and
advice; propose_fix turns them into a recipe. After queueing, call wait again and again with `since`, instead of asking
for the run. Answers are shortened: `cut` says what is left out; sql and show_run have the rest."""


def serve() -> None:
    """Serve until stdin ends. Raises QueueError without the package."""
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.types import ToolAnnotations

        from tui.cli import agent_tools
    except ImportError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        raise QueueError(MISSING) from None
    from finetui.daemon import code_version

    server: MCPServer[Any] = MCPServer(
        "finetui", instructions=INSTRUCTIONS, version=code_version(), log_level="WARNING"
    )
    for tools, reads in ((agent_tools.READING, True), (agent_tools.ACTING, False)):
        for tool in tools:
            words = " ".join((inspect.getdoc(tool) or "").split())
            hints = ToolAnnotations(
                read_only_hint=reads, destructive_hint=tool is agent_tools.stop_run, open_world_hint=False
            )
            server.add_tool(answered(tool), description=words, annotations=hints)
    if sys.stdin.isatty():
        say(
            "a program speaks with finetui mcp, not a person: docs/agents.md says where to name it; ctrl+c ends it"
        )
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else it waits for the thread that reads stdin
    server.run("stdio")


def answered(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool with its answer shortened, and an error that is meant for people as its sentence and no more."""
    from mcp.types import CallToolResult, TextContent

    def refused(error: FinetuiError) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)

    if inspect.iscoroutinefunction(tool):

        @functools.wraps(tool)
        async def later(**arguments: Any) -> Any:
            try:
                return bounded(await tool(**arguments))
            except FinetuiError as error:
                return refused(error)

        return later

    @functools.wraps(tool)
    def call(**arguments: Any) -> Any:
        try:
            return bounded(tool(**arguments))
        except FinetuiError as error:
            return refused(error)

    return call
