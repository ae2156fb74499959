"""The command palette (ctrl+p): every action of the binding table that the screen below has."""

from __future__ import annotations

from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui import bindings
from tui.host import Host


class KeyCommands(Provider):
    """The binding table as palette commands, each with its key."""

    @property
    def _table(self) -> list[bindings.Binding]:
        room = getattr(self.screen, "room", "dashboard")
        return [binding for binding in bindings.bindings_of(room) if binding.label != "back"]

    def _title(self, binding: bindings.Binding) -> str:
        return f"{binding.label}  ({' '.join(map(bindings.key_name, binding.keys))})"

    async def discover(self) -> Hits:
        host = cast(Host, self.app)
        for binding in self._table:
            yield DiscoveryHit(self._title(binding), partial(host.act, binding.action), help=binding.help)

    async def search(self, query: str) -> Hits:
        matcher, host = self.matcher(query), cast(Host, self.app)
        for binding in self._table:
            title = self._title(binding)
            if (score := max(matcher.match(title), matcher.match(binding.help) * 0.6)) > 0:
                command = partial(host.act, binding.action)
                yield Hit(score, matcher.highlight(title), command, help=binding.help)
