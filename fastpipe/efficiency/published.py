"""The published points that the package ships, read and checked; none of them was measured by this project.

`data/published_points.csv` has 249 rows with a citation each. `data/mlperf_v20_curves.csv` and
`data/mlperf_v20_epoch_times.csv` (mlcommons/training_results_v2.0@8437fbb7) and
`data/ffcv_imagenet_curves.csv` (libffcv/ffcv-imagenet@4dd291a, assets/agg.csv) hold curves. They are facts:
figures read off the cited sources.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastpipe.errors import DataError

__all__ = ["Figure", "Point", "curve_rows", "published_points", "read_points"]

DATA = Path(__file__).parent / "data"
POINTS = DATA / "published_points.csv"
COLUMNS = (
    *("source", "recipe", "epochs", "minutes", "hardware", "top1", "throughput_img_s", "notes", "citation"),
)
_NUMBER = r"\d+(?:\.\d+)?"
_FORM = re.compile(rf"(?P<sign><=|>=|<|>|~)?(?P<first>{_NUMBER})(?:-(?P<last>{_NUMBER}))?")
# Table 1 prints what a recipe is for, not what a run gave; the notes of those rows say so.
_BOUNDS_IN_NOTES = "printed as "


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A printed number. `value` is None for a bound or a range, which is no point of a curve."""

    text: str
    value: float | None
    approximate: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """One row: who published what, and where. top1 is in percent."""

    line: int
    source: str
    recipe: str
    epochs: Figure | None
    minutes: Figure | None
    hardware: str
    top1: Figure | None
    throughput_img_s: Figure | None
    notes: str
    citation: str

    @property
    def bounds(self) -> bool:
        """Whether the row says what a recipe is for and not what a run gave."""
        return self.notes.startswith(_BOUNDS_IN_NOTES)


@cache
def published_points() -> tuple[Point, ...]:
    """The shipped points, in the order of the file."""
    return tuple(read_points(POINTS))


def read_points(path: Path) -> list[Point]:
    """The points of a CSV file with the columns above.

    Raises DataError, with the line, for a missing column, a value of another form, a row without source or
    citation, or a top-1 above 100.
    """
    return [_point(row, line, path) for line, row in _rows(path, COLUMNS)]


def curve_rows(name: str) -> list[dict[str, str]]:
    """The rows of a shipped curve file, by its name without `.csv`."""
    return [row for _, row in _rows(DATA / f"{name}.csv", ())]


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{str(path)!r} must have the columns {', '.join(columns)}. Missing: {', '.join(missing)}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{str(path)!r} line {reader.line_num}: not as many fields as columns")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{str(path)!r} cannot be read as CSV: {reason}") from error


def _point(row: Mapping[str, str], line: int, path: Path) -> Point:
    where = f"{str(path)!r} line {line}"
    for name in ("source", "recipe", "citation"):
        if not row[name].strip():
            raise DataError(f"{where}: {name} is empty. Every point needs one")
    top1 = figure(row["top1"], f"{where}: top1")
    if top1 is not None and top1.value is not None and not 0.0 <= top1.value <= 100.0:
        raise DataError(f"{where}: top1 must be in 0..100, in percent. Found: {top1.text}")
    epochs, minutes, rate = (
        figure(row[name], f"{where}: {name}") for name in ("epochs", "minutes", "throughput_img_s")
    )
    return Point(
        line=line,
        source=row["source"].strip(),
        recipe=row["recipe"].strip(),
        epochs=epochs,
        minutes=minutes,
        hardware=row["hardware"].strip(),
        top1=top1,
        throughput_img_s=rate,
        notes=row["notes"].strip(),
        citation=row["citation"].strip(),
    )


def figure(text: str, where: str) -> Figure | None:
    """`12.5`; `~840` is approximate; `<60`, `>=79.5`, `60-240` are bounds; `a / b / c` are several runs.

    None for an empty text. Raises DataError, with `where`, for any other form.
    """
    text = text.strip()
    if not text:
        return None
    parts = [part.strip() for part in text.split("/")]
    found = [_FORM.fullmatch(part) for part in parts]
    if not all(found):
        raise DataError(
            f"{where} must be a number, a bound such as <60, a range such as 60-200, or runs such as "
            f"75.9 / 75.4. Found: {text!r}"
        )
    forms = [match for match in found if match is not None]
    exact = all(match["sign"] in (None, "~") and match["last"] is None for match in forms)
    mean = math.fsum(float(match["first"]) for match in forms) / len(forms)
    return Figure(text=text, value=mean if exact else None, approximate=any(m["sign"] == "~" for m in forms))
