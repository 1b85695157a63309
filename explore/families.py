"""Which family a recipe belongs to, under whatever name it was published; the rules are `families.csv`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_RULES = Path(__file__).parent / "families.csv"


@dataclass(frozen=True, kw_only=True)
class Family:
    """name: that of a recipe of fastpipe-train if there is one, so that own runs share the family."""

    starts_with: str
    name: str
    title: str
    model: str
    resolution: int | None
    methods: Sequence[str]


@cache
def families() -> tuple[Family, ...]:
    """The rules, in the order in which they are tried."""
    with _RULES.open(encoding="utf-8", newline="") as file:
        return tuple(
            Family(
                starts_with=row["starts_with"],
                name=row["family"],
                title=row["title"],
                model=row["model"],
                resolution=int(row["resolution"]) if row["resolution"] else None,
                methods=tuple(row["methods"].split()),
            )
            for row in csv.DictReader(file)
        )


def family_of(recipe: str, source: str = "") -> Family:
    """The first family whose rule fits a printed name, or `source: name`; a family of its own otherwise."""
    for family in families():
        if recipe.startswith(family.starts_with) or f"{source}: {recipe}".startswith(family.starts_with):
            return family
    return Family(
        starts_with=recipe, name=recipe, title=recipe, model="resnet50", resolution=None, methods=()
    )


def title_of(name: str) -> str:
    """How a family is written, by its name."""
    return next((family.title for family in families() if family.name == name), name)
