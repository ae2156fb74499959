"""What a flag does, and from which size on: the sections `flags.forgetting` and `flags.overfitting`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from engine.recipe.fields import Section

OnFlag = Literal["warn", "stop", "off"]


class SliceMargins(Section):
    """Margins of one slice; None: that of all general text."""

    model_config = ConfigDict(allow_inf_nan=False)

    warn: float | None = Field(None, ge=0, description="Margin of a warning; default: that of all slices.")
    critical: float | None = Field(
        None, gt=0, description="Margin of a critical flag; default: that of all slices."
    )


def _check_slice(value: Any) -> Any:
    if isinstance(value, dict | SliceMargins):
        return value
    raise ValueError(
        "unknown key; known keys: do, warn, critical, per_gain, or the name of a slice with margins of its own "
        "such as {warn: 0.05}"
    )


class OnRise(Section):
    """Margins of a rise of the held-out loss, nats per token."""

    model_config = ConfigDict(allow_inf_nan=False)

    do: OnFlag = Field("warn", description="Raise the flag, end the run, or neither.")
    warn: float = Field(
        0.01,
        ge=0,
        description="Rise of the held-out loss since its best, nats per token, beyond which it warns.",
    )
    critical: float = Field(0.15, gt=0, description="Rise beyond which the flag is critical.")

    @model_validator(mode="after")
    def _check_order(self) -> OnRise:
        _check_margins("", self.warn, self.critical)
        return self


class OnForgetting(Section):
    """Margins of forgetting, for all general text, and for slices by their name."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Annotated[SliceMargins, BeforeValidator(_check_slice)]] = Field(init=False)

    do: OnFlag = Field("warn", description="Raise the flag, end the run, or neither.")
    warn: float = Field(
        0.10,
        ge=0,
        description="Rise of the general loss, nats per token, beyond which it warns, unless the task gained in "
        "proportion.",
    )
    critical: float = Field(
        0.30, gt=0, description="Rise beyond which the flag is critical, whatever was gained."
    )
    per_gain: float = Field(
        0.2,
        ge=0,
        description="Nats of general text for each nat that the held-out loss fell by, up to which a rise between the "
        "two margins is in proportion: information, no warning. 0: the gain does not count.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> OnForgetting:
        _check_margins("", self.warn, self.critical)
        for name in self.slices:
            _check_margins(f"slice {name}: ", *self.margins(name))
        return self

    @property
    def slices(self) -> dict[str, SliceMargins]:
        """The slices that have margins of their own."""
        return self.__pydantic_extra__

    def margins(self, group: str) -> tuple[float, float]:
        """Return (warn, critical) of a slice, or of the suite as a whole (""); nats per token."""
        own = self.slices.get(group, SliceMargins(warn=None, critical=None))
        return (
            self.warn if own.warn is None else own.warn,
            self.critical if own.critical is None else own.critical,
        )

    def __str__(self) -> str:
        share = f" and {self.per_gain:g} of the gain" if self.per_gain else ""
        own = "; ".join("{}: {:g} and {:g}".format(name, *self.margins(name)) for name in self.slices)
        what = "stops the run" if self.do == "stop" else "warns"
        return (
            f"forgetting {what} above {self.warn:g} nats per token{share}, and is critical above {self.critical:g}"
            + (f" ({own})" if own else "")
        )


def _check_margins(of: str, warn: float, critical: float) -> None:
    if warn > critical:
        raise ValueError(f"{of}the margin of warn, {warn:g}, is above that of critical, {critical:g}")


def _spelled_out(value: Any) -> Any:
    """Make a section of the short form: `stop` is `{do: stop}`."""
    if isinstance(value, str):
        return {"do": value}
    if not isinstance(value, dict | Section):
        raise ValueError("give warn, stop or off, or a section such as {do: warn, warn: 0.1, critical: 0.3}")
    return value


Rises = Annotated[OnRise, BeforeValidator(_spelled_out, json_schema_input_type=OnFlag | OnRise)]
Forgets = Annotated[OnForgetting, BeforeValidator(_spelled_out, json_schema_input_type=OnFlag | OnForgetting)]
