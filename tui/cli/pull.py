"""`finetui pull`: the runs of a mirror come home."""

from __future__ import annotations

from engine.basics.errors import QueueError
from engine.client import service
from engine.queue import config, mirror_pull
from engine.queue.mirror import own_identity
from finetui.home import home
from tui.cli.answers import uuids
from tui.cli.output import out, print_json, say


def pull(target: str | None, *, as_json: bool) -> None:
    """Fetch first, which may be broken off and goes on; then take in what is not here, while no daemon runs."""
    where = target or config.read(home().config).mirror
    if not where:
        raise QueueError("pull: name the mirror (host:folder), or set `mirror` in config.toml")
    home().create()
    say(f"fetching {where}")
    folder = mirror_pull.fetch(home(), where)
    service.stop(home())  # numbers are given by whoever has the home
    pulled = list(mirror_pull.take_in(home(), folder))
    own_identity(home())
    new = [one for one in pulled if one.new]
    if as_json:
        known = uuids(home(), [one.number for one in pulled])
        print_json(
            [
                {
                    "run": one.number,
                    "uuid": known[one.number],
                    "name": one.name,
                    "there": one.there,
                    "new": one.new,
                }
                for one in pulled
            ]
        )
    for one in new:
        other = "" if one.number == one.there else f" (#{one.there} there: that number is another run's here)"
        if not as_json:
            out(f"#{one.number} {one.name}{other}")
    came = f"{len(new)} {'run' if len(new) == 1 else 'runs'} came"
    say(f"{came}, {len(pulled) - len(new)} here already; what can go on is paused")
