"""One image of a preview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.types import Applied

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """An image as one epoch shows it to the model.

    id:         as the sampler gives it; None where the data has no ids.
    name:       of the file, or what the storage calls the sample; "" if that is not known.
    label:      in words: of MixUp and CutMix the classes with their shares.
    epoch:      from 0. batch: its number in the epoch, from 0; None if the image is not in that epoch.
    operations: in the order of application, with the parameters that were drawn. Empty if nothing is lifted.
    pixels:     uint8 [H,W,3], RGB, the levels behind the normalised values; None if not in that epoch.
    """

    id: Any
    name: str
    label: str
    epoch: int
    batch: int | None
    operations: tuple[Applied, ...]
    pixels: Levels | None
