"""Write docs/templates.md: what is learned of conversations under the chat templates of the families people use.

python scripts/template_table.py            # write it
python scripts/template_table.py --check    # fail if it is out of date (part of the tests)

Two kinds of templates are looked at, with the bundled tokenizer: small ones that do what a family's own template does
(tests/engine/chat_templates/), and those that TRL brings copies of, where it is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

from engine.basics.errors import DataError
from engine.bundled.catalogue import model_path
from engine.data.answers import LearnedText, learned_texts
from engine.data.formats import Document, to_document

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "templates.md"
OURS = ROOT / "tests" / "engine" / "chat_templates"
# The tokens of a template, as its tokenizer would have them.
SPECIAL = re.compile(
    r"<[|｜][^|｜<>'\"{}\s]{1,30}[|｜]>|</?s>|<(?:start|end)_of_turn>|<\|?(?:turn|channel|tool_call|tool_response)\|?>"
    r"|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]"
)
TRL = {
    *("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "qwen3_8"),
    *("llama3", "llama3_1", "llama3_2", "gemma", "gemma3", "gemma4_v5", "phi3", "phi3_5", "deepseekv3"),
    *(
        "deepseek_r1_distill",
        "glm4moe",
        "gptoss",
        "lfm2",
        "lfm2_v2",
        "lfm2_2_5_v2",
        "cohere2",
        "nemotron_3_nano",
    ),
}

CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "find_thing", "arguments": '{"number": 7}'},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "find_thing",
        "description": "Find a thing.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "integer", "description": "Which one."}},
            "required": ["number"],
        },
    },
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


TURNS = [user("Where is it?"), assistant("In the attic."), user("And its twin?"), assistant("In the cellar.")]
SYSTEM = [{"role": "system", "content": "You are the porter."}, *TURNS[:2]]
REASONING = [
    user("Where is it?"),
    assistant("In the attic.", reasoning_content="Not below."),
    user("And its twin?"),
    assistant("In the cellar.", reasoning_content="Not above."),
]
RESULT = {"role": "tool", "content": '{"place": 3}', "tool_call_id": CALL["id"], "name": "find_thing"}
TOOLS = [user("Where is it?"), assistant(None, tool_calls=[CALL]), RESULT, assistant("In the attic.")]


def main() -> int:
    """Write or check the page; return the exit code."""
    page = PAGE.read_text() if PAGE.exists() else ""
    written = made(page)
    if "--check" in sys.argv:
        if page != written:
            print("docs/templates.md is out of date: run python scripts/template_table.py")
        return int(page != written)
    PAGE.write_text(written)
    return 0


def made(page: str) -> str:
    """Return the page with its tables made anew; those of TRL stay where another version of it, or none, is here."""
    ours = ((path.stem, path.read_text()) for path in sorted(OURS.glob("*.jinja")))
    page = _with_table(page, "ours", ours)
    if f"TRL {_trl_version()} " in page:
        page = _with_table(page, "trl", _trl_templates())
    return page


def tokenizer_with(template: str) -> Any:
    """Return the bundled tokenizer with a chat template and its special tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path("stdlib-2m"))
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(SPECIAL.findall(template)))})
    tokenizer.chat_template = template
    return tokenizer


def texts_of(turns: list[dict[str, Any]], tokenizer: Any, **row: Any) -> list[LearnedText] | str:
    """Return what is learned of a conversation, or why it is refused."""
    try:
        return learned_texts(document_of(turns, **row), tokenizer)
    except DataError as error:
        return str(error)


def document_of(turns: list[dict[str, Any]], **row: Any) -> Document:
    """Return a row with these turns, and other keys, as a document."""
    return to_document({"messages": turns, **row})


def row_of(name: str, template: str) -> list[str]:
    """Return the cells of a template's row."""
    tokenizer = tokenizer_with(template)
    turns, system = texts_of(TURNS, tokenizer), texts_of(SYSTEM, tokenizer)
    reasoning, calls = texts_of(REASONING, tokenizer), texts_of(TOOLS, tokenizer)
    tools = texts_of(TOOLS, tokenizer, tools=[TOOL])
    return [
        f"`{name}`",
        _answers(turns),
        _end(turns),
        _reasoning(reasoning),
        _tools(calls, tools),
        _system(system),
    ]


def _answers(texts: list[LearnedText] | str) -> str:
    if isinstance(texts, str):
        return f"refused: {texts}"
    return "in one example" if len(texts) == 1 else "each in its own example"


def _end(texts: list[LearnedText] | str) -> str:
    if isinstance(texts, str):
        return ""
    text = texts[-1].text[slice(*texts[-1].spans[-1])]
    added = any(note.code == "end-added" for note in texts[-1].notes)
    end = text[text.rindex("cellar.") + len("cellar.") :].split()
    return " ".join(f"`{token}`" for token in end) + (", added" if added else "")


def _reasoning(texts: list[LearnedText] | str) -> str:
    if isinstance(texts, str):
        return "`<think>` in the text only" if "reasoning_content" in texts else f"refused: {texts}"
    whole = any(note.code == "written-whole" for text in texts for note in text.notes)
    split = "" if len(texts) == 1 else ", left out of the history"
    return ("learned, put in" if whole else "learned") + split


def _tools(calls: list[LearnedText] | str, tools: list[LearnedText] | str) -> str:
    if isinstance(calls, str):
        return "refused" + (": not written" if "`tool_calls`" in calls else " by the template")
    return "learned" + ("; rows with `tools` refused: not written" if isinstance(tools, str) else "")


def _system(texts: list[LearnedText] | str) -> str:
    if isinstance(texts, str):
        return f"refused: {texts}"
    merged = any(note.code == "system-merged" for text in texts for note in text.notes)
    return "put into the question" if merged else "as written"


def _with_table(page: str, name: str, templates: Iterator[tuple[str, str]]) -> str:
    head = ["template", "several answers", "end of an answer", "reasoning", "calls of tools", "system turn"]
    cells = [[cell.replace("|", "\\|") for cell in row_of(*template)] for template in templates]
    rows = [head, ["---"] * len(head), *cells]
    table = "\n".join("|" + "|".join(f" {cell} " for cell in row) + "|" for row in rows)
    begin, end = f"<!-- made:{name} -->", "<!-- end -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.partition(end)[2]}"


def _trl_version() -> str:
    try:
        return version("trl")
    except PackageNotFoundError:
        return "none"


def _trl_templates() -> Iterator[tuple[str, str]]:
    for file in files("trl") or []:
        if file.parent.name == "chat_templates" and file.suffix == ".jinja" and file.stem in TRL:
            yield file.stem, Path(str(file.locate())).read_text()


if __name__ == "__main__":
    sys.exit(main())
