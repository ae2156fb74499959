"""Colours of the screen: text that can be read, and what is told apart by every kind of colour vision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import pytest
from made_home import Served
from pilot import ready, status, until

from store.states import RunState
from tui.app import FinetuiApp
from tui.lines import theme
from tui.lines.palettes import COLOUR_BLIND, DARK, LIGHT, PALETTES, Palette

MakeApp = Callable[..., FinetuiApp]
Linear = tuple[float, float, float]

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1.0, on linear RGB.
VISIONS = {
    "all three cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}  # fmt: skip
APART = 25  # of CIE 1976 colour difference; 2.3 can just be noticed


@pytest.fixture(autouse=True)
def _dark_afterwards() -> Iterator[None]:
    yield
    theme.use(DARK.name)


def linear(color: str) -> Linear:
    shares = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return red, green, blue


def luminance(color: str) -> float:
    red, green, blue = linear(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    dark, bright = sorted(map(luminance, (one, other)))
    return (bright + 0.05) / (dark + 0.05)


def seen(color: str, vision: str) -> Linear:
    """What an eye with this vision sees, in CIE L*a*b*."""
    red, green, blue = (
        min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, linear(color), strict=True))))
        for row in VISIONS[vision]
    )
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (
        part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116 for part in (x, y, z)
    )
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(one: str, other: str, vision: str) -> float:
    return sum((a - b) ** 2 for a, b in zip(seen(one, vision), seen(other, vision), strict=True)) ** 0.5


def test_the_yardstick_itself() -> None:
    assert round(contrast("#000000", "#ffffff"), 1) == 21.0
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert distance("#000000", "#ffffff", "all three cones") == pytest.approx(100, abs=0.1)
    assert (
        distance("#ff0000", "#807000", "deuteranopia") < distance("#ff0000", "#807000", "all three cones") / 3
    )


@pytest.mark.parametrize("vision", VISIONS)
def test_neighbouring_curves_and_verdicts_stay_apart(vision: str) -> None:
    series = COLOUR_BLIND.series
    for one, other in [*pairwise(series), (series[-1], series[0])]:
        assert distance(one, other, vision) > APART, (one, other)
    for one, other in combinations((COLOUR_BLIND.good, COLOUR_BLIND.warn, COLOUR_BLIND.bad), 2):
        assert distance(one, other, vision) > APART, (one, other)


def test_the_dark_theme_is_why_there_is_another() -> None:
    closest = min(distance(DARK.good, DARK.warn, vision) for vision in VISIONS)
    assert closest < 10


@pytest.mark.parametrize("palette", [COLOUR_BLIND, LIGHT], ids=lambda palette: palette.name)
def test_text_can_be_read(palette: Palette) -> None:
    words = (palette.text, palette.bright, palette.dim, palette.faint, palette.accent, palette.good, palette.warn,
             palette.bad, *palette.series)  # fmt: skip
    assert {
        word: contrast(word, palette.background) for word in words if contrast(word, palette.background) < 4.5
    } == {}
    for word in (palette.text, palette.bright):
        assert contrast(word, palette.cursor) >= 4.5


def test_a_state_is_told_by_its_sign_without_any_colour() -> None:
    signs = {theme.state_look(state).glyph for state in RunState}
    assert len(signs) == len(RunState)
    assert len({theme.to_ascii(sign) for sign in signs}) == len(RunState)


async def test_a_theme_is_chosen_in_the_file_changed_by_a_key_and_remembered(
    make_app: MakeApp, served: Served
) -> None:
    def ground(app: FinetuiApp) -> str:
        return app.screen.styles.background.hex.lower()

    served.home.config.write_text('theme = "colour-blind"\n')
    try:
        app = make_app()
        async with app.run_test(size=(80, 12)) as pilot:
            await ready(pilot)
            assert theme.in_use() == "colour-blind"
            assert theme.style("bad").color == theme.style("bad").parse(COLOUR_BLIND.bad).color
            await pilot.press("ctrl+t")
            assert status(app) == "theme: light"
            assert ground(app) == LIGHT.background
            assert app.screen.query_one("#table").styles.background.hex.lower() == LIGHT.background
            await pilot.press("enter")
            assert ground(app) == LIGHT.background, "the next screens have it as well"
            await until(
                pilot, lambda: app.remembered.read().get("theme") == ["light", "colour-blind"], "the theme"
            )
        assert make_app().screen_stack == []
        assert theme.in_use() == "light"
        served.home.config.write_text('theme = "dark"\n')
        make_app()
        assert theme.in_use() == "dark", (
            "what the file says now goes before what was chosen when it said otherwise"
        )
    finally:
        served.home.config.unlink()


def test_every_theme_has_a_name_of_its_own() -> None:
    assert set(PALETTES) == {"dark", "colour-blind", "light"}
