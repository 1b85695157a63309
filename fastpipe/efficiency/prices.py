"""Price tables: dollars per hour of a machine, each with the day on which it was read and its source."""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError

__all__ = ["SHIPPED", "Price", "dollars", "price_of", "read_prices"]

SHIPPED = Path(__file__).parent / "data" / "prices.csv"
_COLUMNS = ("hardware", "usd_per_hour", "date", "source")


@dataclass(frozen=True, kw_only=True)
class Price:
    """`hardware`: every machine whose name begins with it has this price."""

    hardware: str
    usd_per_hour: float
    date: str
    source: str

    def __post_init__(self) -> None:
        if not self.hardware or not self.source:
            raise ArgumentError("hardware and source of a price must not be empty")
        if not (math.isfinite(self.usd_per_hour) and self.usd_per_hour > 0.0):
            raise ArgumentError(f"usd_per_hour must be a number above 0. Found: {self.usd_per_hour!r}")
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise ArgumentError(f"date must be a day such as 2026-04-29. Found: {self.date!r}") from error

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_prices(path: Path) -> tuple[Price, ...]:
    """The prices of a CSV file with the columns hardware, usd_per_hour, date and source.

    Raises ArgumentError, with the line, for anything else.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
                raise ArgumentError(
                    f"--prices {str(path)!r} must have the columns {', '.join(_COLUMNS)}. "
                    f"Missing: {', '.join(missing)}"
                )
            return tuple(_price(row, f"--prices {str(path)!r} line {reader.line_num}") for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"--prices must name a CSV file that can be read. Found: {str(path)!r} ({reason})"
        ) from error


def _price(row: Mapping[str, str | None], where: str) -> Price:
    given = {name: (row[name] or "").strip() for name in _COLUMNS}
    try:
        amount = float(given["usd_per_hour"])
    except ValueError:
        amount = math.nan
    try:
        return Price(**{**given, "usd_per_hour": amount})  # type: ignore[arg-type]
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from error


def price_of(hardware: str, prices: Sequence[Price]) -> Price | None:
    """The price of a machine: of those that fit, the one with the longest name, and of these the newest."""
    fitting = [price for price in prices if hardware.lower().startswith(price.hardware.lower())]
    return max(fitting, key=lambda price: (len(price.hardware), price.date), default=None)


def dollars(minutes: float, price: Price) -> float:
    """The cost of `minutes` of a machine."""
    return price.usd_per_hour * minutes / 60.0
