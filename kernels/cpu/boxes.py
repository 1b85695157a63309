"""Erased rectangles by torchvision's rule, for a whole batch. numba, CPU, serial."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled

__all__ = ["fill_boxes"]


@compiled
def fill_boxes(
    numbers: npt.NDArray[np.float64],
    probability: float,
    smallest: float,
    largest: float,
    log_low: float,
    log_high: float,
    height: int,
    width: int,
    boxes: npt.NDArray[np.int64],
    apply: npt.NDArray[np.bool_],
) -> None:
    """Fill boxes [B, 4] (top, left, height, width) and apply [B]; a box that does not apply is 0.

    numbers: [B, 3 + 2 tries], per image: chance, area and logarithm of the ratio of each try, place. The
    first try that fits is taken; smallest, largest: shares of the image's area; log_low, log_high: of ratios.
    """
    tries = (numbers.shape[1] - 3) // 2
    for i in range(numbers.shape[0]):
        apply[i] = False
        for place in range(4):
            boxes[i, place] = 0
        if numbers[i, 0] >= probability:
            continue
        for attempt in range(tries):
            area = height * width * (smallest + (largest - smallest) * numbers[i, 1 + 2 * attempt])
            aspect = math.exp(log_low + (log_high - log_low) * numbers[i, 2 + 2 * attempt])
            # Half to even, as Python's round.
            box_height = np.int64(np.rint(math.sqrt(area * aspect)))
            box_width = np.int64(np.rint(math.sqrt(area / aspect)))
            if box_height < height and box_width < width:
                boxes[i, 0] = np.int64(numbers[i, 1 + 2 * tries] * (height - box_height + 1))
                boxes[i, 1] = np.int64(numbers[i, 2 + 2 * tries] * (width - box_width + 1))
                boxes[i, 2], boxes[i, 3] = box_height, box_width
                apply[i] = True
                break
