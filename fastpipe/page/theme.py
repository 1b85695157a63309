"""Colours and type of a page, light and dark."""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "RULES", "STYLE"]

LIGHT = """
  --page: #f6f7f9; --card: #ffffff; --ink: #16191d; --soft: #59636e;
  --line: #dde2e8; --faint: #eef1f4;
  --worker: #2f6fd0; --main: #12896b; --model: #d2591f; --alarm: #c2263f;
  --wait: #b9c1ca; --band: #2f6fd033; """
DARK = """
  --page: #111417; --card: #1a1e23; --ink: #e8ebee; --soft: #9aa5b1;
  --line: #2f363e; --faint: #232930;
  --worker: #5b96ee; --main: #3fb894; --model: #ee8450; --alarm: #f0677b;
  --wait: #4a545f; --band: #5b96ee40; """
RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 6px 0; }
.key + .sub { margin-top: 8px; } .sub { color: var(--soft); font-size: 13px; margin: 0 0 12px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 16px 0; }
section.missing { border-style: dashed; background: none; padding: 12px 20px; color: var(--soft); }
section.missing h2 { font-size: 15px; }
.lead { font-size: 18px; line-height: 1.45; margin: 0 0 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 14px 0; }
.tile { background: var(--faint); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile span { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; color: var(--soft); font-size: 13px; margin: 8px 0 0; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 12px 5px 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
tr:last-child td { border-bottom: 0; }
.num { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.label { color: var(--soft); white-space: nowrap; width: 9em; }
td, .lead { overflow-wrap: anywhere; }
td.fix { min-width: 9em; overflow-wrap: normal; }
code { font: 13px ui-monospace, SFMono-Regular, "DejaVu Sans Mono", monospace; background: var(--faint);
  padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
ul { margin: 6px 0; padding-left: 20px; } li { margin: 4px 0; }
footer { color: var(--soft); font-size: 13px; }
.narrow { display: none; } b.alarm { color: var(--alarm); }
.bars { list-style: none; padding: 0; } .bars li { margin: 0 0 10px; }
.bars span { margin-right: 8px; }
.bars i { display: block; height: 10px; border-radius: 3px; margin-top: 2px; }
.bars .worker { background: var(--worker); } .bars .main { background: var(--main); }
.bars .model { background: var(--model); } .bars .wait { background: var(--wait); }
@media (max-width: 640px) {
  main { padding: 14px 10px 32px; } section { padding: 14px 12px; }
  h1 { font-size: 19px; overflow-wrap: anywhere; } .lead { font-size: 16px; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 8px; }
  .tile { padding: 8px 10px; } .tile b { font-size: 19px; overflow-wrap: anywhere; }
  .broad, .picture { display: none; } .narrow { display: block; }
  .stacked tr { display: block; padding: 8px 0; border-bottom: 1px solid var(--line); }
  .stacked tr:first-child { display: none; } .stacked tr:last-child { border-bottom: 0; }
  .stacked td { display: block; border: 0; padding: 1px 0; text-align: left; white-space: normal; }
  .stacked td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
  .stacked td.fix { font-weight: 600; } .stacked td.num:first-child { float: left; padding-right: 8px; }
  td.label { white-space: normal; width: 7em; }
}
"""
# For drawings in the page's own SVG: the explorer's are plotly's.
_DRAWINGS = """svg { display: block; width: 100%; height: auto; min-width: 640px; }
svg text { fill: var(--ink); font-size: 13px; font-variant-numeric: tabular-nums; }
svg .soft { fill: var(--soft); font-size: 12px; }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .worker, .key .worker { fill: var(--worker); background: var(--worker); }
svg .main, .key .main { fill: var(--main); background: var(--main); }
svg .model, .key .model { fill: var(--model); background: var(--model); }
svg .wait, .key .wait { fill: var(--wait); background: var(--wait); }
svg .alarm { fill: var(--alarm); } svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
svg .curve { fill: none; stroke: var(--worker); stroke-width: 2; } svg .band { fill: var(--band); }
svg .dot { fill: var(--card); stroke: var(--ink); stroke-width: 1.8; }
svg .limit { stroke: var(--model); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .link { stroke: var(--line); stroke-width: 1; stroke-dasharray: 2 3; }
"""
STYLE = f"""
:root {{ color-scheme: light dark;{LIGHT}}}
@media (prefers-color-scheme: dark) {{ :root {{{DARK}}} }}{RULES}{_DRAWINGS}"""
