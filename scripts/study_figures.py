"""Draw docs/figure1.svg from the published points, and docs/study-small.svg from our own record.

    .venv/bin/python -P scripts/study_figures.py

The same code draws both. `tests/train/studies/test_records.py` fails when a picture and its figures disagree.
"""

from __future__ import annotations

import json
from pathlib import Path

from fastpipe.train.studies.chart import figure_1, study_chart

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "study" / "figure1-small.json"


def pictures() -> dict[Path, str]:
    """The pictures that the figures at hand allow: ours needs its record."""
    found = {ROOT / "docs" / "figure1.svg": figure_1()}
    if RECORD.exists():
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        found[ROOT / "docs" / "study-small.svg"] = study_chart(record)
    return found


if __name__ == "__main__":
    for path, text in pictures().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
