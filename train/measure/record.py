"""The measures of one split as plain values, which --evaluate prints as JSON and the pages show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastpipe.train.accuracy import per_class, top1, top5
from fastpipe.train.measure.calibration import calibration_record
from fastpipe.train.measure.confusion import Confusion, class_figures, confusion_of, macro_f1
from fastpipe.train.measure.judged import Judged
from fastpipe.train.measure.mistakes import mistakes_of
from fastpipe.train.measure.words import MISTAKES
from fastpipe.train.splits import Images


def split_record(
    judged: Judged, images: Images, classes: Sequence[str], *, mistakes: int = MISTAKES
) -> dict[str, Any]:
    """images, top1, top5 (None below six classes, since it means nothing there), per_class (the recalls),
    macro_f1, classes (the figures of each), confusion (label -> predicted -> images), calibration, mistakes.
    """
    confusion = confusion_of(judged.labels, judged.predicted, num_classes=len(classes))
    figures = class_figures(confusion, num_classes=len(classes))
    return {
        "images": len(judged.labels),
        "top1": top1(judged.counts),
        "top5": top5(judged.counts),
        "macro_f1": macro_f1(figures),
        "per_class": per_class(judged.counts, classes),
        "classes": {name: one._asdict() for name, one in zip(classes, figures, strict=True)},
        "confusion": _named(confusion, classes),
        "calibration": calibration_record(judged),
        "mistakes": mistakes_of(judged, images, classes, mistakes),
    }


def _named(confusion: Confusion, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (label, predicted), count in confusion.items():
        found.setdefault(classes[label], {})[classes[predicted]] = count
    return found
