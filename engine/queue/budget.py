"""What an hour costs and how much may be spent, from config.toml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.queue.notices import Notice

WARN_AT = 0.8  # of the budget


@dataclass(frozen=True)
class Budget:
    """In any currency."""

    price_per_hour: float | None = None
    most: float | None = None
    pauses: bool = False

    def price_of(self, device: str) -> float | None:
        """Return what an hour of an attempt's devices costs: `cpu`, or `gpu0,gpu1`."""
        return None if self.price_per_hour is None else self.price_per_hour * len(device.split(","))

    def refusal(self, spent: float) -> str | None:
        """Return why no run is started; None while there is money."""
        if self.most is None or spent < self.most:
            return None
        return f"the budget of {self.most:g} is spent ({spent:.2f}); raise budget in config.toml"

    def status(self, spent: float) -> dict[str, float | None]:
        """Return what `daemon status` says of it; nothing where nothing has a price."""
        if self.price_per_hour is None and not spent:
            return {}
        return {"spent": round(spent, 2), "budget": self.most}

    def notices(self, before: float, now: float) -> Iterator[Notice]:
        """What there is to tell when the sum has gone from `before` to `now`."""
        for share in (WARN_AT, 1.0):
            if self.most is not None and before < share * self.most <= now:
                yield Notice("budget", f"{now:.2f} of the budget of {self.most:g} is spent")


NO_BUDGET = Budget()
