"""Whether probabilities mean what they say: of the answers given with 0.8, are 80 % right?

Sources: the reliability table and the expected calibration error (ECE) are those of Guo, Pleiss, Sun and
Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, sections 2 and 3 (equation 3, M = 15 bins
as there). The Brier score is the original one over all classes: Brier, "Verification of forecasts expressed
in terms of probability", Monthly Weather Review 78, 1950.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.train.measure.judged import FloatArray, Judged

BINS = 15


def calibration_record(judged: Judged) -> dict[str, Any]:
    """ece 0..1, nll in nats, brier 0..2 (None without images), and the reliability table `bins`."""
    number = len(judged.labels)
    bins = reliability(judged.confidence, judged.right)
    if not number:
        return {"ece": None, "nll": None, "brier": None, "bins": bins}
    gaps = [one["images"] * abs(one["accuracy"] - one["confidence"]) for one in bins if one["images"]]
    brier = judged.squares - 2 * judged.of_label + 1.0
    return {
        "ece": round(sum(gaps) / number, 6),
        "nll": round(-float(judged.log_of_label.mean()), 6),
        "brier": round(float(brier.mean()), 6),
        "bins": bins,
    }


def reliability(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """For each of the 15 equal parts (low, high] of 0..1: images, their mean confidence, the share right.

    confidence [N], 0..1; right [N]. Both means are None in an empty part.
    """
    edges = np.arange(BINS + 1) / BINS
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    images = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, weights=values, minlength=BINS) for values in (confidence, right))
    rows = zip(edges[:-1].tolist(), edges[1:].tolist(), images.tolist(), *sums, strict=True)
    return [
        {
            "low": round(low, 6),
            "high": round(high, 6),
            "images": count,
            "confidence": round(float(sure) / count, 6) if count else None,
            "accuracy": round(float(hits) / count, 6) if count else None,
        }
        for low, high, count, sure, hits in rows
    ]
