"""A search in the samples of Compare: through all prompts, in what every run wrote, also those that are out of view."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui.lines.text import Line, contains, marked
from tui.widgets import samples_beside

if TYPE_CHECKING:
    from tui.screens.compare import CompareScreen


class SampleSearch:
    """`words`: what is searched for; none where they are empty."""

    def __init__(self, screen: CompareScreen) -> None:
        self._screen = screen
        self.words = ""

    def ask(self) -> None:
        """Ask for the words; each letter goes to the first prompt that has them, from the one in view on."""
        hint = ". the next, , the one before"
        self._screen.ask("search in samples", self.words, hint, self._search, live=True)

    def end(self) -> bool:
        """Forget the words; False where there were none."""
        had, self.words = bool(self.words), ""
        return had

    def show(self, lines: list[Line]) -> list[Line]:
        """The lines with the words marked."""
        return [marked(line, self.words) for line in lines] if self.words else lines

    def _search(self, words: str) -> None:
        self.words = words
        self._screen.update_panels()
        if words:
            self.go_on(1, here=True)

    def go_on(self, by: int, *, here: bool = False) -> None:
        """To the next prompt that has the words, or the one before; `here`: the one in view may be it."""
        screen = self._screen
        if not self.words:
            screen.host.say("/ searches here")
            return
        found = samples_beside.having(screen.written(), screen.prompt.step, self.words)
        if not found:
            screen.host.say(f"no sample here has {self.words!r}", "warn")
            return
        now = screen.prompt.prompt
        places = sorted(found)
        ahead = [at for at in places if (at - now) * by > 0 or (here and at == now)]
        at = (ahead or places)[0 if by > 0 else -1]
        screen.prompt = replace(screen.prompt, prompt=at)
        screen.show_samples(lambda line: contains(line, self.words))
        runs = ", ".join(f"#{number}" for number in found[at])
        count = f"{places.index(at) + 1} of {len(places)} prompts"
        screen.host.say(f"{count} with {self.words!r}: {f'written by {runs}' if runs else 'in the prompt'}")
