"""The colours of each theme."""

from __future__ import annotations

from typing import NamedTuple


class Palette(NamedTuple):
    """`series` are the colours of curves: neighbours differ in lightness as well as in hue, for colour-blind eyes."""

    name: str  # in config.toml
    background: str
    surface: str
    cursor: str
    border: str
    grid: str
    faint: str
    dim: str
    text: str
    bright: str
    accent: str
    good: str
    warn: str
    bad: str
    series: tuple[str, str, str, str, str, str, str, str]

    def faded(self, color: str, share: float = 0.42) -> str:
        """A colour mixed into the background: `share` of it is left."""
        pairs = [(int(color[at : at + 2], 16), int(self.background[at : at + 2], 16)) for at in (1, 3, 5)]
        return "#" + "".join(f"{round(front * share + back * (1 - share)):02x}" for front, back in pairs)


DARK = Palette(
    name="dark",
    background="#10131a",
    surface="#171b25",
    cursor="#232a3b",
    border="#2b3345",
    grid="#232a38",
    faint="#566079",
    dim="#8590a8",
    text="#c5cddd",
    bright="#eef1f8",
    accent="#7aa2f7",
    good="#a5d66f",
    warn="#e6c384",
    bad="#ff6b7f",
    series=("#7aa2f7", "#ff9e64", "#5fd7c0", "#c099ff", "#e6c384", "#ff7a93", "#86d5ff", "#a5d66f"),
)

# Curves: the "light" scheme of Paul Tol (Colour Schemes, SRON/EPS/TN/09-002, 2021), in the order that keeps neighbours
# furthest apart. Good, warn, bad and the accent: bluish green, yellow, vermilion and sky blue of Okabe and Ito (2008).
COLOUR_BLIND = Palette(
    name="colour-blind",
    background="#10131a",
    surface="#171b25",
    cursor="#232a3b",
    border="#3a4459",
    grid="#232a38",
    faint="#8791a8",
    dim="#a3adc2",
    text="#d3d9e6",
    bright="#ffffff",
    accent="#56b4e9",
    good="#009e73",
    warn="#f0e442",
    bad="#d55e00",
    series=("#77aadd", "#eedd88", "#44bb99", "#bbcc33", "#ffaabb", "#aaaa00", "#99ddff", "#ee8866"),
)

LIGHT = Palette(
    name="light",
    background="#fafaf7",
    surface="#eeeeea",
    cursor="#dfe4ee",
    border="#c4c9d4",
    grid="#dddfe4",
    faint="#5f687b",
    dim="#4c5568",
    text="#262c3a",
    bright="#000000",
    accent="#2a5bd0",
    good="#2c7314",
    warn="#855a00",
    bad="#c01f3f",
    series=("#2a5bd0", "#a84a08", "#087366", "#7a3fc4", "#755d00", "#c01f5f", "#0c6b9c", "#3d7018"),
)

PALETTES = {palette.name: palette for palette in (DARK, COLOUR_BLIND, LIGHT)}
