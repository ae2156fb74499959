"""A turn of a conversation, as any of the usual formats writes it, in the one form that chat templates take.

A message is a dict with `role` and `content` (text, maybe empty) and, where the row has them: `reasoning` (what the
model thought), `tool_calls`, `tool_call_id`, `name`, and `learned: False` for an answer that is context only.
Torch-free.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.basics.errors import DataError

Message = dict[str, Any]

# Names of roles, in small letters. What is not here is left to the chat template, except in ShareGPT's form.
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "ai"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response"), "tool"),
}
_CALL_ROLES = ("function_call", "tool_call")  # an answer that is nothing but a call, written as JSON
_SPEAKER_KEYS, _TEXT_KEYS = ("role", "from"), ("content", "value")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_LEARNED_KEYS = ("weight", "train", "loss")  # of OpenAI, of axolotl, of ms-swift: 0 or false is context only
_CALL_KEYS = ("tool_calls", "function_call")
_KEPT_KEYS = ("name", "tool_call_id")
_READ_KEYS = {
    *_SPEAKER_KEYS,
    *_TEXT_KEYS,
    *_REASONING_KEYS,
    *_LEARNED_KEYS,
    *_CALL_KEYS,
    *_KEPT_KEYS,
}
_TEXT_PARTS = ("text", "input_text", "output_text")
# The opening tag may be missing, since some templates put it into the prompt; the other then has a line of its own.
_THOUGHT = re.compile(
    r"\s*<think>(?P<reasoning>.*?)</think>(?P<answer>.*)|(?P<untagged>.*?)\n</think>\s*\n(?P<rest>.*)",
    re.DOTALL,
)


def read_message(turn: Any) -> Message:
    """Return a turn of a row as a message. Raises DataError."""
    if not isinstance(turn, dict):
        raise DataError("a message must be an object with `role` and `content`")
    turn = {key: value for key, value in turn.items() if value is not None}
    written, text_key = _speaker(turn)
    role = _ROLES.get(written.strip().lower(), written)
    message: Message = {"role": role, "content": ""}
    if written.strip().lower() in _CALL_ROLES:
        message |= {"role": "assistant", "tool_calls": _calls(turn.get(text_key), text_key)}
    elif text_key in turn:
        message |= _content(turn[text_key], text_key)
    message |= {key: turn[key] for key in _KEPT_KEYS if isinstance(turn.get(key), str)}
    if message["role"] == "assistant":
        message |= _answer_keys(turn)
    if text_key not in turn and not message.keys() & {"tool_calls", "reasoning"}:
        raise DataError(f"a message has {columns_sentence(turn)}; it needs `role` and `content`")
    return message


def unread_keys(turn: Any) -> set[str]:
    """Return the keys of a turn that nothing reads."""
    if not isinstance(turn, dict):
        return set()
    return {str(key) for key, value in turn.items() if value is not None and key not in _READ_KEYS}


def is_answer(message: Message) -> bool:
    """Whether the assistant wrote it, to be learned or as context."""
    return bool(message["role"] == "assistant")


def is_learned(message: Message) -> bool:
    """Whether it is an answer to learn."""
    return is_answer(message) and message.get("learned", True)


def plain_text(message: Message) -> str:
    """Return all that a message says, as text: reasoning, content and calls."""
    parts = [message.get("reasoning", ""), message["content"], *map(call_text, message.get("tool_calls", ()))]
    return "\n".join(part for part in parts if part)


def call_text(call: Mapping[str, Any]) -> str:
    """Return a call of a tool as JSON text."""
    return json.dumps(call["function"], ensure_ascii=False)


def identity(message: Message) -> list[Any]:
    """Return what makes a message the same as another, for the content id of its row."""
    more = {key: value for key, value in message.items() if key not in ("role", "content")}
    return [message["role"], message["content"], *([more] if more else [])]


def split_reasoning(content: str) -> tuple[str, str]:
    """Return (reasoning, answer) of an answer that begins with `<think>…</think>`; the reasoning is empty without."""
    found = _THOUGHT.fullmatch(content) if "</think>" in content else None
    if not found:
        return "", content
    return found["reasoning"] or found["untagged"] or "", found["answer"] or found["rest"] or ""


def lift_reasoning(message: Message) -> Message:
    """Return an answer with the reasoning that its content begins with under a key of its own."""
    if not is_answer(message) or message.get("reasoning"):
        return message
    reasoning, answer = split_reasoning(message["content"])
    if not reasoning.strip():
        return message
    return message | {"reasoning": reasoning.strip(), "content": answer.lstrip()}


def lower_reasoning(message: Message) -> Message:
    """Return an answer with its reasoning at the beginning of its content."""
    if not (reasoning := message.get("reasoning", "").strip()):
        return message
    rest = {key: value for key, value in message.items() if key != "reasoning"}
    return rest | {"content": f"<think>\n{reasoning}\n</think>\n\n{message['content'].lstrip()}"}


def without_reasoning(message: Message) -> Message:
    """Return the message without what the model thought."""
    if not is_answer(message):
        return message
    kept = {key: value for key, value in message.items() if key != "reasoning"}
    reasoning, answer = split_reasoning(message["content"])
    return kept | {"content": answer.lstrip()} if reasoning or answer != message["content"] else kept


def read_tools(value: Any, key: str) -> tuple[dict[str, Any], ...]:
    """Return the tools of a row, in OpenAI's form, from a list or its JSON text. Raises DataError."""
    tools = _json(value, key) if isinstance(value, str) else value
    if isinstance(tools, dict):
        tools = [tools]
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"`{key}` must be a list of tools, each an object with a name")
    wrapped = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    if any(not isinstance(tool["function"], dict) or not tool["function"].get("name") for tool in wrapped):
        raise DataError(f"`{key}` has a tool without a name")
    return tuple(wrapped)


def columns_sentence(row: Mapping[str, Any]) -> str:
    """Return the columns of a row, or the keys of a message, in words."""
    return "the columns " + ", ".join(f"`{key}`" for key in row) if row else "no columns"


def _speaker(turn: Mapping[str, Any]) -> tuple[str, str]:
    """Return (the role as it is written, the key of the text). Raises DataError."""
    key = "from" if "from" in turn and "role" not in turn else "role"
    if key not in turn:
        raise DataError(f"a message has {columns_sentence(turn)}; it needs `role` and `content`")
    written = turn[key]
    if not isinstance(written, str):
        raise DataError(f"`{key}` must be a string, not {type(written).__name__}")
    if key == "from" and written.strip().lower() not in {*_ROLES, *_CALL_ROLES}:
        raise DataError(f"unknown speaker {written!r}; use human, gpt, system, function_call or observation")
    default = "value" if key == "from" else "content"
    return written, next((name for name in (default, *_TEXT_KEYS) if name in turn), default)


def _content(value: Any, key: str) -> Message:
    """Return content, and reasoning where it has such parts. Raises DataError for anything but text."""
    if isinstance(value, str):
        return {"content": value}
    if not isinstance(value, list):
        raise DataError(f"`{key}` must be a string or a list of text parts, not {type(value).__name__}")
    texts, thoughts = list[str](), list[str]()
    for part in value:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("thinking" if kind == "thinking" else "text") if isinstance(part, dict) else part
        if kind not in (*_TEXT_PARTS, "thinking"):
            raise DataError(f"`{key}` has a part of the type {kind!r}; finetui trains on text only")
        if not isinstance(text, str):
            raise DataError(f"`{key}` has a part without text")
        (thoughts if kind == "thinking" else texts).append(text)
    return {"content": "".join(texts), **({"reasoning": "".join(thoughts)} if thoughts else {})}


def _answer_keys(turn: Mapping[str, Any]) -> Message:
    """Return what only answers have: reasoning, calls, and whether it is context only. Raises DataError."""
    keys: Message = {}
    if name := next((name for name in _REASONING_KEYS if turn.get(name)), ""):
        if not isinstance(turn[name], str):
            raise DataError(f"`{name}` must be a string, not {type(turn[name]).__name__}")
        keys["reasoning"] = turn[name]
    for name in _CALL_KEYS:
        if turn.get(name):
            keys["tool_calls"] = _calls(turn[name], name)
    for name in _LEARNED_KEYS:
        if name in turn and turn[name] not in (0, 1):  # False and True are 0 and 1
            raise DataError(f"`{name}` of a message must be 0 or 1, not {turn[name]!r}")
        if name in turn and not turn[name]:
            keys["learned"] = False
    return keys


def _calls(value: Any, key: str) -> list[dict[str, Any]]:
    """Return calls of tools in OpenAI's form, with arguments as objects, which most templates want."""
    calls = _json(value, key) if isinstance(value, str) else value
    calls = calls if isinstance(calls, list) else [calls]
    return [_call(call, key) for call in calls]


def _call(call: Any, key: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise DataError(f"`{key}` has a call without the name of a function")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json(arguments, f"{key}.arguments") if arguments.strip() else {}
    if not isinstance(arguments, dict | None):
        raise DataError(f"`{key}` has a call whose arguments are no object")
    kept = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**kept, "type": "function", "function": {"name": name, "arguments": arguments or {}}}


def _json(text: str, key: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise DataError(f"`{key}` is text that is not JSON: {text[:40]!r}") from None
