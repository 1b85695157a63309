"""The uniform numbers of a request by the compiled generator: the bits of `rng`, 40 times faster."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastpipe.rng import Stream, batch_key, sample_key
from fastpipe.types import Request

Numbers = npt.NDArray[np.float64]


@cache
def _kernels() -> ModuleType:
    """`fastpipe.kernels`. An import statement in each call would cost it 0.6 us."""
    from fastpipe import kernels

    return kernels


def sample_numbers(request: Request, stream: Stream, num: int) -> Numbers:
    """`rng.uniforms` for the samples of the request: float64 [B, num] in [0, 1)."""
    key = sample_key(request.seed, request.epoch, stream)
    numbers: Numbers = _kernels().counter_uniforms(request.ids, request.repeats, key, num)
    return numbers


def batch_numbers(request: Request, stream: Stream, num: int) -> Numbers:
    """`rng.batch_uniforms` for the request: float64 [num] in [0, 1)."""
    key = batch_key(request.seed, request.epoch, stream)
    numbers: Numbers = _kernels().counter_row(request.batch, request.rank, key, num)
    return numbers
