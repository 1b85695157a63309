"""The style of these pages, beyond that of all pages."""

from __future__ import annotations

from fastpipe.page.theme import STYLE

PAGE_STYLE = f"""{STYLE}
nav {{ display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 14px; margin: 12px 0 0; }}
a {{ color: var(--worker); }} summary {{ cursor: pointer; padding: 4px 0; }} details {{ margin: 10px 0; }}
:focus-visible {{ outline: 2px solid var(--worker); outline-offset: 2px; }}
.charts {{ display: grid; gap: 16px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }}
.charts svg {{ min-width: 0; }}
figure {{ margin: 0; }} figcaption {{ font-size: 13px; overflow-wrap: anywhere; }}
.charts figcaption {{ font-size: 14px; font-weight: 600; margin-bottom: 4px; }}
svg .line {{ stroke-width: 2; stroke-linejoin: round; }}
svg .line.worker {{ stroke: var(--worker); fill: none; }}
svg .line.main {{ stroke: var(--main); fill: none; }}
svg .line.model {{ stroke: var(--model); fill: none; }}
svg .line.wait {{ stroke: var(--wait); fill: none; stroke-width: 1; }}
table.matrix {{ width: auto; font-size: 13px; }}
.matrix td {{ text-align: center; padding: 4px 6px; min-width: 30px; }}
.matrix td, .matrix tr:last-child td {{ border: 1px solid var(--line); }}
.matrix th {{ text-align: right; border: 0; white-space: nowrap; font-weight: 400; padding: 4px 8px; }}
.matrix th.turn {{ text-align: center; padding: 4px; }}
.mistakes {{ display: grid; gap: 16px; margin: 12px 0 0;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }}
.mistakes .frame {{ height: 150px; display: flex; align-items: flex-end; margin-bottom: 6px; }}
.mistakes img {{ max-width: 100%; max-height: 150px; border-radius: 4px; }}
.mistakes .gone, .mistakes .path {{ color: var(--soft); font-size: 12px; }}
pre {{ font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--faint);
  border-radius: 8px; padding: 10px 12px; white-space: pre-wrap; overflow-wrap: anywhere; margin: 6px 0; }}
@media print {{ figure, tr {{ break-inside: avoid; }} }}
"""
