"""Draw docs/host-cost.svg, the picture at the top of README.md, from the records in benchmarks/.

    .venv/bin/python -P scripts/readme_picture.py

No figure is typed in here: the records give the length of each bar. `tests/test_readme.py` fails when the
picture and the records disagree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
PICTURE = ROOT / "docs" / "host-cost.svg"
LOADER = "2026-11-29_turbo_cpu_2-cores.json"
DEVICE_STAGE = "2026-11-25_device_stage_cpu_2-cores.json"
RANDAUGMENT = "RandAugment depth 1 + flip + normalise"
# The record's name of a row and of its peer, the peer's name in the picture, and where the photos come from.
LOADERS = (("whole_path", "torch", "torch", "folder"), ("on_beton", "ffcv", "FFCV", ".beton"))
# The record's name of each side, and the name in the picture.
SIDES = {
    "Pillow/torchvision per image": "torchvision, Pillow",
    "DALI CPU": "DALI",
    "albumentations": "albumentations",
    "fastpipe": "fastpipe",
}
WIDTH, PANEL, LABEL, BAR, ROW, TOP = 860, 430, 148, 176, 30, 78
# Both colour schemes: the card brings its own background, so it is readable wherever the viewer shows it.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .card { fill: #ffffff; stroke: #d0d7de } .small { fill: #57606a }
  .title { font-weight: 600; font-size: 14px }
  .ours { fill: #1f883d } .theirs { fill: #afb8c1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .card { fill: #161b22; stroke: #30363d } .small { fill: #9198a1 }
    .ours { fill: #3fb950 } .theirs { fill: #656c76 }
  }
"""


class Bar(NamedTuple):
    """A name, the cost and the text behind the bar."""

    name: str
    cost: float
    text: str


class Panel(NamedTuple):
    """Two lines of heading and the bars below them, in one unit."""

    title: str
    subtitle: str
    bars: tuple[Bar, ...]


def loader_panel(record: dict[str, Any]) -> Panel:
    """CPU time per image of loaders on the same photos, from a folder and from a `.beton`."""
    bars, counts = [], set()
    for row, peer, peer_name, source in LOADERS:
        costs = record["rows"][row]["ms"]
        names = {peer: f"{peer_name}, {source}", "turbo": f"fastpipe, {source}"}
        bars += [Bar(name, costs[side], f"{costs[side]:.2f} ms") for side, name in names.items()]
        counts |= {ratio["n"] for ratio in record["rows"][row]["ratios"].values()}
    (count,) = counts
    subtitle = f"decode, crop; 2 workers, backend turbo, n = {count} rounds"
    return Panel("DataLoader: CPU time per image", subtitle, tuple(bars))


def augment_panel(record: dict[str, Any]) -> Panel:
    """CPU time per pixel of RandAugment, flip and normalise, one thread."""
    rows = [row for row in record["lines"] if row["work"] == RANDAUGMENT and row["threads"] == 1]
    costs = {row["side"]: row["cpu_ns_per_pixel"] for row in rows}
    (count,) = {row["n"] for row in rows}
    bars = tuple(Bar(name, costs[side], f"{costs[side]:.1f} ns") for side, name in SIDES.items())
    return Panel(
        "RandAugment: CPU time per pixel", f"with flip and normalise; 1 thread, n = {count} rounds", bars
    )


def draw(panels: Sequence[Panel]) -> str:
    """The picture as SVG text, panels side by side."""
    height = TOP + ROW * max(len(panel.bars) for panel in panels) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{'; '.join(panel.title for panel in panels)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * PANEL + 20)
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, left: int) -> list[str]:
    longest = max(bar.cost for bar in panel.bars)
    parts = [
        f'<text class="title" x="{left}" y="30">{panel.title}</text>',
        f'<text class="small" x="{left}" y="51">{panel.subtitle}</text>',
    ]
    for row, bar in enumerate(panel.bars):
        y, length = TOP + ROW * row, BAR * bar.cost / longest
        kind = "ours" if bar.name.startswith("fastpipe") else "theirs"
        parts += [
            f'<text x="{left}" y="{y + 14}">{bar.name}</text>',
            f'<rect class="{kind}" x="{left + LABEL}" y="{y}" width="{length:.1f}" height="20" rx="3"/>',
            f'<text x="{left + LABEL + length + 8:.1f}" y="{y + 14}">{bar.text}</text>',
        ]
    return parts


def picture() -> str:
    """The picture of the records as they are now."""
    loader, stage = (json.loads((BENCHMARKS / name).read_text("utf-8")) for name in (LOADER, DEVICE_STAGE))
    return draw([loader_panel(loader), augment_panel(stage)])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
