"""A worker's copy of a script's own data set, and what its host half does with an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fastpipe.batch.own.generators import GeneratorStates
from fastpipe.batch.own.half import HostHalf, run_steps
from fastpipe.batch.own.twin import Snapshot
from fastpipe.batch.packing import Pixels
from fastpipe.batch.worker import as_pixels
from fastpipe.decode import crop_and_resize
from fastpipe.types import Plan, Spec


@dataclass(frozen=True, slots=True)
class WorkerCopy:
    """A copy of the data set, the attributes of both when it was made, its half, and what that renders."""

    original: Snapshot
    begun: Snapshot
    twin: Any
    half: HostHalf
    rendering: Rendering


class Rendering:
    """An RGB image to the pixels that the device stage gets, with the draws of one place of a batch."""

    def __init__(self, plan: Plan, watched: GeneratorStates | None) -> None:
        self._plan = plan
        self._watched = watched
        self.spec: Spec | None = None
        self.draws: Sequence[float] = ()

    def __call__(self, image: Image.Image) -> Pixels:
        """uint8 [H,W,3]. ValueError for a crop that does not fit, and for steps that give another form."""
        cut = crop_and_resize(image, self.spec, self.draws)
        cut = run_steps(self._plan.host, cut, self._watched)
        try:
            return as_pixels(cut, self._plan.host)
        except TypeError as error:
            raise ValueError(str(error)) from error
