"""The measures of one split in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MISTAKES = 24
"""How many of the most certain mistakes are listed and shown, where nothing else is asked."""
ALL_CLASSES = 100
"""Up to so many classes each has a line; of more, the worst have."""
MATRIX_CLASSES = 20
"""Up to so many classes the confusion matrix fits."""
WORST = 20
PAIRS = 10


def split_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Classes, confusion and calibration of a split's record."""
    yield from _class_lines(found)
    yield from _confusion_lines(found)
    sure = found["calibration"]
    if sure["ece"] is not None:
        yield (
            f"calibration: ECE {sure['ece']:.3f} ({len(sure['bins'])} bins), "
            f"NLL {sure['nll']:.3f}, Brier {sure['brier']:.3f}"
        )


def worst_first(found: Mapping[str, Any]) -> list[str]:
    """Names of the classes: all in their order, or of more than 100 the 20 with images and the least F1."""
    classes = found["classes"]
    if len(classes) <= ALL_CLASSES:
        return list(classes)
    return sorted((name for name in classes if classes[name]["support"]), key=lambda n: classes[n]["f1"])[
        :WORST
    ]


def pairs_of(found: Mapping[str, Any], most: int = PAIRS) -> list[tuple[str, str, int]]:
    """(label, predicted, images) of the wrong pairs, the most frequent first, at most `most`."""
    wrong = [
        (label, predicted, count)
        for label, row in found["confusion"].items()
        for predicted, count in row.items()
        if label != predicted
    ]
    return sorted(wrong, key=lambda one: -one[2])[:most]


def share_text(value: float | None) -> str:
    """A share with three decimals, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def _class_lines(found: Mapping[str, Any]) -> Iterator[str]:
    names = worst_first(found)
    if len(names) < len(found["classes"]):
        yield f"the {len(names)} worst of {len(found['classes'])} classes:"
    for name in names:
        one = found["classes"][name]
        if not one["support"]:
            yield f"{name}: no images"
        else:
            yield (
                f"{name}: {one['recall']:.3f}  precision {share_text(one['precision'])}  "
                f"F1 {share_text(one['f1'])}  ({one['support']} images)"
            )


def _confusion_lines(found: Mapping[str, Any]) -> Iterator[str]:
    names = list(found["classes"])
    if len(names) <= MATRIX_CLASSES:
        yield from _matrix_lines(found["confusion"], names)
        return
    for label, predicted, count in pairs_of(found):
        yield f"{label} taken for {predicted}: {count}"


def _matrix_lines(confusion: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> Iterator[str]:
    largest = max((count for row in confusion.values() for count in row.values()), default=0)
    wide = max(len(str(largest)), len(str(len(names)))) + 2
    title = "images by label (row) and prediction (column)"
    heads = [f"{place} {name}" for place, name in enumerate(names, start=1)]
    left = max(map(len, heads))
    yield f"{title}:"
    yield " " * left + "".join(f"{place:>{wide}}" for place in range(1, len(names) + 1))
    for head, name in zip(heads, names, strict=True):
        row = confusion.get(name, {})
        yield f"{head:<{left}}" + "".join(f"{row.get(other, 0) or '.':>{wide}}" for other in names)
