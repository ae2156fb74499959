"""What the keys of charts do: how the curves of every screen are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tui.bindings import key_of
from tui.host import Host
from tui.lines.cycle import following
from tui.lines.theme import Glyphs
from tui.screens.base import BaseScreen
from tui.state import SMOOTHING_NAMES, XAxis


def toggle_log_scale(host: Host, _: BaseScreen) -> None:
    on = not host.state.view.log
    host.set_view(replace(host.state.view, log=on), f"y axis: {'logarithmic' if on else 'linear'}")


def zoom_in(host: Host, _: BaseScreen) -> None:
    host.set_view(host.state.view.zoomed(1))


def zoom_out(host: Host, _: BaseScreen) -> None:
    host.set_view(host.state.view.zoomed(-1))


def pan_left(host: Host, _: BaseScreen) -> None:
    host.set_view(host.state.view.panned(-1))


def pan_right(host: Host, _: BaseScreen) -> None:
    host.set_view(host.state.view.panned(1))


def smooth_more(host: Host, _: BaseScreen) -> None:
    level = following(range(len(SMOOTHING_NAMES)), host.state.view.smooth)
    host.set_view(replace(host.state.view, smooth=level), f"smoothing: {SMOOTHING_NAMES[level]}")


def change_x_axis(host: Host, _: BaseScreen) -> None:
    axis = following(list(XAxis), host.state.view.x_axis)
    host.set_view(replace(host.state.view, x_axis=axis), f"x axis: {axis.value}")


def toggle_outliers(host: Host, _: BaseScreen) -> None:
    covered = not host.state.view.outliers
    how = "covers all values" if covered else "leaves out values far from all others"
    host.set_view(replace(host.state.view, outliers=covered), f"y axis: {how}")


def toggle_crosshair(host: Host, screen: BaseScreen) -> None:
    view = host.state.view
    if view.cross is None:
        host.set_view(view.crossed(0), _crosshair_keys(screen.room))
    else:
        host.set_view(replace(view, cross=None))


def _crosshair_keys(room: str) -> str:
    left, right, far_left, far_right = (
        key_of(f"cross_{way}", room) for way in ("left", "right", "far_left", "far_right")
    )
    return f"crosshair: {left} and {right} move it, {far_left} and {far_right} move it far"


def _move_crosshair(by: float) -> Callable[[Host, BaseScreen], None]:
    return lambda host, _: host.set_view(host.state.view.crossed(by))


def change_glyphs(host: Host, _: BaseScreen) -> None:
    glyphs = following(list(Glyphs), host.state.view.glyphs)
    host.set_view(replace(host.state.view, glyphs=glyphs), f"curves in {glyphs.name.lower()}")


ACTIONS: dict[str, Callable[[Host, BaseScreen], None]] = {
    "log_scale": toggle_log_scale,
    "zoom_in": zoom_in,
    "zoom_out": zoom_out,
    "pan_left": pan_left,
    "pan_right": pan_right,
    "smooth": smooth_more,
    "x_axis": change_x_axis,
    "outliers": toggle_outliers,
    "crosshair": toggle_crosshair,
    "cross_left": _move_crosshair(-0.01),
    "cross_right": _move_crosshair(0.01),
    "cross_far_left": _move_crosshair(-0.1),
    "cross_far_right": _move_crosshair(0.1),
    "glyphs": change_glyphs,
}
