"""Drawings of the figures: bars and lines as plain SVG, with no library. Pure.

Must never do: draw a number that no run gave.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_COLOURS: Final = ("#2563a8", "#c2571a", "#3c8a4c", "#7a4fa3", "#8a8a8a", "#b3322f")
_WIDTH, _LEFT, _RIGHT = 760, 210, 90
_BAR: Final = 17


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars that lie; each group is a label with a value for each series."""

    title: str
    unit: str
    groups: Sequence[tuple[str, Mapping[str, float]]]
    logarithmic: bool = False

    def svg(self) -> str:
        series = list(dict.fromkeys(name for _, values in self.groups for name in values))
        held = [v for _, values in self.groups for v in values.values() if v > 0]
        most, least = max(held, default=1.0), min(held, default=1.0)
        body: list[str] = list(_legend(series))
        y = 62
        for label, values in self.groups:
            middle = y + len(values) * _BAR / 2 + 4
            body.append(_text(_LEFT - 8, middle, label, anchor="end"))
            for name, value in values.items():
                length = self._share(value, least, most) * (_WIDTH - _LEFT - _RIGHT)
                colour = _COLOURS[series.index(name) % len(_COLOURS)]
                body.append(
                    f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 3}" '
                    f'fill="{colour}"/>'
                )
                body.append(_text(_LEFT + length + 5, y + 11, f"{_number(value)} {self.unit}"))
                y += _BAR
            y += 10
        scale = ", logarithmic" if self.logarithmic else ""
        return _document(f"{self.title} ({self.unit}{scale})", body, y)

    def _share(self, value: float, least: float, most: float) -> float:
        if value <= 0:
            return 0.0
        if not self.logarithmic:
            return value / most
        low = math.log10(least) - 0.3
        return (math.log10(value) - low) / max(1e-9, math.log10(most) - low)


@dataclass(frozen=True, slots=True)
class Lines:
    """One line for each series, points as (x, y); the x axis is logarithmic."""

    title: str
    unit: str
    across: str
    series: Mapping[str, Sequence[tuple[float, float]]]

    def svg(self) -> str:
        names = list(self.series)
        points = [point for line in self.series.values() for point in line]
        xs = sorted({x for x, _ in points})
        most = max((y for _, y in points), default=1.0) or 1.0
        height, left, top = 220, 70, 62
        low, high = math.log10(xs[0]), math.log10(xs[-1])

        def place(x: float, y: float) -> tuple[float, float]:
            across = (math.log10(x) - low) / max(1e-9, high - low)
            return left + across * (_WIDTH - left - 120), top + height - y / most * height

        bottom = top + height
        body = [
            *_legend(names),
            f'<path d="M{left} {top}V{bottom}H{_WIDTH - 110}" fill="none" stroke="#999"/>',
        ]
        for part in (0.5, 1.0):
            y = bottom - part * height + 4
            body += [_text(left - 6, y, _number(most * part), anchor="end")]
        for x in xs:
            body += [_text(place(x, 0)[0], bottom + 16, f"{x:,.0f}", anchor="middle")]
        for number, line in enumerate(self.series.values()):
            colour = _COLOURS[number % len(_COLOURS)]
            spots = [place(x, y) for x, y in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            body.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
            body.append(_text(spots[-1][0] + 7, spots[-1][1] + 4, _number(line[-1][1])))
        return _document(f"{self.title} ({self.unit}, by {self.across})", body, bottom + 30)


def _legend(series: Sequence[str]) -> Iterator[str]:
    x = 12
    for number, name in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        yield f'<rect x="{x}" y="36" width="10" height="10" fill="{colour}"/>'
        yield _text(x + 15, 45, name)
        x += 32 + 7 * len(name)


def _document(title: str, body: Sequence[str], height: float) -> str:
    inner = "\n".join((_text(12, 22, title, weight="bold"), *body))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{inner}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="#222">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
