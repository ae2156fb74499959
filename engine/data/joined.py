"""A conversation as one text with every answer as it is learned, where its chat template would write earlier ones in
another way: `data.history: whole`. Torch-free.

This is what a training variant of the template would write, made from what the template itself writes: each answer
where it is the last turn, and what stands between two answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.basics.errors import DataError
from engine.data.messages import Message
from engine.data.template import PLACE, Chat, LearnedText, Note, special_texts


def join(chat: Chat, texts: Sequence[LearnedText]) -> list[LearnedText]:
    """Return texts of a conversation, each up to its last answer, as one; as they are if its turns cannot be joined."""
    joined = texts[0]
    for text in texts[1:]:
        between = _between(chat, joined, text)
        if not between:
            return list(texts)
        before = joined.text.rstrip() + between
        shift = len(before) - text.start
        spans = [(max(begin + shift, len(before)), end + shift) for begin, end in text.spans]
        notes = (*joined.notes, *text.notes)
        whole = before + text.text[text.start :]
        joined = LearnedText(whole, (*joined.spans, *spans), notes, joined.first, text.last, joined.start)
    told = Note("whole-history", texts[0].last + 1)
    return [LearnedText(joined.text, joined.spans, (*joined.notes, told))]


def _between(chat: Chat, one: LearnedText, other: LearnedText) -> str:
    """Return what the template writes from the end of one answer to the words of a later one.

    Empty if it ends a turn in another way there, or takes no plain answer in its place.
    """
    stand_in: Message = {"role": "assistant", "content": PLACE}
    turns = (*chat.messages[: one.last], stand_in, *chat.messages[one.last + 1 : other.first])
    try:
        after = chat.render(turns, prompt=True).partition(PLACE)[2].lstrip()
    except DataError:
        return ""
    specials = special_texts(chat.tokenizer, chat.tokenizer.eos_token)
    end = next((special for special in specials if after.startswith(special)), "")
    return after.removeprefix(end) if end and one.text.rstrip().endswith(end) else ""
