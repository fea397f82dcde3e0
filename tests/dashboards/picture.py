"""Panels of a dashboard as an SVG picture, from the answers to their own queries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

SHOWN = (
    "Sessions", "Pairs and connections", "Stanzas from our servers", "Octets", "Custody ledger", "In custody", "Longest queue", "Oldest waiting",
    "What waits for what", "Bounces by reason", "Refusals by reason", "Dial failures by reason", "Peers by state", "Round-trip time", "Loss",
)  # fmt: skip
COLUMNS = 3
WIDTH, HEIGHT, PLOT = 400, 268, 140
LEFT, TOP = 58, 34
LEGEND_LINES = 5
COLOURS = ("#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#0aa5a5", "#b8860b", "#7a7a7a")


def draw(file: Path, board: Path, series: Callable[[str], list[dict]]) -> None:
    """Write the picture. `series` answers a query with what it was over time."""
    panels = {panel["title"]: panel for panel in json.loads(board.read_text())["panels"] if panel["type"] == "timeseries"}
    cells = []
    for number, title in enumerate(SHOWN):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT
        cells.append(f'<g transform="translate({x} {y})">{_panel(panels[title], series)}</g>')
    width, height = COLUMNS * WIDTH, -(-len(SHOWN) // COLUMNS) * HEIGHT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="10">'
    file.write_text(f'{head}<rect width="100%" height="100%" fill="#fff"/>{"".join(cells)}</svg>\n')


def _panel(panel: dict, series: Callable[[str], list[dict]]) -> str:
    lines = []
    for target in panel["targets"]:
        for one in series(target["expr"]):
            labels = one["metric"]
            lines.append((re.sub(r"{{(\w+)}}", lambda m, labels=labels: labels.get(m[1], ""), target["legendFormat"]), one["values"]))
    # Ports are chosen at each run: the relays get letters.
    instances = sorted({m for name, _ in lines for m in re.findall(r"127\.0\.0\.1:\d+", name)})
    parts = [f'<text x="8" y="18" font-size="13" font-weight="bold">{escape(panel["title"])}</text>']
    parts.append(f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - 12}" height="{PLOT}" fill="#fafafa" stroke="#ccc"/>')
    if not lines:
        return "".join([*parts, f'<text x="{LEFT + 8}" y="{TOP + 20}">no data</text>'])
    begin = min(values[0][0] for _, values in lines)
    span = max(1.0, max(values[-1][0] for _, values in lines) - begin)
    top = max(value for _, values in lines for _, value in values) * 1.05 or 1.0
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for part in (0, 0.5, 1):
        y = TOP + PLOT * (1 - part)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y}" y2="{y}" stroke="#ddd"/><text x="{LEFT - 4}" y="{y + 3}" text-anchor="end">{_number(top * part, unit)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP + PLOT + 12}">0 s</text><text x="{WIDTH - 12}" y="{TOP + PLOT + 12}" text-anchor="end">{span:.0f} s</text>')
    for number, (name, values) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{LEFT + (at - begin) / span * (WIDTH - LEFT - 12):.0f},{TOP + PLOT * (1 - max(value, 0) / top):.1f}" for at, value in values)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        if number < 2 * LEGEND_LINES:
            for letter, instance in zip("ABCDEF", instances, strict=False):
                name = name.replace(instance, f"relay {letter}")
            x, y = LEFT + number % 2 * 170, TOP + PLOT + 26 + number // 2 * 12
            parts.append(f'<rect x="{x}" y="{y - 7}" width="8" height="3" fill="{colour}"/><text x="{x + 12}" y="{y - 2}">{escape(name[:30])}</text>')
    return "".join(parts)


def _number(value: float, unit: str) -> str:
    """With its unit, short."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    suffix = {"s": "s", "bytes": "B", "Bps": "B/s", "cps": "/s", "pps": "/s"}.get(unit, "")
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    for bound, prefix in ((1e6, "M"), (1e3, "k")):
        if value >= bound:
            return f"{value / bound:.3g} {prefix}{suffix}"
    return f"{value:.3g} {suffix}"
