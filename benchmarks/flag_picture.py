"""A picture of how many runs each detector told wrong."""

from __future__ import annotations

from benchmarks.flag_truth import Score

WIDTH, ROW, NAMES = 600, 24, 150  # pixels: a panel, a detector's row, the room for its name
BARS = WIDTH - NAMES - 2 * 40  # beside the counts at both ends


def svg(panels: dict[str, dict[str, Score]], ours: str) -> str:
    """How many runs each detector told wrong, a row each, the best on top; no library needed."""
    width, height = len(panels) * WIDTH, 80 + ROW * max(map(len, panels.values()))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for at, (title, scores) in enumerate(panels.items()):
        parts += [f'<g transform="translate({at * WIDTH}, 0)">', *_panel(title, scores, ours), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _panel(title: str, scores: dict[str, Score], ours: str) -> list[str]:
    """False warnings to the left of a line, missed runs to its right, on one scale."""
    most_false = max(found.false for found in scores.values())
    scale = BARS / max(1, most_false + max(found.missed for found in scores.values()))
    zero = NAMES + 40 + most_false * scale
    ranked = sorted(scores.items(), key=lambda item: item[1].false + item[1].missed)
    parts = [
        f'<text x="10" y="24" font-size="15">{title}: runs told wrong</text>',
        f'<text x="{zero - 6}" y="48" text-anchor="end" fill="#c60">false warnings</text>',
        f'<text x="{zero + 6}" y="48" fill="#36c">missed</text>',
        f'<path d="M{zero} 56V{60 + ROW * len(ranked)}" stroke="#888"/>',
    ]
    for row, (name, found) in enumerate(ranked):
        y, weight = 60 + row * ROW, "bold" if name == ours else "normal"
        left, right = found.false * scale, found.missed * scale
        label = name.replace("<", "&lt;")
        parts += [
            f'<text x="10" y="{y + 15}" font-weight="{weight}">{label}</text>',
            f'<rect x="{zero - left:.1f}" y="{y + 4}" width="{left:.1f}" height="14" fill="#c60"/>',
            f'<rect x="{zero:.1f}" y="{y + 4}" width="{right:.1f}" height="14" fill="#36c"/>',
            f'<text x="{zero - left - 6:.1f}" y="{y + 15}" text-anchor="end">{found.false}</text>',
            f'<text x="{zero + right + 6:.1f}" y="{y + 15}">{found.missed}</text>',
        ]
    return parts
