"""Whether a data set draws from the global generators of python, numpy and torch, or seeds them."""

from __future__ import annotations

import ctypes
import random
from typing import Any, Final

import numpy as np
import torch

# struct mt19937: 624 words of 32 bits and the position. `get_state` copies them word by word: 150 us.
_MT19937_BYTES: Final = 2500

State = tuple[Any, bytes, bytes]


def _numpys() -> bytes:
    generator = np.random.mtrand.get_bit_generator()
    if isinstance(generator, np.random.MT19937):
        return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)
    return repr(generator.state).encode()


def generator_states() -> State:
    """A value that is equal if and only if no number was drawn, and no generator seeded, in between."""
    return random.getstate(), _numpys(), torch.get_rng_state().numpy().tobytes()


class GeneratorStates:
    """Compares the states during a sample, without the time of the pipeline's own steps."""

    def __init__(self) -> None:
        self._state = generator_states()
        self._moved = False

    def begin(self) -> None:
        """A sample begins."""
        self._state, self._moved = generator_states(), False

    def pause(self) -> None:
        """The pipeline's own steps begin."""
        self._moved = self.moved()

    def resume(self) -> None:
        """They are done."""
        self._state = generator_states()

    def moved(self) -> bool:
        """Whether the data set has drawn or seeded since `begin`."""
        return self._moved or generator_states() != self._state
