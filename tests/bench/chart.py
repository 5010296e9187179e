"""Bars as SVG."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = ("#2563eb", "#93c5fd", "#f59e0b", "#94a3b8", "#10b981", "#a855f7", "#475569")
BAR, GAP, LEFT, WIDTH, RIGHT = 16, 26, 150, 520, 90
STYLE = "text{font:12px system-ui,sans-serif;fill:#334155}.t{font-weight:600}.n{text-anchor:end}.v{font-size:11px}"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `colour` is the number of one."""

    name: str
    value: float
    said: str
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that belong together, drawn on a scale of their own: the longest has the full width."""

    title: str
    bars: tuple[Bar, ...]


def chart(groups: Iterable[Group], label: str) -> str:
    """All groups, one below the other."""
    shapes, y = [], 20
    for group in groups:
        shapes.append(f'<text x="8" y="{y + 4}" class="t">{html.escape(group.title)}</text>')
        y += 14
        longest = max((bar.value for bar in group.bars), default=0) or 1
        for bar in group.bars:
            width, colour = max(1.0, bar.value / longest * WIDTH), COLOURS[bar.colour % len(COLOURS)]
            shapes += [
                f'<text x="{LEFT - 8}" y="{y + 12}" class="n">{html.escape(bar.name)}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 3}" fill="{colour}"/>',
                f'<text x="{LEFT + width + 6:.1f}" y="{y + 11}" class="v">{html.escape(bar.said)}</text>',
            ]
            y += BAR
        y += GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {y}" role="img" '
        f'aria-label="{html.escape(label)}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(shapes)}</svg>\n'
    )
